"""The network of a node: its cables, addresses, and the way to the API server's service address."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from tests.cluster.processes import API_SERVICE
from tests.lab.network import bridge_name, free_subnet
from tests.lab.pool import Lab
from tests.lab.system import LabError, call, locked

POD_SUBNET = "10.244.0.0/16"
# In a lab's subnet, above its hosts.
_LAB_ADDRESS = 200


def namespace_name(instance: str) -> str:
    return f"gc-{instance}"


def link_name(instance: str) -> str:
    """This machine's end of the cable. At most 15 characters: the kernel's limit."""
    return f"gcv-{instance}"


def lab_link_name(instance: str) -> str:
    """The end of a second cable, in the bridge of a lab."""
    return f"gcl-{instance}"


def names(instance: str) -> tuple[str, str, str]:
    """Everything of an instance that has a name on this machine."""
    return namespace_name(instance), link_name(instance), lab_link_name(instance)


def make_network(instance: str) -> IPv4Network:
    """The namespace, and a cable to it with the first address of a /24 that nobody uses; the subnet.

    The node has the second address.
    """
    namespace, link = namespace_name(instance), link_name(instance)
    call("ip", "netns", "add", namespace)
    with locked("subnet"):  # the laboratory's lock: neither it nor another cluster must choose the same
        subnet = free_subnet(f"cluster {instance}")
        call("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        call("ip", "addr", "add", f"{subnet[1]}/24", "dev", link)
        call("ip", "link", "set", link, "up")
    lines = (f"addr add {subnet[2]}/24 dev eth0", "link set eth0 up", f"route add default via {subnet[1]}")
    call("ip", "-netns", namespace, "-batch", "-", stdin="\n".join(lines) + "\n")
    return subnet


def serve_api(instance: str, address: str, port: int) -> None:
    """What kube-proxy would do: the service address leads to the API server, for pods and for the node itself."""
    for chain in ("PREROUTING", "OUTPUT"):
        call(
            *("ip", "netns", "exec", namespace_name(instance), "iptables", "--wait", "-t", "nat", "-A", chain),
            *("-d", API_SERVICE, "-p", "tcp", "--dport", "443", "-j", "DNAT", "--to-destination", f"{address}:{port}"),
        )


def plug_into_lab(instance: str, lab: Lab) -> str:
    """A second cable, into the bridge of a laboratory: node and pods reach its hosts. The node's address there."""
    if lab.subnet is None:
        raise LabError(f"lab {lab.instance} is not up")
    address, link = str(lab.subnet[_LAB_ADDRESS]), lab_link_name(instance)
    namespace = namespace_name(instance)
    unplug_from_lab(instance)
    call("ip", "link", "add", link, "type", "veth", "peer", "name", "lab0", "netns", namespace)
    call("ip", "link", "set", link, "master", bridge_name(lab.instance), "up")
    call("ip", "-netns", namespace, "-batch", "-", stdin=f"addr add {address}/24 dev lab0\nlink set lab0 up\n")
    return address


def unplug_from_lab(instance: str) -> None:
    _remove_link(lab_link_name(instance))


def remove_network(instance: str) -> None:
    """The cables go first: a namespace is deleted in the background, and a lingering cable blocks its name."""
    unplug_from_lab(instance)
    _remove_link(link_name(instance))
    if exists(instance):
        call("ip", "netns", "del", namespace_name(instance), check=False)


def exists(instance: str) -> bool:
    return Path(f"/run/netns/{namespace_name(instance)}").exists()


def _remove_link(name: str) -> None:
    if Path(f"/sys/class/net/{name}").exists():
        call("ip", "link", "del", name, check=False)


def leftovers(instance: str) -> list[str]:
    """Cables and namespace that are there."""
    links = [name for name in (link_name(instance), lab_link_name(instance)) if Path(f"/sys/class/net/{name}").exists()]
    return [f"link {name}" for name in links] + ([f"namespace {namespace_name(instance)}"] if exists(instance) else [])
