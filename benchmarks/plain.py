"""What a good administrator does by hand: open ssh shells on every host, plain commands, hosts in parallel."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

import asyncssh

from tests.lab import Lab

ROOT = "/var/lib/gluster-csi/bench"
SHELLS = 8  # per host; sshd allows ten sessions on a connection


class Shell:
    """One open ``/bin/sh`` on a host."""

    def __init__(self, process: asyncssh.SSHClientProcess[str]) -> None:
        self._process = process

    async def run(self, text: str) -> str:
        self._process.stdin.write(f'{{ {text}\n}} 2>&1 </dev/null; echo "-END- $?"\n')
        lines: list[str] = []
        while True:
            line = await self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"the shell ended in {text!r}: {''.join(lines)}")
            if line.startswith("-END- "):
                if line.split()[1] != "0":
                    raise RuntimeError(f"{text!r}: {''.join(lines)}")
                return "".join(lines)
            lines.append(line)


@dataclass(slots=True)
class PlainPool:
    """The lab's hosts behind open shells. ``free[i]`` are the idle shells of host i."""

    lab: Lab
    free: list[asyncio.Queue[Shell]]

    @classmethod
    async def connect(cls, lab: Lab, stack: AsyncExitStack) -> Self:
        free = []
        for host in lab.hosts:
            connection = await stack.enter_async_context(
                asyncssh.connect(
                    host.address,
                    host.ssh_port,
                    username="root",
                    client_keys=[str(lab.key_file)],
                    known_hosts=str(lab.known_hosts),
                    config=[],
                    agent_path=None,
                )
            )
            queue: asyncio.Queue[Shell] = asyncio.Queue()
            for _ in range(SHELLS):
                queue.put_nowait(Shell(await connection.create_process("/bin/sh")))
            free.append(queue)
        return cls(lab, free)

    async def run(self, host: int, text: str) -> str:
        shell = await self.free[host].get()
        try:
            return await shell.run(text)
        finally:
            self.free[host].put_nowait(shell)

    async def everywhere(self, text: str) -> None:
        await asyncio.gather(*(self.run(host, text) for host in range(len(self.free))))

    async def create(self, name: str, size: int, gid: int) -> None:
        """Three bricks side by side, then the volume; started."""
        image, mount = f"/srv/d0/{name}.img", f"{ROOT}/{name}"
        options = "loop,noatime,inode64,nouuid"
        await self.everywhere(
            f"truncate -s {size} {image} && mkfs.xfs -q -K -i size=512 -n size=8192 {image} && mkdir -p {mount} && "
            f"mount -o {options} {image} {mount} && echo '{image} {mount} xfs {options},nofail 0 0' >> /etc/fstab && "
            f"mkdir {mount}/brick && chgrp {gid} {mount}/brick && chmod 2770 {mount}/brick"
        )
        await self.begin(name, mount)

    async def begin(self, name: str, mount: str) -> None:
        """The volume of the bricks that are mounted there; started."""
        bricks = " ".join(f"{host.address}:{mount}/brick" for host in self.lab.hosts)
        await self.gluster(f"volume create {name} replica 3 {bricks}")
        await self.gluster(f"volume start {name}")

    async def delete(self, name: str) -> None:
        await self.gluster(f"volume stop {name}")
        await self.gluster(f"volume delete {name}")
        image, mount = f"/srv/d0/{name}.img", f"{ROOT}/{name}"
        await self.everywhere(f"umount {mount} && sed -i '\\|{mount} |d' /etc/fstab && rmdir {mount} && rm {image}")

    async def clear(self, name: str) -> None:
        """Delete it as we do, so that a stop has nothing to wait for: where deleting is not what is measured."""
        await self.everywhere(f"kill $(cat /var/run/gluster/vols/{name}/*.pid)")
        await self.delete(name)

    async def expand(self, name: str, size: int) -> None:
        image, mount = f"/srv/d0/{name}.img", f"{ROOT}/{name}"
        await self.everywhere(
            f"truncate -s {size} {image} && losetup -c $(findmnt -n -o SOURCE {mount}) && xfs_growfs -d {mount}"
        )

    async def gluster(self, words: str) -> None:
        for _ in range(50):
            try:
                await self.run(0, f"gluster --mode=script {words}")
                return
            except RuntimeError as error:
                # The second: a brick found its port taken, as happens where many start at once.
                if "Another transaction" not in str(error) and "Commit failed" not in str(error):
                    raise
                await asyncio.sleep(0.05)
        raise RuntimeError(f"gluster {words}: refused again and again")
