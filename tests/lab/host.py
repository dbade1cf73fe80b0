"""One laboratory host: its disk (what survives a reboot), its boot, its end."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab import blockdevices, network
from tests.lab.system import (
    SLOWNESS,
    LabError,
    Loop,
    alive,
    call,
    children,
    end,
    loops,
    mounts,
    namespace,
    processes,
    wait_for,
)

SSH_PORT = 2222
BOOT_SECONDS = 120.0 if os.environ.get("LAB_GUEST") == "1" else 30.0
SUDO_USER = "csi"
SYSTEM_SIZE = "8G"
"""Of the disk with what glusterd, its logs and the mount points of bricks keep, an XFS. Not on the file system of this
machine: where that is ext4 without a journal, each new file costs a look at every inode freed within minutes, and
glusterd replaces files all the time. A burst of creations took a fifth longer, and the next one longer still."""
_OWN_DIRECTORIES = ("etc", "etc.work", "lib", "lib.work", "glusterd", "gluster-csi", "log", "srv", "root", "system")

_booted: set[int] = set()  # children of this process

_SSHD_CONFIG = """\
Port {port}
ListenAddress {address}
HostKey /etc/ssh/lab_host_key
AuthorizedKeysFile /etc/ssh/lab_authorized_keys
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
UseDNS no
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True, slots=True)
class LabHost:
    """A GlusterFS host. ``number`` counts from 1; ``disk`` is its directory on this machine."""

    instance: str
    number: int
    address: str
    zone: int
    devices: tuple[str, ...]
    disk: Path
    ssh_port: int = SSH_PORT
    blocks: tuple[str, ...] = ()  # block devices, for LVM

    @property
    def name(self) -> str:
        return f"host{self.number}"


def gsyncd_path() -> str:
    """The geo-replication helper, which glusterd runs two dozen times at start, each a Python start. Or ""."""
    found = glob.glob("/usr/lib*/glusterfs/gsyncd") + glob.glob("/usr/lib*/*/glusterfs/gsyncd")
    return found[0] if found else ""


def build_gsyncd(target: Path) -> None:
    """A stand-in that answers at once: a static program, or a script where there is no compiler."""
    words = call("glusterd", "--version").split()
    answer = f"gsyncd {words[1]}"
    source = f'#include <unistd.h>\nint main(void) {{ return write(1, "{answer}\\n", {len(answer) + 1}) < 0; }}\n'
    if shutil.which("gcc"):
        done = subprocess.run(
            ["gcc", "-static", "-O1", "-x", "c", "-o", str(target), "-"],
            input=source.encode(),
            capture_output=True,
            timeout=30,
            check=False,
        )
        if done.returncode == 0:
            return
    target.write_text(f"#!/bin/sh\necho {answer}\n")
    target.chmod(0o755)


def make_disk(host: LabHost, names: dict[str, str], public_key: str, device_size: str, *, hooks: bool) -> None:
    """Everything that the host finds at its first boot."""
    for directory in _OWN_DIRECTORIES:
        (host.disk / directory).mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("host.sh"), host.disk)
    # Of the package; `volume set VOL group NAME` needs the groups.
    for part in ("groups", "hooks") if hooks else ("groups",):
        if Path("/var/lib/glusterd", part).is_dir():
            shutil.copytree(Path("/var/lib/glusterd", part), host.disk / "glusterd" / part, symlinks=True)
    for mount_point in ("glusterd", "gluster-csi"):
        (host.disk / "lib" / mount_point).mkdir(exist_ok=True)
    if SLOWNESS == 1:  # in the virtual machine all lies in memory
        _make_image(host.disk / "system.img", SYSTEM_SIZE)
    lines = ["# The devices of this host. Its bricks' file systems follow."]
    for device in host.devices:
        image = host.disk / f"{Path(device).name}.img"
        _make_image(image, device_size)
        (host.disk / "srv" / Path(device).name).mkdir()
        lines.append(f"{image} {device} xfs loop,nofail 0 0")
    _fill_etc(host, names, public_key)
    blockdevices.make(host.disk, host.blocks, device_size)
    (host.disk / "etc/fstab").write_text("\n".join(lines) + "\n")


def _make_image(image: Path, size: str) -> None:
    with image.open("wb"):
        call("truncate", "--size", size, str(image))  # sparse: eight hosts take no room
    call("mkfs.xfs", "-q", "-K", "-m", "reflink=1", str(image))


