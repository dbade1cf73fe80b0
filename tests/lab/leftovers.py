"""What tests leave behind, on the lab's hosts and on this machine: found, and removed by force.

A running host is looked at from outside, through ``/proc/INIT``: its tree, its mount table, its processes. That
needs no command on the host and can't disturb it.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import blockdevices, daemons
from tests.lab.host import LabHost, loops_on
from tests.lab.system import (
    Mount,
    call,
    command_line,
    end,
    host_processes,
    mounts,
    namespace,
    parent,
    processes,
)

if TYPE_CHECKING:
    from tests.lab.pool import Lab

CSI_ROOT = "/var/lib/gluster-csi"
SYSTEM = (CSI_ROOT, "/var/lib/glusterd", "/var/log/glusterfs")  # lie on the host's system disk
BRICK_ROOT = f"{CSI_ROOT}/bricks"
LVM_ROOT = "/var/lib/heketi"
DEVICE_MARK = ".gluster-csi-device.json"
_DAEMONS = ("glusterd", "sshd", "sleep")
_ID = re.compile(r"[0-9a-f]{32}")


# ------------------------------------------------------------------------------------------------ this machine


def client_mounts(bridge: IPv4Interface | None) -> list[Mount]:
    """What is mounted on this machine from a host of the lab: also dead mounts, and binds of them."""
    return [m for m in mounts() if m.type == "fuse.glusterfs" and _within(m.source.partition(":")[0], bridge)]


def client_processes(bridge: IPv4Interface | None) -> list[int]:
    """Gluster's processes on this machine that talk to the lab."""
    here = namespace("self", "net")
    found = []
    for pid in processes():
        words = command_line(pid)
        if not _program(words).startswith("gluster") or namespace(pid, "net") != here:
            continue
        servers = [
            word.rpartition("=")[2] for word in words if word.startswith(("--volfile-server=", "--remote-host="))
        ]
        if any(_within(word, bridge) for word in (*servers, *words)):
            found.append(pid)
    return found


def _within(text: str, bridge: IPv4Interface | None) -> bool:
    try:
        return bridge is not None and ip_address(text) in bridge.network
    except ValueError:
        return False


def release_machine(directory: Path, bridge: IPv4Interface | None) -> None:
    """End this machine's own hold on a lab: client mounts and processes, mounts below its directory."""
    # The mounts first: a client that is killed under its mount makes every later look at the path an error.
    for mount in reversed(client_mounts(bridge)):
        call("umount", "--lazy", mount.target, check=False)
    end(client_processes(bridge))
    for mount in reversed(mounts()):
        if mount.target.startswith(f"{directory}/"):
            call("umount", "--lazy", mount.target, check=False)


# --------------------------------------------------------------------------------------------------- one host


