"""Commands for a host, as data: argument vectors, never shell text.

A ``Script`` is what goes to a host in one round trip. It ends at the first command that fails. Turning
it into shell, with the one quoting function, is the business of ``hosts/shell.py``; simulated hosts read
the vectors themselves.

``argv[0]`` is a program of the host, or one of the verbs in ``hosts/verbs.sh`` (small shell functions that
each shell is given when it is opened; their names begin with ``csi_``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One command. It is skipped (status 0, no output) when ``unless`` is given and exits with 0.

    ``ok`` are the statuses that do not end the script.
    """

    argv: tuple[str, ...]
    unless: tuple[str, ...] = ()
    stdin: str = ""
    ok: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Script:
    """Commands for one host in order; ``timeout`` in seconds is for all of them together."""

    commands: tuple[Command, ...]
    timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """How one command ended. ``stdout`` and ``stderr`` are cut at the runner's limit."""

    status: int
    stdout: str = ""
    stderr: str = ""
    skipped: bool = False
