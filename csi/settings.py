"""The settings: what each means, its default and its bounds. ``config.py`` reads them.

Sizes are bytes (a text may say 4Gi), times are seconds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from csi.core.errors import ConfigInvalid
from csi.settingvalues import AbsolutePath, Bytes, Listen, OptionalPath, Seconds, text


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class State(Section):
    backend: Literal["sqlite", "kubernetes"] = Field(
        default="sqlite",
        description="Where the records are kept: in a file, or in custom resources, with which two controllers can "
        "stand by for each other.",
    )
    path: AbsolutePath = Field(
        default=Path("/var/lib/gluster-csi/state.db"),
        description="The state file. Its directory must exist; it has to be on a local file system.",
    )


class Kubernetes(Section):
    kubeconfig: str = Field(
        default="", description="How the API server is reached; empty: with the pod's own service account."
    )
    namespace: Annotated[str, text(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?", "the name of a namespace")] = Field(
        default="", description="Of the Lease; empty: the pod's own."
    )
    lease: Annotated[str, text(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", "the name of a Lease")] = Field(
        default="gluster-csi-controller", description="The Lease whose holder acts; the other controllers stand by."
    )
    lease_seconds: float = Field(
        default=15.0, ge=1, le=3600, description="Seconds without a renewal after which a standby takes over."
    )
    renew_seconds: Seconds = Field(
        default=10.0, description="Seconds without a renewal after which the holder stops acting; less than the lease."
    )
    retry_seconds: Seconds = Field(default=2.0, description="Seconds between two renewals, and two looks of a standby.")


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level that is written."
    )
    format: Literal["json", "text"] = Field(default="json", description="json for collectors of logs, text for people.")


class Metrics(Section):
    listen: Listen = Field(
        default="127.0.0.1:9080",
        description="HOST:PORT or :PORT of the Prometheus metrics; empty: none. They need no password, so only this "
        "machine by default.",
    )


class Health(Section):
    listen: Listen = Field(
        default="",
        description="HOST:PORT or :PORT of gRPC health for a kubelet's probes; empty: none. The socket has it always.",
    )


class Ssh(Section):
    user: Annotated[str, text(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", "the name of a user")] = Field(
        default="root", description="Who logs in on the hosts."
    )
    port: int = Field(default=22, ge=1, le=65535, description="Unless a host's managed name says another one.")
    key_file: str = Field(default="", description="The private key, without a pass phrase.")
    known_hosts: str = Field(default="", description="The hosts' public keys; empty: ~/.ssh/known_hosts.")
    sudo: bool = Field(default=False, description="Whether commands need 'sudo -n' because the user is not root.")
    insecure_host_keys: bool = Field(
        default=False,
        description="Do not look at host keys. Whoever can answer in a host's place then gets to be that host.",
    )
    connect_timeout: Seconds = Field(
        default=5.0, description="Seconds for connection, key exchange and login together."
    )
    keepalive_interval: Seconds = Field(
        default=5.0, description="Seconds; a connection silent for three more is given up."
    )
    sessions: int = Field(
        default=8,
        ge=2,
        le=1000,
        description="Sessions at once per host; sshd's MaxSessions is 10, two stay free for people.",
    )


class Hosts(Section):
    runner: Literal["ssh", "local", "kube"] = Field(
        default="ssh",
        description="How commands reach the hosts; local: this machine is the only host; kube: the hosts are pods.",
    )
    term: int = Field(
        default=0,
        ge=0,
        le=10**9,
        description="Without a Lease, the term that hosts are told; a refusal by one names the number to set.",
    )


class KubeHosts(Section):
    namespace: Annotated[str, text(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "the name of a namespace")] = Field(
        default="gluster-csi", description="Where the gluster pods run."
    )
    selector: str = Field(
        default="app.kubernetes.io/component=gluster-server", description="The labels of the gluster pods."
    )
    container: str = Field(default="", description="The container that runs glusterd; empty: the pod's default.")
    sessions: int = Field(default=8, ge=2, le=1000, description="Shells and programs at once per pod.")


class GlusterCommands(Section):
    sessions: int = Field(default=4, ge=1, le=64, description="Sessions of the gluster command at once per host.")
    query_timeout: Seconds = Field(default=30.0, description="Seconds for a question.")
    change_timeout: Seconds = Field(default=60.0, description="Seconds for a change.")
    start_timeout: Seconds = Field(default=30.0, description="Seconds until the bricks of a started volume are online.")
    join_timeout: Seconds = Field(default=15.0, description="Seconds until a new peer is known to the whole pool.")
    lock_patience: Seconds = Field(default=30.0, description="Seconds of waiting for a volume that others keep locked.")


class Placement(Section):
    min_brick: Bytes = Field(
        default=1 << 30, ge=1 << 20, description="Bytes; a volume is not split into smaller bricks."
    )
    max_brick: Bytes = Field(
        default=4 << 40, ge=1 << 20, description="Bytes; a larger share is split over more sets of bricks."
    )
    max_bricks: int = Field(
        default=256,
        ge=1,
        le=1024,
        description="Bricks of one volume, redundancy included. Many let a volume use what is left in pieces.",
    )


class Gids(Section):
    rest_seconds: float = Field(
        default=3600.0,
        ge=0,
        le=10**9,
        allow_inf_nan=False,
        description="Seconds that a freed GID rests: a pod that outlives its volume must not reach the next one.",
    )
    annotate: bool = Field(
        default=True,
        description="Whether PersistentVolumes get the annotation with their GID where they lack it, and pods that "
        "run without it are told of; only with state.backend 'kubernetes'.",
    )


class Recovery(Section):
    interval: Seconds = Field(default=5.0, description="Seconds between two looks at unfinished operations.")
    grace: float = Field(
        default=60.0,
        ge=0,
        le=86400,
        description="Seconds after the start in which callers may take up what they had begun.",
    )
    first: Seconds = Field(
        default=5.0, description="Seconds before the first repetition of what failed; doubled each time."
    )
    settle: float = Field(
        default=180.0,
        ge=0,
        le=86400,
        description="Seconds after a change of the controller for which glusterd may still carry out what the one "
        "before had asked; what that one left to be undone is undone once more after them.",
    )
    longest: Seconds = Field(default=300.0, description="Seconds between two repetitions at most.")


class TopologyFile(Section):
    file: Path | None = Field(default=None, description="A topology file that is loaded at each start.")
    zones: bool = Field(
        default=False,
        description="Whether zones are announced to Kubernetes: volumes then keep to the zones that it asks for.",
    )


class Bricks(Section):
    fstab: Annotated[str, text(r"(/[A-Za-z0-9_.-]+)+", "an absolute path of letters, digits and _ . - /")] = Field(
        default="/etc/fstab", description="Where bricks are entered on the hosts, to be mounted after a reboot."
    )
    pool_interval: Seconds = Field(default=60.0, description="Seconds between two looks at how full thin pools are.")
    pool_limit: float = Field(default=80.0, ge=1, le=100, description="Percent from which a thin pool is warned of.")
    pool_refusing: Literal["over-committed", "all"] = Field(
        default="over-committed",
        description="Of which thin pools the data counts, for refusing new bricks and for extending: of those that "
        "can't hold all that is promised in them, or of all. Metadata counts always.",
    )
    pool_autoextend_threshold: float = Field(
        default=100.0, ge=50, le=100, description="Percent from which a thin pool is extended; 100: never."
    )
    pool_autoextend_percent: float = Field(default=20.0, gt=0, le=1000, description="By how much, in percent of it.")


class Snapshots(Section):
    per_volume: int = Field(default=64, ge=0, le=10000, description="How many snapshots one volume may have.")
    bound: float = Field(
        default=10.0,
        ge=1,
        le=60,
        description="Seconds for which writers may be held up while bricks are copied; the hosts end it then. "
        "It is a fraction of a second, if little is waiting to be written.",
    )


class Node(Section):
    mount_timeout: Seconds = Field(default=90.0, description="Seconds for a mount to come up.")
    stat_timeout: Seconds = Field(
        default=20.0,
        description="Seconds until a mount that does not answer is given up; longer than a vanished host stalls it.",
    )
    log_dir: AbsolutePath = Field(default=Path("/var/log/gluster-csi"), description="Where the logs of the mounts go.")
    registration_dir: OptionalPath = Field(
        default=None,
        description="The kubelet's plugins_registry, where the node plug-in makes itself known; empty: it does not.",
    )
    kubelet_socket: OptionalPath = Field(
        default=None,
        description="The path of the CSI socket as the kubelet sees it; empty: that of the endpoint.",
    )
    mounts_socket: Annotated[
        str, text(r"(/[^\x00-\x20]{1,105})?", "an absolute path of up to 106 bytes, or nothing")
    ] = Field(
        default="",
        description="The socket of the daemon that holds the GlusterFS clients (gluster-csi mounts); empty: they are "
        "started directly.",
    )
    watch_interval: Seconds = Field(
        default=10.0, description="Seconds between two looks for clients that have died, to replace them."
    )
    staged_dir: AbsolutePath = Field(
        default=Path("/run/gluster-csi/staged"),
        description="Where the node remembers until its next reboot how its volumes were mounted.",
    )
    servers_cache: AbsolutePath = Field(
        default=Path("/var/lib/gluster-csi/servers.json"),
        description="The present servers of each cluster, asked before those that a PersistentVolume names.",
    )
    zone: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="The zone of this node, numbered as those of the hosts; 0: none. Needed with topology.zones.",
    )


class Mounts(Section):
    socket: Annotated[str, text(r"/[^\x00-\x20]{1,105}", "an absolute path of at most 106 bytes")] = Field(
        default="/run/gluster-csi/mounts.sock", description="The socket of the daemon that holds the GlusterFS clients."
    )
    roots: Annotated[
        str, text(r"/[^\x00:]*[^\x00:/](:/[^\x00:]*[^\x00:/])*", "absolute paths with ':' between them")
    ] = Field(
        default="/var/lib/kubelet",
        description="Directories, with ':' between them; the daemon mounts below them only.",
    )


class Shutdown(Section):
    grace: float = Field(
        default=20.0,
        ge=0,
        le=600,
        description="Seconds that running operations get to end; what is left is taken up at the start.",
    )


class Settings(Section):
    """All settings. Make one with ``config.load``."""

    # Letters at both ends: csi-sanity asks for them, the specification would take digits too.
    driver_name: Annotated[
        str,
        text(r"[A-Za-z]([A-Za-z0-9.-]{0,61}[A-Za-z])?", "at most 63 letters, digits, '.', '-', a letter at both ends"),
    ] = Field(default="csi.gluster.org", description="The name that StorageClasses know the driver by.")
    instance: Annotated[
        str, text(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "at most 63 small letters, digits and, between them, '-'")
    ] = Field(
        default="default",
        description="This installation. Written on every brick: bricks of another instance are never touched.",
    )
    endpoint: Annotated[
        # The kernel takes 107 bytes for the path of a socket.
        str, text(r"unix:///[^\x00-\x20]{1,106}", "unix:///PATH of a socket, the path of at most 107 bytes")
    ] = Field(default="unix:///run/gluster-csi/csi.sock", description="The socket of the gRPC services.")
    node_id: Annotated[
        str,
        text(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?", "at most 128 letters, digits and, between them, _ . -"),
    ] = Field(
        default_factory=socket.gethostname,
        validate_default=True,
        description="The name of this node, the same as Kubernetes' own; the host name by default.",
    )
    state: State = Field(default_factory=State)
    kubernetes: Kubernetes = Field(default_factory=Kubernetes)
    log: Log = Field(default_factory=Log)
    metrics: Metrics = Field(default_factory=Metrics)
    health: Health = Field(default_factory=Health)
    ssh: Ssh = Field(default_factory=Ssh)
    hosts: Hosts = Field(default_factory=Hosts)
    kube_hosts: KubeHosts = Field(default_factory=KubeHosts)
    gluster: GlusterCommands = Field(default_factory=GlusterCommands)
    placement: Placement = Field(default_factory=Placement)
    gids: Gids = Field(default_factory=Gids)
    recovery: Recovery = Field(default_factory=Recovery)
    topology: TopologyFile = Field(default_factory=TopologyFile)
    bricks: Bricks = Field(default_factory=Bricks)
    snapshots: Snapshots = Field(default_factory=Snapshots)
    node: Node = Field(default_factory=Node)
    mounts: Mounts = Field(default_factory=Mounts)
    shutdown: Shutdown = Field(default_factory=Shutdown)

    @field_validator("endpoint", mode="before")
    @classmethod
    def _as_url(cls, endpoint: object) -> object:
        """Sidecars also write ``unix:/path`` and a bare path."""
        if isinstance(endpoint, str) and (path := endpoint.removeprefix("unix:")).startswith("/"):
            return "unix:///" + path.lstrip("/")
        return endpoint

    def check(self, role: str) -> None:
        """What only this machine can tell, for the role ``serve``, ``controller``, ``node`` or ``mounts``.

        Raises: ConfigInvalid with every problem.
        """
        problems = list(self._contradictions())
        if role not in ("node", "mounts"):
            problems += self._missing_of_controller()
        if problems:
            raise ConfigInvalid(problems)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works but should be known."""
        if self.hosts.runner == "ssh" and self.ssh.insecure_host_keys:
            return ("ssh.insecure_host_keys is on: hosts are not authenticated; give ssh.known_hosts instead",)
        return ()

    def _contradictions(self) -> Iterator[str]:
        if self.placement.min_brick > self.placement.max_brick:
            yield (
                f"placement.min_brick {self.placement.min_brick} must not be above "
                f"placement.max_brick {self.placement.max_brick}"
            )
        if self.recovery.first > self.recovery.longest:
            yield (
                f"recovery.first {self.recovery.first:g} must not be above recovery.longest {self.recovery.longest:g}"
            )
        times = self.kubernetes
        if not times.lease_seconds > times.renew_seconds > times.retry_seconds:
            yield (
                f"kubernetes.lease_seconds {times.lease_seconds:g} must be above renew_seconds "
                f"{times.renew_seconds:g}, and that above retry_seconds {times.retry_seconds:g}"
            )

    def _missing_of_controller(self) -> Iterator[str]:
        if self.state.backend == "kubernetes" and self.kubernetes.kubeconfig:
            yield from _unreadable("kubernetes.kubeconfig", self.kubernetes.kubeconfig)
        if self.state.backend == "sqlite" and not os.access(self.state.path.parent, os.W_OK | os.X_OK):
            yield f"state.path {str(self.state.path)!r}: its directory must exist and be writable"
        if self.topology.file is not None:
            yield from _unreadable("topology.file", str(self.topology.file))
        if self.hosts.runner != "ssh":
            return
        if not self.ssh.key_file:
            yield "ssh.key_file is not set: hosts.runner 'ssh' needs a private key (or set hosts.runner to 'local')"
        else:
            yield from _unreadable("ssh.key_file", self.ssh.key_file)
        if not self.ssh.insecure_host_keys:
            yield from _unreadable("ssh.known_hosts", self.ssh.known_hosts or "~/.ssh/known_hosts")


def _unreadable(name: str, path: str) -> Iterator[str]:
    found = Path(path).expanduser()
    if not found.is_file() or not os.access(found, os.R_OK):
        yield f"{name} {path!r}: there is no such file, or it can't be read"