@dataclass(frozen=True, slots=True)
class Traces:
    """A host under inspection. ``init`` is None while it is powered off: of its disk only /etc can be read then."""

    host: LabHost
    init: int | None

    def inside(self, path: str) -> Path:
        """A path of the host, as this machine reaches it."""
        return Path(f"/proc/{self.init}/root{path}")

    def volumes(self) -> list[str]:
        return _names(self.inside("/var/lib/glusterd/vols"))

    @property
    def etc(self) -> Path:
        return self.inside("/etc") if self.init else self.host.disk / "etc"

    def fstab(self) -> list[str]:
        """Lines that are neither a comment nor one of the host's own devices."""
        lines = (self.etc / "fstab").read_text().splitlines()
        own = f"{self.host.disk}/"
        return [line for line in lines if line.strip() and not line.startswith(("#", own))]

    def fstab_remains(self) -> list[Path]:
        """Files beside /etc/fstab that an unfinished replacement leaves."""
        return [p for p in self.etc.iterdir() if "fstab" in p.name and not Path("/etc", p.name).exists()]

    def brick_paths(self) -> list[Path]:
        """Under /var/lib/gluster-csi, all but the empty directory of each device and the terms of controllers."""
        found = []
        for top in _entries(self.inside(CSI_ROOT)):
            if top.name == "terms":
                continue
            if top.name != "bricks" or not top.is_dir():
                found.append(top)
                continue
            for device in _entries(top):
                found += _entries(device) if _ID.fullmatch(device.name) and device.is_dir() else [device]
        return found

    def lvm_points(self) -> list[Path]:
        """Mount points of LVM's bricks: all below Heketi's directory but that of each volume group."""
        return [path for group in _entries(self.host.disk / "lib/heketi/mounts") for path in _entries(group)]

    def mapped(self) -> list[str]:
        """What LVM made of the block devices, by its names in the device-mapper."""
        return blockdevices.mapped_of(self.host.disk)

    def mounts(self) -> list[Mount]:
        """Brick file systems and client mounts; innermost last."""
        own = {*self.host.devices, *SYSTEM}
        return [
            mount
            for mount in (mounts(self.init) if self.init else [])
            if mount.target.startswith((f"{CSI_ROOT}/", f"{LVM_ROOT}/"))
            or mount.type.startswith("fuse.")
            or (mount.source.startswith("/dev/loop") and mount.target not in own)
        ]

    def device_entries(self) -> Iterator[tuple[str, list[Path] | None]]:
        """What lies on each device besides its mark; None if it is not mounted."""
        mounted = {mount.target for mount in mounts(self.init)} if self.init else set()
        for device in self.host.devices if self.init else ():
            entries = _entries(self.inside(device)) if device in mounted else None
            yield device, None if entries is None else [e for e in entries if e.name != DEVICE_MARK]

    def under_devices(self) -> list[Path]:
        """What was written where a device belongs while it was not mounted, or beside it."""
        found = []
        for entry in _entries(self.host.disk / "srv"):
            found += _entries(entry) if f"/srv/{entry.name}" in self.host.devices else [entry]
        return found

    def processes(self) -> list[tuple[int, str]]:
        """Brick and client processes, and programs that outlived the session which started them."""
        found: list[tuple[int, str]] = []
        for pid in host_processes(self.init):
            words = command_line(pid)
            program = _program(words)
            text = " ".join(words)
            if program == "glusterfsd":
                found.append((pid, f"brick process: {text}"))
            elif program == "glusterfs":
                if not _is_service(words):
                    found.append((pid, f"client process: {text}"))
            elif program and program not in _DAEMONS and parent(pid) == self.init:
                found.append((pid, f"orphaned process: {text}"))
        return found


def _program(words: list[str]) -> str:
    """The name alone: sshd writes a whole sentence over its own."""
    return os.path.basename((words[:1] or [""])[0].partition(" ")[0]).rstrip(":")


def _is_service(words: list[str]) -> bool:
    """The self-heal daemon and its like, which glusterd starts and ends."""
    return any(word.startswith(("shd/", "glustershd", "gluster/", "snapd/")) for word in words)


def _names(directory: Path) -> list[str]:
    return [entry.name for entry in _entries(directory)]


