"""Bridge, addresses and network namespaces of one laboratory. Every name carries the instance id."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
from pathlib import Path

from tests.lab.system import LabError, call, locked


def bridge_name(instance: str) -> str:
    return f"glb-{instance}"


def link_name(instance: str, number: int) -> str:
    """The bridge's end of a host's cable. At most 15 characters: the kernel's limit."""
    return f"glv-{instance}-{number}"


def namespace_name(instance: str, number: int) -> str:
    return f"gl-{instance}-{number}"


def make_bridge(instance: str) -> ipaddress.IPv4Network:
    """A bridge with the first address of a /24 that nobody uses; the subnet."""
    name = bridge_name(instance)
    with locked("subnet"):  # two labs that come up at once must not choose the same
        subnet = free_subnet(instance)
        call("ip", "link", "add", name, "type", "bridge", "forward_delay", "0")
        call("ip", "addr", "add", f"{subnet[1]}/24", "dev", name)
        call("ip", "link", "set", name, "up")
    return subnet


def free_subnet(instance: str) -> ipaddress.IPv4Network:
    used = [ipaddress.ip_network("10.96.0.0/12"), ipaddress.ip_network("10.244.0.0/16")]  # Kubernetes services, pods
    for route in json.loads(call("ip", "-json", "-4", "route", "show", "table", "all") or "[]"):
        with contextlib.suppress(ValueError):  # "default", and types without a destination
            used.append(ipaddress.ip_network(route.get("dst", ""), strict=False))
    for attempt in range(256):
        digest = hashlib.sha256(f"{instance}/{attempt}".encode()).digest()
        subnet = ipaddress.ip_network(f"10.{digest[0]}.{digest[1]}.0/24")
        if not any(subnet.overlaps(other) for other in used):
            return ipaddress.IPv4Network(subnet)
    raise LabError("no free /24 inside 10.0.0.0/8: this machine's routes cover it")


def make_host_network(instance: str, number: int, address: str) -> None:
    """The host's namespace with its cable, plugged into the bridge."""
    namespace, link = namespace_name(instance, number), link_name(instance, number)
    call("ip", "netns", "add", namespace)
    call("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    call("ip", "link", "set", link, "master", bridge_name(instance), "up")
    call(
        *("ip", "-netns", namespace, "-batch", "-"),
        stdin=f"link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n",
    )


def remove_host_network(instance: str, number: int) -> None:
    """The cable goes first: a namespace is deleted in the background, and a lingering cable blocks its name."""
    if Path(f"/sys/class/net/{link_name(instance, number)}").exists():
        call("ip", "link", "del", link_name(instance, number), check=False)
    if Path(f"/run/netns/{namespace_name(instance, number)}").exists():
        call("ip", "netns", "del", namespace_name(instance, number), check=False)


def remove_bridge(instance: str) -> None:
    if Path(f"/sys/class/net/{bridge_name(instance)}").exists():
        call("ip", "link", "del", bridge_name(instance))


def set_link(instance: str, number: int, state: str) -> None:
    """``down``: packets are dropped in silence, nobody gets a reset. ``up``: plugged in again."""
    call("ip", "link", "set", link_name(instance, number), state)


def host_numbers(instance: str) -> list[int]:
    """Hosts of which a namespace or a cable exists, whatever a record says."""
    found: set[int] = set()
    for directory, prefix in (("/run/netns", f"gl-{instance}-"), ("/sys/class/net", f"glv-{instance}-")):
        with contextlib.suppress(FileNotFoundError):
            names = [name.removeprefix(prefix) for name in os.listdir(directory) if name.startswith(prefix)]
            found.update(int(name) for name in names if name.isdigit())
    return sorted(found)


def bridge_address(instance: str) -> ipaddress.IPv4Interface | None:
    """Address and subnet of the lab's bridge, if it is there."""
    for entry in json.loads(call("ip", "-json", "-4", "addr", "show", check=False) or "[]"):
        if entry.get("ifname") == bridge_name(instance) and entry["addr_info"]:
            info = entry["addr_info"][0]
            return ipaddress.IPv4Interface(f"{info['local']}/{info['prefixlen']}")
    return None


def namespace_processes(instance: str, number: int) -> list[int]:
    if not Path(f"/run/netns/{namespace_name(instance, number)}").exists():
        return []
    return [int(pid) for pid in call("ip", "netns", "pids", namespace_name(instance, number), check=False).split()]


def is_member(pid: int, instance: str, number: int) -> bool:
    """Does the process live in the host's network namespace?"""
    try:
        return os.path.samefile(f"/proc/{pid}/ns/net", f"/run/netns/{namespace_name(instance, number)}")
    except OSError:
        return False
