"""A pool of real GlusterFS hosts on one machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from tests.lab import daemons, leftovers, network
from tests.lab.host import SSH_PORT, LabHost, boot, build_gsyncd, make_disk, power_off
from tests.lab.system import SLOWNESS, LabError, call, command_line, environment, locked, missing, processes, wait_for

_INSTANCE = re.compile(r"[a-z0-9]{1,8}")
MOST_HOSTS = 8
LINGERING = float(os.environ.get("LAB_LINGERING", "20")) * SLOWNESS
"""Seconds in which what is on its way out must be gone."""


class Lab:
    """A laboratory. One that is up already can be taken over: the record lies in its directory."""

    def __init__(
        self,
        instance: str = "a",
        *,
        hosts: int = 3,
        devices: int = 2,
        device_size: str = "20G",
        blocks: int = 0,
        zones: int | None = None,
        directory: Path | None = None,
        hooks: bool = True,
    ) -> None:
        """``hooks``: with the hook scripts of the GlusterFS package, which glusterd runs at each change.

        ``blocks`` are block devices, per host, for LVM; ``devices`` are directories.
        """
        if not _INSTANCE.fullmatch(instance):
            raise LabError(f"instance {instance!r}: one to eight characters of a-z and 0-9 (it is part of link names)")
        if not 1 <= hosts <= MOST_HOSTS:
            raise LabError(f"{hosts} hosts: from 1 to {MOST_HOSTS} can be made")
        if min(devices, blocks) < 0 or (zones is not None and zones < 1):
            raise LabError("devices can't be negative, and there is at least one zone")
        self.instance = instance
        # An instance exists once on a machine: if it is up in another directory, that one counts, so `down` finds it.
        self._pointer = Path(f"/run/gluster-lab-{instance}")
        parent = directory or Path(os.environ.get("LAB_DIR", "/tmp"))
        self.directory = self._pointer.resolve() if self._pointer.exists() else parent.absolute() / self._pointer.name
        self.hosts: tuple[LabHost, ...] = ()
        self.subnet: IPv4Network | None = None
        self._wanted = (hosts, devices, device_size, zones or hosts)
        self._blocks = blocks
        self._hooks = hooks
        self._complete = False  # `up` came to its end
        self._inits: dict[int, int] = {}  # host number: PID of its init, only while it is powered on
        self._load()

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def key_file(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def gateway(self) -> str:
        """This machine's own address in the lab's network."""
        if self.subnet is None:
            raise LabError(f"lab {self.instance} is not up")
        return str(self.subnet[1])

    @property
    def bridge(self) -> IPv4Interface | None:
        """The bridge as it is now; None if the lab is down."""
        return network.bridge_address(self.instance)

    @property
    def _state_file(self) -> Path:
        return self.directory / "state.json"

    def host(self, name: str | LabHost) -> LabHost:
        """By name, number or address."""
        for host in self.hosts:
            if name == host or name in (host.name, str(host.number), host.address):
                return host
        known = ", ".join(h.name for h in self.hosts)
        raise LabError(
            f"lab {self.instance} has no host {name}: " + (f"there are {known}" if known else "it is not up")
        )

    def init_pid(self, host: str | LabHost) -> int | None:
        """The host's PID 1 as this machine counts; None while it is powered off."""
        machine = self.host(host)
        for _ in range(2):
            pid = self._inits.get(machine.number)
            # By namespace: the record may be older than this machine's last boot, and the number used again.
            if pid and network.is_member(pid, self.instance, machine.number):
                return pid
            self._load()  # another process may have started the host again
        return None

    def topology(self) -> dict[str, Any]:
        """Heketi's topology file of this pool."""
        nodes = [
            {
                "node": {"hostnames": {"manage": [host.address], "storage": [host.address]}, "zone": host.zone},
                "devices": [*host.devices, *host.blocks],
            }
            for host in self.hosts
        ]
        return {"clusters": [{"nodes": nodes}]}

    # ------------------------------------------------------------------------------------------- up and down

    def up(self, pool: bool = False) -> None:
        """Bring all hosts up; with ``pool`` also probe them, so that they are peers. Up already: nothing to do."""
        if reason := missing():
            raise LabError(reason)
        with locked(self.instance):
            self._load()
            count = self._wanted[0]
            if self._complete and self.bridge is not None:
                if len(self.hosts) != count:
                    raise LabError(f"lab {self.instance} is up with {len(self.hosts)} hosts, not {count}: down first")
                self._restore()
            else:
                self._down()
                try:
                    self._up()
                except BaseException:
                    self._down()
                    raise
            if pool:
                daemons.probe(self)

    def _up(self) -> None:
        count, devices, size, zones = self._wanted
        self._pointer.unlink(missing_ok=True)
        self._pointer.symlink_to(self.directory)
        self.directory.mkdir(mode=0o755, parents=True)
        self.subnet = network.make_bridge(self.instance)
        self.hosts = tuple(
            LabHost(
                instance=self.instance,
                number=number,
                address=str(self.subnet[10 + number]),
                zone=(number - 1) % zones + 1,
                devices=tuple(f"/srv/d{i}" for i in range(devices)),
                disk=self.directory / f"host{number}",
                blocks=tuple(f"/dev/vd{letter}" for letter in "bcdefgh"[: self._blocks]),
            )
            for number in range(1, count + 1)
        )
        self._save()
        build_gsyncd(self.directory / "gsyncd")
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {self.instance}", "-f", str(self.key_file))
        public = self.key_file.with_suffix(".pub").read_text()
        names = {host.name: host.address for host in self.hosts}

        def make(host: LabHost) -> int:
            make_disk(host, names, public, size, hooks=self._hooks)
            return boot(host)

        self._inits = dict(zip((h.number for h in self.hosts), self._on_each(make), strict=True))
        self._complete = True
        keys = [(h, (h.disk / "etc/ssh/lab_host_key.pub").read_text().split()) for h in self.hosts]
        self.known_hosts.write_text("".join(f"[{h.address}]:{SSH_PORT} {k[0]} {k[1]}\n" for h, k in keys))
        self._save()

    def down(self) -> None:
        """Remove everything of this instance, also what a crash of the lab left. Harmless if nothing is there."""
        with locked(self.instance):
            self._down()

    def _down(self) -> None:
        recorded = IPv4Interface(f"{self.gateway}/24") if self.subnet else None
        leftovers.release_machine(self.directory, self.bridge or recorded)
        # Commands that a killed `up` started run on for a moment, and may still make things.
        wait_for(f"end of the commands of an interrupted `up` of lab {self.instance}", self._no_stragglers, 20)
        numbers = network.host_numbers(self.instance)
        hosts = [LabHost(self.instance, n, "", 0, (), self.directory / f"host{n}") for n in numbers]
        with ThreadPoolExecutor(MOST_HOSTS) as pool:
            list(pool.map(power_off, hosts))
        network.remove_bridge(self.instance)
        if self.directory.exists():
            call("chattr", "-R", "-f", "-i", str(self.directory), check=False)  # mount points are immutable
            shutil.rmtree(self.directory)
        self._pointer.unlink(missing_ok=True)
        self.hosts, self.subnet, self._inits, self._complete = (), None, {}, False

    def _no_stragglers(self) -> bool:
        tools = ("ip", "mkfs.xfs", "truncate", "ssh-keygen", "gcc", "cc1", "as", "collect2", "ld")
        for pid in processes():
            words = command_line(pid)
            if words and os.path.basename(words[0]) in tools and any(self._names_us(word) for word in words[1:]):
                return False
        return True

    def _names_us(self, word: str) -> bool:
        networks = (f"gl-{self.instance}-", f"glv-{self.instance}-")
        return f"{self.directory}/" in word or word.startswith(networks) or word == network.bridge_name(self.instance)

    def settle(self, seconds: float = 30) -> None:
        """Wait until glusterd answers on every host, and all its peers are connected."""
        daemons.settle(self, seconds)

    # ------------------------------------------------------------------------------------------ one host

    def run(
        self,
        host: str | LabHost,
        argv: Sequence[str],
        check: bool = True,
        input: str | None = None,  # noqa: A002 -- the name that subprocess.run gives it
        timeout: float = 30,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root on the host, past ssh. With ``check`` a failure is an error that says what it said."""
        machine = self.host(host)
        init = self.init_pid(machine)
        if init is None:
            raise LabError(f"{machine.name} is powered off")
        # A session of its own: nsenter waits for a child, which would outlive it when the time is up.
        with subprocess.Popen(
            [*self._entering(init), *argv],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(input, timeout * SLOWNESS)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, output, errors)
        if check and done.returncode != 0:
            raise LabError(f"{machine.name}: {' '.join(argv)}: exit {done.returncode}: {(errors or output).strip()}")
        return done

    @staticmethod
    def _entering(init: int) -> list[str]:
        return ["nsenter", "--target", str(init), "--mount", "--net", "--pid", "--uts", "--ipc", "--"]

    def shell(self, host: str | LabHost) -> int:
        """A shell on this terminal, on the host."""
        init = self.init_pid(host)
        if init is None:
            raise LabError(f"{host} is powered off")
        return subprocess.call([*self._entering(init), "/bin/bash", "-l"])

    def kill(self, host: str | LabHost) -> None:
        """Power off, without a word to anybody, until ``start``."""
        with locked(self.instance):
            self._kill(self.host(host))

    def _kill(self, host: LabHost) -> None:
        power_off(host)
        self._inits.pop(host.number, None)
        self._save()

    def start(self, host: str | LabHost) -> None:
        """Power on: mounts its fstab, starts sshd and glusterd. On already: nothing to do."""
        with locked(self.instance):
            self._start(self.host(host))

    def _start(self, host: LabHost) -> None:
        if self.init_pid(host) is not None:
            return
        power_off(host)  # clears what a half-made start left
        self._inits[host.number] = boot(host)
        self._save()

    def reboot(self, host: str | LabHost) -> None:
        """A power cut and the start after it."""
        with locked(self.instance):
            machine = self.host(host)
            self._kill(machine)
            self._start(machine)

    def cut(self, host: str | LabHost) -> None:
        """Pull the host's network cable: packets vanish in both directions."""
        self._set_link(host, "down")

    def mend(self, host: str | LabHost) -> None:
        """Plug it in again."""
        self._set_link(host, "up")

    def _set_link(self, host: str | LabHost, state: str) -> None:
        machine = self.host(host)
        if self.init_pid(machine) is None:
            raise LabError(f"{machine.name} is powered off: it has no link")
        network.set_link(self.instance, machine.number, state)

    def restore(self) -> None:
        """Every host on, plugged in, its daemons running, the peers connected: whatever a test did to them."""
        with locked(self.instance):
            self._restore()

    def _restore(self) -> None:
        hurt = [host for host in self.hosts if self.init_pid(host) is None or self.is_cut(host)]
        for host in hurt:
            self._start(host)
            network.set_link(self.instance, host.number, "up")
        if daemons.start_missing(self) or hurt:
            self.settle()

    def is_cut(self, host: str | LabHost) -> bool:
        flags = int(
            Path(f"/sys/class/net/{network.link_name(self.instance, self.host(host).number)}/flags").read_text(), 16
        )
        return not flags & 1

    # -------------------------------------------------------------------------------------- what a test leaves

    def leftovers(self, patience: float = LINGERING) -> list[str]:
        """Everything that a test made and did not remove, one line each; empty when clean.

        What is on its way out has ``patience`` seconds to be gone: a process that was told to end, a loop device that
        the kernel lets go after the unmount. It does so in one queue for the whole machine, where a file of a client
        that does not answer (other tests make such) is waited for.
        """
        deadline, pause = time.monotonic() + patience, 0.05
        while (found := leftovers.find(self)) and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)  # a look costs what other tests could use
        return found

    def sweep(self) -> None:
        """Remove such leftovers by force, on hosts that are all on: of one that is off little can be seen."""
        self.restore()
        leftovers.sweep(self)

    # ------------------------------------------------------------------------------------------------ record

    def _on_each(self, act: Callable[[LabHost], int]) -> Iterable[int]:
        with ThreadPoolExecutor(MOST_HOSTS) as pool:
            return list(pool.map(act, self.hosts))

    def _save(self) -> None:
        state = {
            "instance": self.instance,
            "complete": self._complete,
            "subnet": str(self.subnet),
            "gateway": self.gateway,
            "key_file": str(self.key_file),
            "known_hosts": str(self.known_hosts),
            "hosts": [
                {
                    "name": host.name,
                    "number": host.number,
                    "address": host.address,
                    "zone": host.zone,
                    "devices": list(host.devices),
                    "blocks": list(host.blocks),
                    "disk": str(host.disk),
                    "init_pid": self._inits.get(host.number),
                }
                for host in self.hosts
            ],
        }
        new = self._state_file.with_suffix(".new")
        new.write_text(json.dumps(state, indent=2) + "\n")
        new.replace(self._state_file)

    def _load(self) -> None:
        try:
            state = json.loads(self._state_file.read_text())
        except (FileNotFoundError, ValueError):  # never written, or by a machine that lost power
            return
        self.subnet = IPv4Network(state["subnet"])
        self.hosts = tuple(
            LabHost(
                *(self.instance, h["number"], h["address"], h["zone"], tuple(h["devices"]), Path(h["disk"])),
                blocks=tuple(h.get("blocks", ())),
            )
            for h in state["hosts"]
        )
        self._inits = {h["number"]: h["init_pid"] for h in state["hosts"] if h["init_pid"]}
        self._complete = state["complete"]


__all__ = ["Lab", "LabHost"]
