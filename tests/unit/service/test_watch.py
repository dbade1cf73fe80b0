"""The watch: dead clients are replaced unasked, what a restart interrupts is taken up, and pods' owners are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from csi.clock import SystemClock
from csi.core.errors import MountFailed
from csi.mountports import MountSource, MountState
from csi.mounts.simulated import Health, SimulatedMounter
from csi.mounts.staged import StagedFiles
from csi.nodeports import Notice, NoticeKind, Staged
from csi.service.publish import Publish, Publisher, Stage
from csi.service.watch import Watch

SOURCE = MountSource(("a", "b"), "vol_1")
STAGE = Stage("1", SOURCE, "/staging")
UID = "0a1b2c3d-1111-2222-3333-444455556666"
PUBLISH = Publish("1", SOURCE, "/staging", f"/kubelet/pods/{UID}/volumes/kubernetes.io~csi/pv/mount", options=("ro",))


class Told:
    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def tell(self, notice: Notice) -> None:
        self.notices.append(notice)


class Known:
    """A list of present servers."""

    def __init__(self, *servers: str) -> None:
        self.servers = servers

    async def servers_of(self, volume_id: str) -> tuple[str, ...]:
        return self.servers


class Node:
    """A node plug-in over the simulated mounts; ``restart`` is a new process on the same node."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mounts = SimulatedMounter(["vol_1"])
        self.told = Told()
        self.known = Known()
        self.restart()

    def restart(self) -> None:
        self.publisher = Publisher(
            self.mounts, servers=self.known, staged=StagedFiles(self.directory, "boot"), notices=self.told
        )
        self.watch = Watch(self.publisher, SystemClock(), 1.0)

    async def look(self) -> None:
        await self.watch.look()
        await self.watch.settle()


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    node = Node(tmp_path / "staged")
    await node.publisher.stage(STAGE)
    await node.publisher.publish(PUBLISH)
    return node


async def test_nothing_happens_to_what_is_well(node: Node) -> None:
    client = node.mounts.client("/staging")
    await node.look()
    assert node.mounts.client("/staging") is client
    assert node.told.notices == []


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_dead_client_is_replaced_unasked(node: Node, restarted: bool) -> None:
    node.mounts.client("/staging").health = Health.DEAD
    if restarted:
        node.restart()
        await node.publisher.resume()
    await node.look()
    new = node.mounts.client("/staging")
    assert new.health is Health.WELL
    assert node.mounts.client(PUBLISH.target) is new
    state = await node.mounts.inspect(PUBLISH.target)
    assert state is not None
    assert "ro" in state.options
    (notice,) = node.told.notices
    assert (notice.kind, notice.volume_id, notice.pod) == (NoticeKind.RESTART_POD, "1", UID)
    await node.look()
    assert len(node.told.notices) == 1
    await node.publisher.unpublish("1", PUBLISH.target)
    await node.publisher.unstage("1", "/staging")
    assert node.mounts.mounted == {}
    assert list(node.directory.iterdir()) == []


@pytest.mark.parametrize("health", [Health.AWAY, Health.SILENT])
async def test_one_that_may_recover_is_left_alone(node: Node, health: Health) -> None:
    client = node.mounts.client("/staging")
    client.health = health
    await node.look()
    assert node.mounts.client("/staging") is client
    assert node.told.notices == []


@pytest.mark.parametrize("step", ["mount", "bind"])
async def test_a_repair_that_a_restart_cuts_off_is_finished(node: Node, step: str) -> None:
    node.mounts.client("/staging").health = Health.DEAD
    node.mounts.failing[step] = "cut off"
    await node.look()
    node.restart()
    await node.publisher.resume()
    await node.look()
    assert node.mounts.client(PUBLISH.target) is node.mounts.client("/staging")
    assert node.mounts.client("/staging").health is Health.WELL
    assert [staged.rebind for staged in await node.publisher.staged()] == [None]


async def test_a_target_that_went_before_the_restart_does_not_come_back(node: Node) -> None:
    node.mounts.client("/staging").health = Health.DEAD
    node.mounts.failing["mount"] = "cut off"
    await node.look()
    await node.publisher.unpublish("1", PUBLISH.target)
    node.restart()
    await node.publisher.resume()
    await node.look()
    assert node.mounts.mounted == {"/staging": 1}


async def test_a_mount_that_cannot_be_had_is_told_and_tried_less_and_less_often(node: Node) -> None:
    node.mounts.client("/staging").health = Health.DEAD
    node.mounts.volumes.clear()
    for _ in range(8):
        await node.look()
    lost = [notice for notice in node.told.notices if notice.kind is NoticeKind.MOUNT_LOST]
    assert len(lost) == 4  # in the rounds 1, 2, 4 and 8
    assert "the servers know no volume vol_1" in lost[0].text
    node.mounts.volumes.add("vol_1")
    for _ in range(8):
        await node.look()
    assert node.mounts.client(PUBLISH.target).health is Health.WELL


async def test_a_subpath_is_not_given_the_whole_volume(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    look = node.mounts.inspect
    subpath = f"/kubelet/pods/{UID}/volume-subpaths/pv/main/0"
    await node.mounts.make_directory(subpath)
    await node.mounts.bind("/staging", subpath, [])

    async def inspect(target: str) -> MountState | None:
        found = await look(target)
        if found is None or target != subpath:
            return found
        return MountState(found.source, found.fstype, found.device, found.options, alive=False, dead=True, root="/sub")

    monkeypatch.setattr(node.mounts, "inspect", inspect)
    dead = node.mounts.client("/staging")
    dead.health = Health.DEAD
    await node.look()
    assert node.mounts.client(subpath) is dead
    assert node.mounts.client(PUBLISH.target) is not dead
    assert {notice.path for notice in node.told.notices} == {subpath, PUBLISH.target}


async def test_present_servers_come_before_those_of_the_context(node: Node) -> None:
    node.known.servers = ("new", "b")
    node.mounts.client("/staging").health = Health.DEAD
    await node.look()
    assert node.mounts.client("/staging").source.servers == ("new", "b", "a")


async def test_a_volume_whose_mount_failed_is_not_remembered(tmp_path: Path) -> None:
    node = Node(tmp_path / "staged")
    node.mounts.failing["mount"] = "no server answered"
    with pytest.raises(MountFailed, match="no server answered"):
        await node.publisher.stage(STAGE)
    assert await node.publisher.staged() == ()


async def test_a_volume_that_is_remembered_and_was_never_mounted_is_left_alone(tmp_path: Path) -> None:
    node = Node(tmp_path / "staged")
    await StagedFiles(node.directory, "boot").put(Staged(STAGE.volume_id, STAGE.source, STAGE.staging))
    node.restart()
    await node.publisher.resume()
    await node.look()
    assert node.mounts.mounted == {}
    assert node.told.notices == []
