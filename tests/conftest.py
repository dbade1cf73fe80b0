"""Fixtures for all tests: laboratory, API server and cluster, which come up when the first test asks for them."""

import pytest

from tests.cluster.fixtures import cluster, control_plane
from tests.custom_resources import custom_resources
from tests.lab.fixtures import clean_lab, lab

_OF_KUBERNETES = {"cluster", "control_plane", "custom_resources"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs Kubernetes is marked so, and runs where that was built (``make api``, ``make e2e``)."""
    for item in items:
        if _OF_KUBERNETES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)


__all__ = ["clean_lab", "cluster", "control_plane", "custom_resources", "lab"]
