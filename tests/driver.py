"""A gluster-csi process over the laboratory, and a CSI client for it: for demo, lab tests and benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from csi.api import admin_pb2 as admin
from csi.api import admin_pb2_grpc as admin_rpc
from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc
from tests.lab import Lab
from tests.lab.system import SLOWNESS

GIB = 1 << 30
WRITER = pb.VolumeCapability.AccessMode.MULTI_NODE_MULTI_WRITER


def capability(mode: int = WRITER, flags: tuple[str, ...] = ()) -> pb.VolumeCapability:
    return pb.VolumeCapability(
        mount=pb.VolumeCapability.MountVolume(mount_flags=list(flags)),
        access_mode=pb.VolumeCapability.AccessMode(mode=mode),  # type: ignore[arg-type]
    )


LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
T = TypeVar("T")


def patiently(call: Callable[[], T], seconds: float = 80 * SLOWNESS) -> T:
    """Ask again, as sidecars do, for as long as the answer is to come back later; any other error is raised."""
    deadline, said = time.monotonic() + seconds, None
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in LATER or time.monotonic() > deadline:
                raise
            if error.details() != said:
                said = error.details()
                print(f"asked again: {said}", file=sys.stderr)
        time.sleep(0.2)


def _listens(address: Path) -> bool:
    """Costs next to nothing, unlike a call: who starts needs the processor."""
    with socket.socket(socket.AF_UNIX) as knocking:
        return knocking.connect_ex(str(address)) == 0


@dataclass(slots=True)
class Driver:
    """``gluster-csi serve`` as a user starts it. ``directory`` holds its configuration, socket and state."""

    lab: Lab
    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = (sys.executable, "-m", "csi", "serve")
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "csi.sock"

    @property
    def log(self) -> Path:
        return self.directory / "serve.log"

    @property
    def state(self) -> Path:
        return self.directory / "state.db"

    @property
    def config(self) -> Path:
        return self.directory / "config.toml"

    def configure(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        tables: dict[str, Any] = {
            "instance": "lab",
            "endpoint": f"unix://{self.socket}",
            "node_id": "lab-node",
            "state": {"path": str(self.state)},
            "metrics": {"listen": ""},
            "ssh": {
                "user": "root",
                "port": 2222,
                "key_file": str(self.lab.key_file),
                "known_hosts": str(self.lab.known_hosts),
                "connect_timeout": 5.0 * SLOWNESS,
                "keepalive_interval": 1.0 * SLOWNESS,  # a host that is switched off is noticed after four of these
            },
            "snapshots": {"bound": min(10.0 * SLOWNESS, 60.0)},
            "recovery": {"interval": 0.5, "first": 0.5, "longest": 2.0, "grace": 5.0},
            "node": {
                "log_dir": str(self.directory / "log"),
                "staged_dir": str(self.directory / "staged"),
                "servers_cache": str(self.directory / "servers.json"),
            },
        }
        for name, value in self.settings.items():
            if isinstance(value, dict):
                tables.setdefault(name, {}).update(value)
            else:
                tables[name] = value
        lines = [f"{k} = {json.dumps(v)}" for k, v in tables.items() if not isinstance(v, dict)]
        for name, table in tables.items():
            if isinstance(table, dict):
                lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
        self.config.write_text("\n".join(lines) + "\n")
        (self.directory / "topology.json").write_text(json.dumps(self.lab.topology()))

    def start(self, *, topology: bool = True) -> None:
        """Returns when Probe says ready. ``topology``: load the lab's hosts and devices."""
        self.configure()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "--config", str(self.config)], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 40 * SLOWNESS
        while not (_listens(self.socket) and self._is_ready()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"gluster-csi did not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        if topology:
            self.load_topology()

    def _is_ready(self) -> bool:
        with self.client() as client, suppress(grpc.RpcError):
            return client.identity.Probe(pb.ProbeRequest(), timeout=2).ready.value
        return False

    def load_topology(self) -> None:
        """As the command does, by this process: a Python less to start."""
        request = admin.LoadTopologyRequest(topology_json=(self.directory / "topology.json").read_bytes())
        with self.client() as client:
            said = list(admin_rpc.AdminStub(client.channel).LoadTopology(request, timeout=60 * SLOWNESS))
        if any(progress.failed for progress in said):
            raise RuntimeError("\n".join(["topology load failed:", *(one.line for one in said), self.log.read_text()]))

    def topology_command(self) -> str:
        """What ``gluster-csi topology load`` prints."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "csi",
                "topology",
                "load",
                str(self.directory / "topology.json"),
                "--config",
                str(self.config),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60 * SLOWNESS,
        )
        if done.returncode != 0:
            raise RuntimeError(f"topology load failed:\n{done.stdout}{done.stderr}\n{self.log.read_text()}")
        return done.stdout

    def client(self) -> Client:
        return Client(self.socket)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(40 * SLOWNESS)
        self.process = None
        return status

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Client:
    """The three services over one channel."""

    def __init__(self, socket: Path) -> None:
        self.channel = grpc.insecure_channel(f"unix://{socket}", options=[("grpc.default_authority", "localhost")])
        self.identity = rpc.IdentityStub(self.channel)
        self.controller = rpc.ControllerStub(self.channel)
        self.node = rpc.NodeStub(self.channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def create(
        self,
        name: str,
        size: int = GIB,
        parameters: dict[str, str] | None = None,
        timeout: float | None = 60 * SLOWNESS,
    ) -> pb.Volume:
        request = pb.CreateVolumeRequest(
            name=name,
            capacity_range=pb.CapacityRange(required_bytes=size),
            volume_capabilities=[capability()],
            parameters=parameters or {},
        )
        return self.controller.CreateVolume(request, timeout=timeout).volume

    def delete(self, volume_id: str, timeout: float | None = 60 * SLOWNESS) -> None:
        self.controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id=volume_id), timeout=timeout)

    def stage(self, volume: pb.Volume, staging: Path) -> None:
        with suppress(FileExistsError):  # no look at it: a dead mount may be there
            os.mkdir(staging)
        self.node.NodeStageVolume(
            pb.NodeStageVolumeRequest(
                volume_id=volume.volume_id,
                staging_target_path=str(staging),
                volume_capability=capability(),
                volume_context=volume.volume_context,
            ),
            timeout=60 * SLOWNESS,
        )

    def publish(self, volume: pb.Volume, staging: Path, target: Path, *, readonly: bool = False) -> None:
        self.node.NodePublishVolume(
            pb.NodePublishVolumeRequest(
                volume_id=volume.volume_id,
                staging_target_path=str(staging),
                target_path=str(target),
                volume_capability=capability(),
                volume_context=volume.volume_context,
                readonly=readonly,
            ),
            timeout=60 * SLOWNESS,
        )

    def unpublish(self, volume: pb.Volume, target: Path) -> None:
        self.node.NodeUnpublishVolume(
            pb.NodeUnpublishVolumeRequest(volume_id=volume.volume_id, target_path=str(target)), timeout=60 * SLOWNESS
        )

    def unstage(self, volume: pb.Volume, staging: Path) -> None:
        self.node.NodeUnstageVolume(
            pb.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=str(staging)),
            timeout=60 * SLOWNESS,
        )
        os.rmdir(staging)