def _fill_etc(host: LabHost, names: dict[str, str], public_key: str) -> None:
    """Files that lie over the machine's own /etc."""
    etc = host.disk / "etc"
    (etc / "ssh").mkdir(mode=0o755)
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(etc / "ssh/lab_host_key"))
    (etc / "ssh/lab_authorized_keys").write_text(public_key)
    (etc / "ssh/lab_sshd_config").write_text(_SSHD_CONFIG.format(port=host.ssh_port, address=host.address))
    (etc / "hostname").write_text(f"{host.name}\n")
    entries = "".join(f"{address} {name}\n" for name, address in names.items())
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{entries}")
    # A second account, which must use sudo. The password field is "*": sshd takes "!" for a locked account.
    accounts = {
        "passwd": f"{SUDO_USER}:x:20201:20201::/tmp:/bin/sh\n",
        "group": f"{SUDO_USER}:x:20201:\n",
        "shadow": f"{SUDO_USER}:*:19000:0:99999:7:::\n",
    }
    for name, line in accounts.items():
        shutil.copy2(Path("/etc", name), etc / name)
        with (etc / name).open("a") as file:
            file.write(line)
    (etc / "sudoers.d").mkdir(mode=0o750)
    sudoers = etc / "sudoers.d/csi"
    sudoers.write_text(f"{SUDO_USER} ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)


def boot(host: LabHost) -> int:
    """Power on; the PID of the host's init, as this machine sees it. Returns when glusterd answers its socket."""
    network.make_host_network(host.instance, host.number, host.address)
    blockdevices.attach(host.disk, host.blocks)
    console = host.disk / "console.log"
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LAB_GSYNCD": gsyncd_path()}
    with console.open("ab") as output:
        outer = subprocess.Popen(
            [
                *("ip", "netns", "exec", network.namespace_name(host.instance, host.number)),
                *(
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    "--pid",
                    "--uts",
                    "--ipc",
                    "--fork",
                    "--kill-child",
                ),
                *("/bin/bash", str(host.disk / "host.sh"), "root", str(host.disk)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    _booted.add(outer.pid)
    init = 0

    def ready() -> bool:
        nonlocal init
        if outer.poll() is not None:
            said = console.read_text(errors="replace")[-2000:]
            raise LabError(f"{host.name} did not boot (exit {outer.returncode}), its console says:\n{said}")
        if not init:
            init = next(iter(children(outer.pid)), 0)
        return bool(init) and os.path.exists(f"/proc/{init}/root/run/lab-ready")

    try:
        wait_for(f"boot of {host.name} (see {console})", ready, BOOT_SECONDS)
    except BaseException:
        outer.returncode = outer.returncode or 0
        power_off(host)
        raise
    outer.returncode = 0  # left running on purpose: no ResourceWarning when this object goes
    return init


def power_off(host: LabHost) -> None:
    """A power cut: silence on the wire, every process gone at once, /run lost. The disk stays.

    Kinder than the real thing in one point: the kernel unmounts the file systems, so nothing written is lost.
    """
    if Path(f"/sys/class/net/{network.link_name(host.instance, host.number)}").exists():
        network.set_link(host.instance, host.number, "down")  # no FIN and no RST of dying sockets gets out
    stray: set[str] = set()
    while pids := _members(host):
        stray.update(loop.name for loop in loops_on(host.disk, pids[0]))
        end(pids)
    _reap()
    blockdevices.detach(host.disk)
    network.remove_host_network(host.instance, host.number)

    def released() -> bool:
        # A loop device that nobody mounted keeps its image, and so the device below it, in use.
        stray.update(loop.name for loop in loops_on(host.disk, None))
        left = [loop.name for loop in loops() if loop.name in stray]
        for name in left:
            call("losetup", "--detach", name, check=False)
        return not left and not device_loops(host.disk)

    # A file system is written out before it lets go, and the disk below may be busy with that of others.
    wait_for(f"release of the devices of {host.name}", released, 90)


def _reap() -> None:
    """Take leave of the hosts that this very process has booted, and of no other child of it."""
    for pid in list(_booted):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _booted.discard(pid)


def _members(host: LabHost) -> list[int]:
    """The host's processes: by network, and by mount namespace for what ``nsenter --mount`` alone sent in."""
    here = namespace("self", "mnt")
    seen: dict[str, bool] = {here: False, "": False}
    found = set(network.namespace_processes(host.instance, host.number))
    for pid in processes():
        there = namespace(pid, "mnt")
        if there not in seen:
            own = (str(host.disk), str(host.disk / "root"))
            seen[there] = any(mount.target in own for mount in mounts(pid))
        if seen[there]:
            found.add(pid)
    return sorted(pid for pid in found if alive(pid))


def device_loops(disk: Path) -> list[Loop]:
    """The loop devices of the host's own devices, and of its system disk."""
    image = re.compile(re.escape(str(disk)) + r"/(system|d\d+|vd[b-z])\.img")
    return [loop for loop in loops() if image.fullmatch(loop.backing_file)]


def loops_on(disk: Path, pid: int | None) -> list[Loop]:
    """Loop devices over anything that is the host's, save its devices: brick images above all.

    ``pid`` is any process of the host, or None if it is powered off. A path says little here, since it is
    the same on every host: what counts is the file system that the image lies on.
    """
    everything, devices = loops(), {loop.name for loop in device_loops(disk)}
    places = {mount.device for mount in mounts(pid)} - {mount.device for mount in mounts()} if pid else set()
    places |= {loop.number for loop in everything if loop.name in devices}
    found: dict[str, Loop] = {}
    while fresh := [
        loop
        for loop in everything
        if loop.name not in devices
        and loop.name not in found
        and (loop.backing_device in places or loop.backing_file.startswith(f"{disk}/"))
    ]:
        found |= {loop.name: loop for loop in fresh}
        places |= {loop.number for loop in fresh}  # a file system on it may carry images too
    return list(found.values())
