"""Fixtures for all tests: the laboratory and the API server, which come up when the first test asks for them."""

from tests.cluster.fixtures import control_plane
from tests.lab.fixtures import clean_lab, lab

__all__ = ["clean_lab", "control_plane", "lab"]
