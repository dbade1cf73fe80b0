"""glusterd and sshd of the lab's hosts: the peers that form a pool, and daemons that a test ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.lab.system import command_line, host_processes, wait_for

if TYPE_CHECKING:
    from tests.lab.host import LabHost
    from tests.lab.pool import Lab

GLUSTER = ("gluster", "--mode=script")

# What the command line of the running daemon holds: sshd's listener is told apart from its sessions.
_DAEMONS = {
    "glusterd": "glusterd -p /run/glusterd.pid -l /var/log/glusterfs/glusterd.log",
    "[listener]": "/usr/sbin/sshd -f /etc/ssh/lab_sshd_config",
}


def probe(lab: Lab) -> None:
    """Make all hosts peers of the first. Peers already: fine."""
    first, *others = lab.hosts
    for other in others:

        def probed(other: LabHost = other) -> bool:
            # glusterd answers on its socket before it listens to peers: a first probe may fail.
            return lab.run(first, [*GLUSTER, "peer", "probe", other.address], check=False).returncode == 0

        wait_for(f"probe of {other.name}", probed, 20)
    settle(lab, 30)


def settle(lab: Lab, seconds: float) -> None:
    """Wait until glusterd answers on every host, and all its peers are connected."""
    for host in lab.hosts:

        def settled(host: LabHost = host) -> bool:
            peers = len(os.listdir(f"/proc/{lab.init_pid(host)}/root/var/lib/glusterd/peers"))
            status = lab.run(host, [*GLUSTER, "peer", "status"], check=False)
            return status.returncode == 0 and status.stdout.count("Peer in Cluster (Connected)") == peers

        wait_for(f"glusterd of {host.name} and its peers", settled, seconds)


def start_missing(lab: Lab) -> bool:
    """Start what a test ended, on hosts that are on. Was there anything to do?"""
    acted = False
    for host in lab.hosts:
        init = lab.init_pid(host)
        running = " ".join(word for pid in host_processes(init) for word in command_line(pid)[:1])
        for program, command in _DAEMONS.items():
            if init and program not in running:
                lab.run(host, ["sh", "-c", f"{command} >/dev/null 2>&1"])
                acted = True
    if acted and all(lab.init_pid(host) for host in lab.hosts):
        settle(lab, 30)
    return acted
