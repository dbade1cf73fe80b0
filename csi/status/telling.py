"""What is told of each record, from the records and from what was heard of the hosts. No I/O."""

from __future__ import annotations

from csi.core import naming
from csi.core.inventory import Inventory
from csi.core.model import (
    Availability,
    Cluster,
    Device,
    Direction,
    Host,
    Operation,
    OperationKind,
    Record,
    Snapshot,
    SnapshotState,
    Volume,
    VolumeState,
)
from csi.hosts.contacts import Contact
from csi.status.conditions import Condition, Told

_ACCEPTED = Condition("Accepted", True, "Recorded", "it is a record of the driver")


def told(record: Record, inventory: Inventory, contact: Contact | None = None) -> Told | None:
    """None for a record of which there is nothing to say. ``contact``: with a host."""
    match record:
        case Cluster():
            return _of_cluster(record, inventory)
        case Host():
            return _of_host(record, contact)
        case Device():
            return _of_device(record, inventory)
        case Volume():
            return _of_volume(record, inventory)
        case Snapshot():
            return _of_snapshot(record)
        case Operation():
            return _of_operation(record)
        case _:
            return None


def _of_cluster(cluster: Cluster, inventory: Inventory) -> Told:
    hosts = inventory.hosts_of.get(cluster.id, ())
    figures = {
        "hosts": len(hosts),
        "devices": sum(len(inventory.devices_of.get(host, ())) for host in hosts),
        "freeBytes": sum(
            sum(space.free)
            for host in hosts
            if (space := inventory.spaces.get(host)) is not None and space.host.state is Availability.ONLINE
        ),
    }
    return Told("Ready" if hosts else "Empty", "" if hosts else "it has no host yet", (_ACCEPTED,), figures=figures)


def _of_host(host: Host, contact: Contact | None) -> Told:
    if contact is None:
        return Told(_phase(host), "", (_ACCEPTED,))
    if contact.reached:
        reachable = Condition("Reachable", True, "Answered", "it answered the last command")
        return Told(_phase(host), "", (_ACCEPTED, reachable))
    message = unreachable(host, contact)
    return Told("Unreachable", message, (_ACCEPTED, Condition("Reachable", False, "NoAnswer", message)))


def unreachable(host: Host, contact: Contact) -> str:
    return (
        f"host {host.manage} does not answer ({contact.reason}): nothing new is placed on it, and what is to be done "
        "there waits; see to its power, its network and its sshd"
    )


def _of_device(device: Device, inventory: Inventory) -> Told:
    figures = {"usedBytes": inventory.used.get(device.id, 0), "freeBytes": max(0, inventory.free(device))}
    return Told(_phase(device), "", (_ACCEPTED,), figures=figures)


def _phase(record: Host | Device) -> str:
    return "Ready" if record.state is Availability.ONLINE else record.state.value.capitalize()


def _of_volume(volume: Volume, inventory: Inventory) -> Told:
    if volume.state is VolumeState.READY:
        ready = Condition("Ready", True, "Made", "it is made, and nothing is being done to it")
        return Told("Ready", "", (ready,), ended=("Deleting",))
    deletion = inventory.operations.get(naming.operation_id(OperationKind.DELETE, volume.id))
    error = deletion.error if deletion is not None else ""
    message = f"its deletion waits and is tried again: {error}" if error else "it is being deleted"
    conditions = (
        Condition("Ready", False, "Deleting", "it is hidden from callers"),
        Condition("Deleting", True, "Waiting" if error else "UnderWay", message),
    )
    return Told("Deleting", message, conditions)


def _of_snapshot(snapshot: Snapshot) -> Told:
    phase = snapshot.state.value.capitalize()
    if snapshot.state is SnapshotState.READY:
        return Told(phase, "", (Condition("Ready", True, "Taken", "volumes can be made of it"),), ended=("Deleting",))
    waits = f"it waits and is tried again: {snapshot.error}" if snapshot.error else ""
    return Told(phase, waits, (Condition("Ready", False, phase, waits or "it is not to be used"),))


_PHASES = {
    OperationKind.EXPAND: "Expanding",
    OperationKind.MODIFY: "Modifying",
    OperationKind.EXTEND: "Extending",
    OperationKind.REGROUP: "Regrouping",
    OperationKind.HEAL: "Healing",
    OperationKind.REBALANCE: "Rebalancing",
}


def _of_operation(operation: Operation) -> Told:
    if operation.kind is OperationKind.DELETE:
        phase = "Deleting"
    elif operation.kind in _PHASES:
        phase = _PHASES[operation.kind]
    else:
        phase = "Creating" if operation.direction is Direction.FORWARD else "Undoing"
    return Told(phase, operation.error)


def trouble(operation: Operation) -> tuple[str, str] | None:
    """Reason and message of the event for an operation that does not go on as it should."""
    name = operation.volume.name
    if not operation.error:
        return None
    if operation.kind is OperationKind.DELETE:
        return "DeletionWaits", f"volume {name} is being deleted; that waits, and is tried again: {operation.error}"
    if operation.kind in _PHASES:
        word = _PHASES[operation.kind]
        return f"{word}Waits", f"volume {name}: {word.lower()} waits, and is tried again: {operation.error}"
    if operation.attempts:
        return (
            "UndoWaits",
            f"volume {name} could not be made, and what was made of it cannot be removed yet; its space stays reserved "
            f"and this is tried again: {operation.error}",
        )
    return "TurnedBack", f"volume {name} could not be made, and what was made of it is removed: {operation.error}"
