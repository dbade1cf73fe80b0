"""Fixtures for all tests: laboratory, API server and cluster, which come up when the first test asks for them."""

from tests.cluster.fixtures import cluster, control_plane
from tests.custom_resources import custom_resources
from tests.lab.fixtures import clean_lab, lab

__all__ = ["clean_lab", "cluster", "control_plane", "custom_resources", "lab"]
