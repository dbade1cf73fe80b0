"""Fixtures for all tests: the laboratory, which comes up when the first test asks for it."""

from tests.lab.fixtures import clean_lab, lab

__all__ = ["clean_lab", "lab"]
