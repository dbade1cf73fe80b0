"""Kubernetes for the tests, from nothing: its API alone, or a whole node. ``python -m tests.cluster --help``."""
