"""The gRPC edge over a fake service, on a real Unix socket in the test's own directory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import grpc
import pytest
import structlog

from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc
from csi.core import naming
from csi.core.errors import DriverError, InvalidToken, NotFound
from csi.core.model import (
    Brick,
    BrickId,
    ClusterId,
    DeviceId,
    Gid,
    HostId,
    Snapshot,
    Volume,
    VolumeId,
    VolumeSpec,
)
from csi.driver.controller import ControllerService
from csi.driver.groupcontroller import GroupControllerService
from csi.driver.identity import IdentityService
from csi.driver.server import Server
from csi.service.expansion import ExpandRequest, Expansion
from csi.service.modification import Modification, ModifyRequest
from csi.service.placing import Capacity
from csi.service.snapshots import Group, SnapshotPage, Snapshots
from csi.service.volumes import Condition, CreateRequest, Page, Volumes

GIB = 1 << 30


def capability(mode: int = pb.VolumeCapability.AccessMode.MULTI_NODE_MULTI_WRITER) -> pb.VolumeCapability:
    return pb.VolumeCapability(
        mount=pb.VolumeCapability.MountVolume(),
        access_mode=pb.VolumeCapability.AccessMode(mode=mode),  # type: ignore[arg-type]
    )


def block() -> pb.VolumeCapability:
    return pb.VolumeCapability(
        block=pb.VolumeCapability.BlockVolume(),
        access_mode=pb.VolumeCapability.AccessMode(mode=pb.VolumeCapability.AccessMode.SINGLE_NODE_WRITER),
    )


def record(name: str, size: int = GIB, spec: VolumeSpec | None = None) -> Volume:
    known = naming.volume_id(name)
    brick = Brick(BrickId("b" * 32), 0, 0, HostId("h" * 32), DeviceId("d" * 32), size, size, "/bricks/b/brick")
    return Volume(
        known, name, naming.gluster_name(known), ClusterId("c" * 32), size, spec or VolumeSpec(), (brick,), Gid(2000)
    )


@dataclass
class FakeVolumes:
    """Keeps what it is given. ``failure`` is raised by the next call of create, delete or condition."""

    volumes: dict[VolumeId, Volume] = field(default_factory=dict)
    created: list[CreateRequest] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    failure: BaseException | None = None
    unhealthy: set[VolumeId] = field(default_factory=set)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def add(self, name: str, size: int = GIB) -> Volume:
        volume = record(name, size)
        self.volumes[volume.id] = volume
        return volume

    async def create(self, request: CreateRequest) -> Volume:
        self._fail()
        self.created.append(request)
        volume = replace(self.add(request.name, request.required or GIB), spec=request.spec)
        self.volumes[volume.id] = volume
        return volume

    async def delete(self, volume_id: str) -> None:
        self._fail()
        self.deleted.append(volume_id)
        self.volumes.pop(VolumeId(volume_id), None)

    def get(self, volume_id: str) -> Volume:
        if volume_id not in self.volumes:
            raise NotFound("volume", volume_id)
        return self.volumes[VolumeId(volume_id)]

    def list(self, token: str, limit: int) -> Page:
        if token and not token.isdecimal():
            raise InvalidToken(token)
        start = int(token or 0)
        everything = list(self.volumes.values())
        end = start + limit if limit else len(everything)
        return Page(tuple(everything[start:end]), str(end) if end < len(everything) else "")

    def capacity(self, spec: VolumeSpec) -> Capacity:
        return Capacity(10 * GIB * spec.durability.set_size, 4 * GIB, GIB // 64)

    async def condition(self, volume: Volume) -> Condition:
        if isinstance(self.failure, DriverError):
            raise self.failure
        bad = volume.id in self.unhealthy
        return Condition(bad, "1 of 3 bricks is offline" if bad else "all bricks are online")

    def servers(self, volume: Volume) -> tuple[str, ...]:
        return ("10.0.0.1", "10.0.0.2")


@dataclass
class FakeSnapshots:
    """Keeps what it is given. ``failure`` is raised by the next call."""

    taken: dict[str, Snapshot] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    asked: list[tuple[str, int, str, str]] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)
    failure: BaseException | None = None

    async def create(self, name: str, volume_id: str) -> Snapshot:
        if self.failure is not None:
            raise self.failure
        known = naming.snapshot_id(name)
        self.taken[known] = snapshot_record(name, volume_id)
        return self.taken[known]

    async def delete(self, snapshot_id: str) -> None:
        self.deleted.append(snapshot_id)

    def get(self, snapshot_id: str) -> Snapshot:
        if snapshot_id not in self.taken:
            raise NotFound("snapshot", snapshot_id)
        return self.taken[snapshot_id]

    def list(self, token: str, limit: int, *, volume_id: str = "", snapshot_id: str = "") -> SnapshotPage:
        self.asked.append((token, limit, volume_id, snapshot_id))
        return SnapshotPage(tuple(self.taken.values()), "more")

    async def create_group(self, name: str, volume_ids: Sequence[str]) -> Group:
        known = naming.group_id(name)
        members = (replace(snapshot_record(f"{name} {v}", v), group_id=known) for v in volume_ids)
        self.groups[known] = Group(known, name, tuple(members))
        return self.groups[known]

    async def delete_group(self, group_id: str, snapshot_ids: Sequence[str]) -> None:
        self.deleted += [group_id, *snapshot_ids]

    def get_group(self, group_id: str, snapshot_ids: Sequence[str]) -> Group:
        if group_id not in self.groups:
            raise NotFound("snapshot group", group_id)
        return self.groups[group_id]


def snapshot_record(name: str, volume_id: str) -> Snapshot:
    of = record("pvc-1")
    return Snapshot(
        naming.snapshot_id(name), name, VolumeId(volume_id), of.name, of.cluster_id, GIB, of.spec, of.gid, (), 12.25
    )


@dataclass
class FakeExpansion:
    """Makes the volumes larger that it finds."""

    volumes: FakeVolumes
    asked: list[ExpandRequest] = field(default_factory=list)

    async def expand(self, request: ExpandRequest) -> Volume:
        self.volumes._fail()
        self.asked.append(request)
        known = self.volumes.get(request.volume_id)
        larger = self.volumes.volumes[known.id] = replace(known, size=max(known.size, request.required))
        return larger


@dataclass
class FakeModification:
    volumes: FakeVolumes
    asked: list[ModifyRequest] = field(default_factory=list)

    async def modify(self, request: ModifyRequest) -> Volume:
        self.volumes._fail()
        self.asked.append(request)
        return self.volumes.get(request.volume_id)


@dataclass
class Edge:
    """A running server, and clients for it."""

    path: Path
    server: Server
    volumes: FakeVolumes
    snapshots: FakeSnapshots
    expansion: FakeExpansion
    modification: FakeModification
    identity_service: IdentityService
    channel: grpc.aio.Channel

    @property
    def identity(self) -> rpc.IdentityAsyncStub:
        return rpc.IdentityStub(self.channel)

    @property
    def groups(self) -> rpc.GroupControllerAsyncStub:
        return rpc.GroupControllerStub(self.channel)

    @property
    def controller(self) -> rpc.ControllerAsyncStub:
        return rpc.ControllerStub(self.channel)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    volumes, snapshots = FakeVolumes(), FakeSnapshots()
    path = tmp_path / "csi.sock"
    server = Server(f"unix://{path}")
    identity = IdentityService("csi.gluster.org", "1.2.3")
    server.add_identity(identity)
    expansion = FakeExpansion(volumes)
    modification = FakeModification(volumes)
    controller = ControllerService(
        cast(Volumes, volumes),
        cast(Expansion, expansion),
        cast(Modification, modification),
        cast(Snapshots, snapshots),
    )
    server.add_controller(controller)
    server.add_group_controller(GroupControllerService(cast(Snapshots, snapshots)))
    await server.start()
    async with grpc.aio.insecure_channel(f"unix://{path}") as channel:
        yield Edge(path, server, volumes, snapshots, expansion, modification, identity, channel)
    await server.stop(0)


@pytest.fixture
def log() -> Iterator[list[structlog.typing.EventDict]]:
    """The events that are logged, context variables merged in."""
    capture = structlog.testing.LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture], cache_logger_on_first_use=False)
    yield capture.entries
    structlog.configure(**before)
