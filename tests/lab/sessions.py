"""Labs that belong to one process: a pytest session, or a program that makes a pool for itself.

Never under a fixed name: a run that was killed leaves its lab up, and the next one would go on with it and find in it
what the other had made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.lab.pool import Lab
from tests.lab.system import alive


def session_instance() -> str:
    """The instance of this process: its number is in it, so that two never share a lab."""
    return f"t{os.getpid():x}"


def abandoned(prefix: str) -> Iterator[str]:
    """The instances of processes that were killed, by the names in /run of what is up."""
    for pointer in Path("/run").glob(f"{prefix}t*"):
        instance = pointer.name.removeprefix(prefix)
        with contextlib.suppress(ValueError):  # a name that somebody chose
            if not alive(int(instance[1:], 16)):
                yield instance


def remove_abandoned() -> None:
    """Labs of processes that were killed."""
    for instance in abandoned("gluster-lab-"):
        Lab(instance).down()
