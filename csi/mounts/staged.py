"""``StagedVolumes`` as files: one for each staging path, for the boot that it was written in.

A client that has died does not tell how it was started, and the orchestrator does not stage a second time what it
takes for staged. The kernel decides what is mounted; these files only say how to make it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from csi.core import documents
from csi.mounts import files
from csi.nodeports import Staged

_log = structlog.get_logger(__name__)

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Record:
    boot: str
    staged: Staged


class StagedFiles:
    def __init__(self, directory: Path, boot: str | None = None) -> None:
        self._directory = directory
        self._boot = boot or _BOOT.read_text().strip()

    async def put(self, staged: Staged) -> None:
        try:
            document = documents.encode(_Record(self._boot, staged))
            await asyncio.to_thread(files.replace, self._path(staged.staging), document)
        except (OSError, ValueError) as error:
            _log.warning("a staged volume can't be remembered", path=staged.staging, error=str(error))

    async def remove(self, staging: str) -> None:
        try:
            self._path(staging).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("a staged volume can't be forgotten", path=staging, error=str(error))

    async def all(self) -> tuple[Staged, ...]:
        """Records of an earlier boot, or that cannot be read, are removed."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> tuple[Staged, ...]:
        found = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                record = documents.decode(path.read_bytes(), _Record)
            except FileNotFoundError:  # unstaged meanwhile
                continue
            except (OSError, ValueError) as error:
                _log.warning("record of a staged volume is unreadable", path=str(path), error=str(error))
                record = None
            if record is not None and record.boot == self._boot:
                found.append(record.staged)
            else:
                with suppress(OSError):
                    path.unlink()
        return tuple(found)

    def _path(self, staging: str) -> Path:
        return self._directory / f"{hashlib.sha256(os.fsencode(staging)).hexdigest()[:24]}.json"
