"""The GlusterFS client process behind one mount: how it is started, what it says, and when it has gone.

It makes a daemon of itself and outlives this program. Its pid file, under a name made of volume and mount point,
is how it is found again later; the process is asked for its arguments before it is believed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from csi.core.errors import MountFailed
from csi.mountports import MountSource
from csi.mounts import processes

# [2026-11-23 22:26:24.906306 +0000] E [MSGID: 101019] [file.c:2371:function] 0-mgmt: text
_COMPLAINT = re.compile(r"\[[^\]]*\] [EC] (?:\[MSGID: \d+\] )?\[[^\]]*\] (\S+: )?(?P<text>.*)")
_LAST = 64 << 10  # bytes of the log that are looked at
_PROGRAM = "glusterfs"


@dataclass(frozen=True, slots=True)
class Client:
    """The files of the client of ``volume`` at ``target`` (resolved)."""

    directory: Path
    volume: str
    target: str

    @property
    def _stem(self) -> str:
        return f"{self.volume}-{hashlib.sha256(os.fsencode(self.target)).hexdigest()[:12]}"

    @property
    def log(self) -> Path:
        return self.directory / f"{self._stem}.log"

    @property
    def pid_file(self) -> Path:
        return self.directory / f"{self._stem}.pid"

    @property
    def _begun(self) -> Path:
        """There while it is being started: if whoever did so is killed, processes without a pid file may be left."""
        return self.directory / f"{self._stem}.begun"

    @property
    def _mark(self) -> str:
        """The argument by which its processes are known."""
        return f"--pid-file={self.pid_file}"

    def argv(self, source: MountSource) -> tuple[str, ...]:
        return (
            *(_PROGRAM, "--process-name", "fuse"),
            *(f"--volfile-server={server}" for server in source.servers),
            f"--volfile-id=/{source.volume}",
            f"--xlator-option=*-client-*.ping-timeout={source.ping_timeout}",
            f"--log-file={self.log}",
            self._mark,
            *(("--read-only",) if source.read_only else ()),
            *source.flags,
            self.target,
        )

    def prepare(self) -> int:
        """Make the directory; the present length of the log, for ``complaints``. Raises: MountFailed."""
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            self.pid_file.unlink(missing_ok=True)
            self._begun.touch()
            return self.log.stat().st_size if self.log.exists() else 0
        except OSError as error:
            raise MountFailed(f"log directory {self.directory} cannot be used: {error.strerror}") from error

    def may_run(self) -> bool:
        """Whether an earlier one left a trace. To look through all processes costs as much as a mount."""
        return self.pid_file.exists() or self._begun.exists()

    def confirm(self) -> None:
        """It is up."""
        self._begun.unlink(missing_ok=True)

    async def start(self, source: MountSource, timeout: float) -> tuple[int, str]:
        """Returns when the mount is up or has failed: exit status, and what was said before the log was open.

        Raises: TimeoutError, MountFailed (the program is missing).
        """
        # Not a pipe: the daemon might keep its end of it. It must not keep ours either, nor die with our terminal.
        said = os.memfd_create("glusterfs")
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.argv(source), stdin=DEVNULL, stdout=said, stderr=said, cwd="/", start_new_session=True
                )
            except OSError as error:
                raise MountFailed(
                    f"cannot run {_PROGRAM}: {error.strerror}: install the GlusterFS client on this node"
                ) from error
            try:
                async with asyncio.timeout(timeout):
                    status = await process.wait()
            except BaseException:
                with suppress(ProcessLookupError):
                    process.kill()
                raise
            return status, os.pread(said, 2000, 0).decode(errors="replace").strip()
        finally:
            os.close(said)

    def complaints(self, since: int) -> str:
        """The last two different errors that the client logged."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(since, self.log.stat().st_size - _LAST))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        texts = [match["text"].strip(" []") for line in lines if (match := _COMPLAINT.fullmatch(line.strip()))]
        return "; ".join(list(dict.fromkeys(reversed(texts)))[:2][::-1])[:600]

    @contextmanager
    def process(self) -> Iterator[Process | None]:
        """The running client, or None. To be opened before the unmount that ends it."""
        found = self._find()
        try:
            yield found
        finally:
            if found is not None:
                os.close(found.fd)

    def _find(self) -> Process | None:
        try:
            pid = int(self.pid_file.read_text())
            fd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return None
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            arguments = []
        # Process ids are used again: what has not our pid file among its arguments is not our client.
        if os.fsencode(self._mark) not in arguments:
            os.close(fd)
            return None
        return Process(pid, fd)

    def serves(self, source: MountSource) -> bool:
        """Whether the running client was started for just this. The servers may have changed since."""
        with self.process() as found:
            if found is None:
                return False
            try:
                arguments = Path(f"/proc/{found.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            except OSError:
                return False
        return _without_servers(map(os.fsdecode, arguments)) == _without_servers(self.argv(source))

    async def end_all(self, patience: float) -> tuple[int, ...]:
        """End every process that was started for this mount, pid file or not; the ids of those that can't be ended."""
        stuck: set[int] = set()
        while found := set(processes.with_argument(self._mark)) - stuck:
            for pid in found:
                with suppress(ProcessLookupError):
                    fd = os.pidfd_open(pid)
                    try:
                        if not await Process(pid, fd).end(patience):
                            stuck.add(pid)
                    finally:
                        os.close(fd)
        return tuple(sorted(stuck))

    def forget(self, log: bool) -> None:
        """Remove its files, the log only on demand: it may have something to tell."""
        for path in (self.pid_file, self._begun, *((self.log,) if log else ())):
            path.unlink(missing_ok=True)


def _without_servers(argv: Iterable[str]) -> list[str]:
    return [argument for argument in argv if not argument.startswith("--volfile-server=")]


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    fd: int

    async def gone(self, timeout: float) -> bool:
        """Whether it has ended within the time. A zombie has: nobody may come to collect it for seconds."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self.fd, ended.set)
        try:
            async with asyncio.timeout(timeout):
                await ended.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self.fd)
        return True

    async def end(self, patience: float) -> bool:
        """Ask it to end, then end it. False if it is still there: it hangs in the kernel."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.fd, number)
            if await self.gone(patience):
                return True
        return False
