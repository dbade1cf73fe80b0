"""fio as the one who notices: it writes blocks with checksums, reads each back and compares; any error ends it."""

from __future__ import annotations

import json
from collections.abc import Mapping

_OPTIONS = {
    "name": "verify",
    "rw": "randwrite",
    "bs": "64k",
    "size": "8m",
    "verify": "crc32c",
    "verify_fatal": 1,
    "verify_backlog": 16,  # with time_based nothing is read back before the end
    "verify_state_save": 0,  # it would lie in the present directory
    "direct": 1,  # from the bricks, not from this node's memory
    "fsync": 16,
    "time_based": 1,
    "rate": "4m",
    "ioengine": "psync",
    "output-format": "json",
}


def arguments(directory: str, seconds: int, more: Mapping[str, str] = {}) -> list[str]:
    """Of fio: so long, or until SIGINT tells it to end."""
    options = {**_OPTIONS, "directory": directory, "runtime": seconds, **more}
    return [f"--{name}={value}" for name, value in options.items()]


def verdict(report: str) -> dict[str, int]:
    """Its error (0: none), and how many blocks it wrote and compared."""
    (job,) = json.loads(report[report.index("{") :])["jobs"]
    return {"error": job["error"], "written": job["write"]["total_ios"], "read": job["read"]["total_ios"]}
