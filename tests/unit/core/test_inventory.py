"""The inventory's derived parts, kept in step: compared with a computation from scratch after any changes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from csi.core import naming
from csi.core.inventory import Inventory
from csi.core.model import (
    Availability,
    Backend,
    Brick,
    BrickId,
    Cluster,
    ClusterId,
    Copy,
    Device,
    DeviceId,
    Gid,
    Host,
    HostId,
    Operation,
    OperationKind,
    Record,
    RestingGid,
    Snapshot,
    SnapshotId,
    Step,
    Volume,
    VolumeId,
    VolumeSpec,
    VolumeState,
)

CLUSTER = ClusterId("c0")
HOST = Host(HostId("h0"), CLUSTER, "h0", "h0", 1)
DEVICE = Device(DeviceId("d0"), HOST.id, "/d0", Backend.FILE, 1000)

FEW = st.integers(0, 3)
STATES = st.sampled_from(list(Availability))


def brick(device: int, footprint: int) -> Brick:
    host = HostId(f"h{device % 3}")
    return Brick(BrickId("b"), 0, 0, host, DeviceId(f"d{device}"), footprint, footprint, "")


def volume(number: int, gid: int = 2000, bricks: tuple[Brick, ...] = ()) -> Volume:
    name = f"v{number}"
    return Volume(VolumeId(name), name, name, CLUSTER, 1, VolumeSpec(), bricks, Gid(gid))


def operation(kind: OperationKind, of: Volume, before: Volume | None = None) -> Operation:
    return Operation(naming.operation_id(kind, of.id), kind, of, (Step.MAKE_BRICKS,), before=before)


CLUSTERS = st.builds(lambda n: Cluster(ClusterId(f"c{n}")), FEW)
HOSTS = st.builds(
    lambda n, cluster, name, zone, state: Host(
        HostId(f"h{n}"), ClusterId(f"c{cluster}"), f"m{name}", f"h{n}", zone, state
    ),
    *(FEW, FEW, FEW, FEW, STATES),
)
DEVICES = st.builds(
    lambda n, host, path, backend, total, state: Device(
        DeviceId(f"d{n}"), HostId(f"h{host}"), f"/d{path}", backend, total, state
    ),
    *(st.integers(0, 5), FEW, FEW, st.sampled_from(Backend), st.integers(0, 1000), STATES),
)
BRICKS = st.lists(st.builds(brick, st.integers(0, 5), st.integers(0, 400)), max_size=3).map(tuple)
VOLUMES = st.builds(volume, FEW, st.integers(2000, 2003), BRICKS)
OPERATIONS = st.builds(operation, st.sampled_from(OperationKind), VOLUMES, st.one_of(st.none(), VOLUMES))
RESTING = st.builds(lambda gid: RestingGid(Gid(gid), until=1.0), st.integers(2000, 2003))
SNAPSHOTS = st.builds(
    lambda n, gid, bricks: Snapshot(
        SnapshotId(f"s{n}"),
        "s",
        VolumeId("v0"),
        "v",
        CLUSTER,
        1,
        VolumeSpec(),
        Gid(gid),
        tuple(Copy(b.id, b.set, b.index, b.host_id, b.device_id, b.size, b.footprint) for b in bricks),
    ),
    FEW,
    st.integers(2000, 2003),
    BRICKS,
)
RECORDS = st.one_of(CLUSTERS, HOSTS, DEVICES, VOLUMES, OPERATIONS, RESTING, SNAPSHOTS)


def key(record: Record) -> tuple[str, str]:
    return type(record).__name__, record.id


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.lists(RECORDS, max_size=4, unique_by=key), st.lists(RECORDS, max_size=2)), max_size=8))
def test_changes_one_by_one_give_what_a_computation_from_scratch_gives(
    commits: list[tuple[list[Record], list[Record]]],
) -> None:
    state = Inventory()
    plain: dict[tuple[str, str], Record] = {}
    seen: list[tuple[Inventory, Inventory]] = []
    for puts, doomed in commits:
        removes = [record for k, record in {key(r): r for r in doomed}.items() if k in plain]
        seen.append((state, Inventory.of(plain.values())))
        state = state.with_changes(puts, removes)
        for record in removes:
            del plain[key(record)]
        plain.update((key(record), record) for record in puts)
        assert state == Inventory.of(plain.values())
    assert {key(record): record for record in state.records()} == plain
    assert all(earlier == then for earlier, then in seen)  # a snapshot stays what it was


def test_a_volume_takes_over_what_its_operation_held() -> None:
    made = volume(1, 2005, (brick(0, 300),))
    creation = operation(OperationKind.CREATE, made)
    state = Inventory.of([Cluster(CLUSTER), HOST, DEVICE, creation])
    assert state.free(DEVICE) == 700
    state = state.with_changes([made], [creation])
    assert state.free(DEVICE) == 700
    assert list(state.gids) == [2005]
    assert state.with_changes((), [made]).free(DEVICE) == 1000


def test_a_change_holds_what_the_volume_needs_on_top_of_what_it_has() -> None:
    small, large = volume(1, 2005, (brick(0, 300),)), volume(1, 2005, (brick(0, 500),))
    growth = operation(OperationKind.EXPAND, large, small)
    state = Inventory.of([Cluster(CLUSTER), HOST, DEVICE, small, growth])
    assert state.free(DEVICE) == 500
    assert state.spaces[HOST.id].free == (500,)
    state = state.with_changes([large], [growth])
    assert state.free(DEVICE) == 500
    assert state.with_changes((), [large]).free(DEVICE) == 1000


def test_a_deletion_holds_nothing_of_its_own() -> None:
    doomed = replace(volume(1, 2005, (brick(0, 300),)), state=VolumeState.DELETING)
    state = Inventory.of([Cluster(CLUSTER), HOST, DEVICE, doomed, operation(OperationKind.DELETE, doomed)])
    assert state.free(DEVICE) == 700
    assert list(state.with_changes((), [doomed]).gids) == []


def test_a_device_that_shrank_has_less_than_nothing_free_and_offers_nothing() -> None:
    state = Inventory.of([Cluster(CLUSTER), HOST, DEVICE, volume(1, 2000, (brick(0, 300),))])
    state = state.with_changes([replace(DEVICE, total=100)], ())
    assert state.free(state.devices[DEVICE.id]) == -200
    assert state.spaces[HOST.id].free == (0,)


def test_hosts_and_devices_are_in_order_of_their_names() -> None:
    hosts = [Host(HostId(i), CLUSTER, manage, manage, 1) for i, manage in (("h1", "zed"), ("h2", "abe"))]
    devices = [Device(DeviceId(i), HostId("h1"), path, Backend.FILE, 1) for i, path in (("d1", "/z"), ("d2", "/a"))]
    state = Inventory.of([Cluster(CLUSTER), *hosts, *devices])
    assert state.hosts_of[CLUSTER] == ("h2", "h1")
    assert state.devices_of[HostId("h1")] == ("d2", "d1")


def test_space_counts_online_devices_only() -> None:
    off = replace(DEVICE, id=DeviceId("d1"), path="/d1", state=Availability.OFFLINE)
    space = Inventory.of([Cluster(CLUSTER), HOST, DEVICE, off]).spaces[HOST.id]
    assert space.devices == (DEVICE,)
    assert (space.total, space.used, space.largest) == (1000, 0, ((Backend.FILE, 1000),))


def test_records_come_before_those_that_refer_to_them() -> None:
    made = volume(1)
    records: list[Record] = [made, DEVICE, operation(OperationKind.DELETE, made), HOST, Cluster(CLUSTER)]
    kinds = [type(record) for record in Inventory.of(records).records()]
    assert kinds == [Cluster, Host, Device, Volume, Operation]
