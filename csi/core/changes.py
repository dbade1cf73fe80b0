"""What can be changed of a volume after it was made: the mutable parameters (a VolumeAttributesClass).

Options that are not named stay as they are. A copy can be added to a volume with two, whole or as an arbiter;
nothing is ever taken away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from csi.core import options, params
from csi.core.errors import InvalidRequest
from csi.core.model import Durability, Protection, Volume, VolumeSpec

KNOWN = ("arbiter", "profile", "volumeOptions", "volumeType")
_CANONICAL = {name.lower(): name for name in KNOWN}

# Of the groups that GlusterFS brings along, those that are made for one volume's load.
PROFILES = ("db-workload", "distributed-virt", "metadata-cache", "nl-cache", "samba", "virt")

# What may be set on a volume that holds data: not how data lies on the bricks (shards, quorums), nor who may have it.
_KINDS = ("performance.", "diagnostics.")
_NAMES = frozenset(
    {
        "client.event-threads",
        "cluster.background-self-heal-count",
        "cluster.choose-local",
        "cluster.consistent-metadata",
        "cluster.data-self-heal-algorithm",
        "cluster.eager-lock",
        "cluster.heal-timeout",
        "cluster.lookup-optimize",
        "cluster.lookup-unhashed",
        "cluster.min-free-disk",
        "cluster.min-free-inodes",
        "cluster.read-hash-mode",
        "cluster.readdir-optimize",
        "cluster.rebal-throttle",
        "cluster.self-heal-readdir-size",
        "cluster.self-heal-window-size",
        "cluster.shd-max-threads",
        "cluster.shd-wait-qlength",
        "disperse.background-heals",
        "disperse.eager-lock",
        "disperse.heal-wait-qlength",
        "disperse.other-eager-lock",
        "disperse.read-policy",
        "disperse.shd-max-threads",
        "disperse.shd-wait-qlength",
        "features.cache-invalidation",
        "features.cache-invalidation-timeout",
        "network.frame-timeout",
        "network.inode-lru-limit",
        "server.event-threads",
        "server.outstanding-rpc-limit",
        "storage.health-check-interval",
        "storage.health-check-timeout",
        "storage.reserve",
    }
)

# The parts of a spec that a change may have made other than the class of the volume says.
_CHANGEABLE = frozenset({"durability", "options", "profile", "changed"})


@dataclass(frozen=True, slots=True)
class Changes:
    """What is asked for; what is not asked for is None or empty."""

    options: tuple[tuple[str, str], ...] = ()
    profile: str = ""
    volume_type: str = ""
    arbiter: bool | None = None


def parse(parameters: Mapping[str, str]) -> Changes:
    """Raises: InvalidRequest with the known ones, or what a value may be."""
    given: dict[str, str] = {}
    for key, value in parameters.items():
        name = _CANONICAL.get(key.lower())
        if name is None:
            raise InvalidRequest("mutable_parameters", key, f"the known ones are {', '.join(KNOWN)}")
        if name in given:
            raise InvalidRequest("mutable_parameters", key, "each once, however it is spelled")
        given[name] = value.strip(" \t\r\n")
    profile = given.get("profile", "")
    if "profile" in given and profile not in PROFILES:
        raise InvalidRequest("mutable parameter profile", profile, f"one of {', '.join(PROFILES)}")
    found = options.parse(given.get("volumeOptions", ""))
    for name in (*(pair[0] for pair in found.settings), *found.heketi):
        if not (name.startswith(_KINDS) or name in _NAMES):
            raise InvalidRequest(
                "mutable parameter volumeOptions",
                name,
                f"options that begin with {' or '.join(_KINDS)}, and {', '.join(sorted(_NAMES))}",
            )
    arbiter = params.boolean("arbiter", given["arbiter"]) if "arbiter" in given else None
    if "volumeType" in given:
        params.durability(given["volumeType"], arbiter=bool(arbiter))
    return Changes(found.settings, profile, given.get("volumeType", ""), arbiter)


def made_with(spec: VolumeSpec, asked: Changes) -> VolumeSpec:
    """The class of a volume that is to be made, with what is asked for in place of what the class says."""
    durability = spec.durability
    if asked.volume_type or asked.arbiter is not None:
        text = asked.volume_type or ("replicate:3" if asked.arbiter else _type(durability))
        arbiter = durability.arbiter and not asked.volume_type if asked.arbiter is None else asked.arbiter
        durability = params.durability(text, arbiter=arbiter)
    return replace(
        spec,
        durability=durability,
        options=tuple({**dict(spec.options), **dict(asked.options)}.items()),
        profile=asked.profile or spec.profile,
    )


def changed(volume: Volume, asked: Changes) -> VolumeSpec:
    """The spec of the volume after the change; the same if it is so already. Raises: InvalidRequest."""
    before = volume.spec
    wanted = made_with(before, asked)
    if wanted.durability != before.durability:
        _check_copies(volume, wanted.durability)
    return wanted if wanted == before else replace(wanted, changed=before.changed + 1)


def _check_copies(volume: Volume, wanted: Durability) -> None:
    """Raises: InvalidRequest unless it is one copy more."""
    now = volume.spec.durability
    pair = now.protection is Protection.REPLICATE and now.set_size == 2
    if not (pair and wanted.protection is Protection.REPLICATE and wanted.set_size == 3):
        raise InvalidRequest(
            "mutable parameters volumeType, arbiter",
            str(wanted),
            f"this volume is {now}; only replicate:2 can be changed, into replicate:3 with an arbiter or without",
        )
    if volume.set_count > 1:
        raise InvalidRequest(
            "mutable parameters volumeType, arbiter",
            str(wanted),
            f"this volume has {volume.set_count} sets of bricks: gluster adds a copy to volumes of one set only",
        )


def differences(found: VolumeSpec, asked: VolumeSpec) -> list[str]:
    """What of ``found`` is not as ``asked``, but for what was changed since and where the bricks lie."""
    passed_over = {"zones", "changed"} | (_CHANGEABLE if found.changed else set())
    return [
        f"{field.name} is {getattr(found, field.name)!r}, asked for {getattr(asked, field.name)!r}"
        for field in fields(VolumeSpec)
        if field.name not in passed_over and getattr(found, field.name) != getattr(asked, field.name)
    ]


def _type(durability: Durability) -> str:
    return str(durability).removesuffix(" arbiter")