def _entries(directory: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(directory.iterdir())
    return []


def find(lab: Lab) -> list[str]:
    """One line for each trace: where, what kind, which."""
    found = [f"this machine: mount {m.target} of {m.source}" for m in client_mounts(lab.bridge)]
    found += [f"this machine: client process {p}: {' '.join(command_line(p))}" for p in client_processes(lab.bridge)]
    for host in lab.hosts:
        found += [f"{host.name}: {what}" for what in _host_lines(Traces(host, lab.init_pid(host)))]
    return found


def _host_lines(traces: Traces) -> Iterator[str]:
    disk = traces.host.disk
    if traces.init is None:
        yield "powered off"
    yield from (f"gluster volume {name}" for name in traces.volumes())
    yield from (f"process {pid}, {what}" for pid, what in traces.processes())
    yield from (f"mount {mount.target} of {mount.source}" for mount in traces.mounts())
    yield from (f"loop device {loop.name} of {loop.backing_file}" for loop in loops_on(disk, traces.init))
    yield from (
        f"brick directory {CSI_ROOT}/{path.relative_to(traces.inside(CSI_ROOT))}" for path in traces.brick_paths()
    )
    yield from (f"mount point /var/lib/{path.relative_to(disk / 'lib')}" for path in traces.lvm_points())
    yield from (f"logical volume {name}" for name in traces.mapped())
    for device, entries in traces.device_entries():
        if entries is None:
            yield f"device {device} is not mounted"
        for path in entries or ():
            yield f"{'image' if path.suffix == '.img' else 'file'} {device}/{path.name}"
    yield from (f"file under the devices: /srv/{path.relative_to(disk / 'srv')}" for path in traces.under_devices())
    yield from (f"fstab line: {line}" for line in traces.fstab())
    yield from (f"file /etc/{path.name}" for path in traces.fstab_remains())


# ------------------------------------------------------------------------------------------------------ removal


def sweep(lab: Lab) -> None:
    """Remove what ``find`` names. The marks of the devices stay."""
    release_machine(lab.directory, lab.bridge)
    traces = [Traces(host, lab.init_pid(host)) for host in lab.hosts]
    for each in traces:
        end([pid for pid, _ in each.processes()])
    _remove_volumes(lab, traces)
    for each in traces:
        end([pid for pid, _ in each.processes()])
        _clear_host(lab, each)


def _remove_volumes(lab: Lab, traces: list[Traces]) -> None:
    names = sorted({name for each in traces for name in each.volumes()})
    # With a peer out of reach, glusterd answers late (over a minute) and refuses then.
    if names and all(each.init and not lab.is_cut(each.host) for each in traces):
        with contextlib.suppress(subprocess.TimeoutExpired):
            for name in names:
                for verb in (("stop", name, "force"), ("delete", name)):
                    lab.run(traces[0].host, [*daemons.GLUSTER, "volume", *verb], check=False, timeout=10)
    if not any(each.volumes() for each in traces):
        return
    # What glusterd does not let go is taken from it, on every host at once: one that kept its record would spread it.
    for each in traces:
        end([pid for pid in host_processes(each.init) if _program(command_line(pid)) == "glusterd"])
    for each in traces:
        for name in names:
            call("rm", "-rf", str(each.inside("/var/lib/glusterd/vols") / name))
    daemons.start_missing(lab)


_REMOVE_VOLUMES = "vgs --noheadings -o vg_name | xargs -r lvremove -qq -f"


def _clear_host(lab: Lab, traces: Traces) -> None:
    disk = traces.host.disk
    for mount in reversed(traces.mounts()):
        lab.run(traces.host, ["umount", "--lazy", mount.target], check=False)
    for loop in loops_on(disk, traces.init):
        call("losetup", "--detach", loop.name, check=False)
    if traces.host.blocks and traces.init:
        lab.run(traces.host, ["sh", "-c", _REMOVE_VOLUMES], check=False, timeout=60)
    for directory in (traces.inside(CSI_ROOT), disk / "lib/heketi"):
        call("chattr", "-R", "-f", "-i", str(directory), check=False)
    for path in (*traces.lvm_points(), *traces.brick_paths(), *traces.fstab_remains(), *traces.under_devices()):
        call("rm", "-rf", "--one-file-system", str(path))
    for _, entries in traces.device_entries():
        if entries:
            call("rm", "-rf", "--one-file-system", *map(str, entries))
    if foreign := traces.fstab():
        fstab = traces.etc / "fstab"
        kept = [line for line in fstab.read_text().splitlines() if line not in foreign]
        fstab.write_text("\n".join(kept) + "\n")
    if traces.init:
        lab.run(traces.host, ["mount", "--all"], check=False)  # a device that a test unmounted
