"""One simulated host with a claimed device."""

from __future__ import annotations

import pytest

from tests.unit.hosts.simulated_pool import Pool


@pytest.fixture
async def pool() -> Pool:
    return await Pool().claim()
