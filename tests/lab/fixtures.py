"""The laboratory for pytest: one pool per session, and a check after each test that it left nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import vm
from tests.lab.pool import Lab
from tests.lab.sessions import remove_abandoned, session_instance
from tests.lab.system import missing


def usual(instance: str) -> Lab:
    """In the virtual machine its devices are block devices, so that bricks are LVM's.

    Without GlusterFS' hook scripts, which take as long as all the rest of a change. The demo, the external suite and
    the real part of `make crash` have them.
    """
    devices, blocks = (0, 2) if vm.inside() else (2, 0)
    return Lab(instance, devices=devices, blocks=blocks, hooks=False)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three hosts that are peers, two devices each: directories, or in the virtual machine block devices."""
    if reason := missing():
        pytest.skip(f"THE LABORATORY DID NOT RUN: {reason}")
    remove_abandoned()
    lab = usual(session_instance())
    try:
        lab.up(pool=True)
        yield lab
    finally:
        lab.down()


@pytest.fixture
def clean_lab(lab: Lab) -> Iterator[Lab]:
    """The lab, whole and empty. A test that leaves anything behind fails; the next one starts clean all the same."""
    yield lab
    lab.restore()
    left = lab.leftovers()
    if left:
        lab.sweep()
        pytest.fail("the test left behind on the laboratory:\n" + "\n".join(left), pytrace=False)
