"""Words of the commands that the simulated glusterd takes, as its command line reads them."""

from __future__ import annotations

from collections.abc import Sequence

from csi.hosts.simulated.glusterd_answers import Counts, SimulatedVolume
from csi.hosts.simulated.glusterd_pool import RefusedError

Bricks = tuple[tuple[str, str], ...]

# What the names of options begin with.
OPTION_DOMAINS = (
    "auth changelog client cluster config diagnostics disperse features ganesha geo-replication locks network nfs "
    "performance rebalance server ssl storage transport user"
)


def creation(words: Sequence[str]) -> tuple[str, Counts, Bricks]:
    """Name, counts and bricks of ``volume create``. Raises: ValueError for what the tool refuses by itself."""
    name, counts, bricks = _read(words)
    if not bricks or len(bricks) % counts.set_size:
        raise ValueError(f"number of bricks is not a multiple of {'disperse' if counts.disperse else 'replica'} count")
    return name, counts, bricks


def addition(words: Sequence[str]) -> tuple[str, Counts, Bricks]:
    """The same of ``volume add-brick``."""
    return _read(words)


def arranged(volume: SimulatedVolume, counts: Counts, bricks: Bricks) -> tuple[Bricks, Counts]:
    """The bricks of the volume, set by set, with those that come, and what makes a set then.

    Raises: RefusedError.
    """
    if counts.replica <= volume.counts.replica:
        if len(bricks) % volume.set_size:
            raise RefusedError(f"Incorrect number of bricks supplied {len(bricks)} with count {volume.set_size}", 0)
        return (*volume.bricks, *bricks), volume.counts
    width = volume.set_size
    sets = [volume.bricks[first : first + width] for first in range(0, len(volume.bricks), width)]
    if len(sets) > 1:  # as 10.3 does, whatever hosts they are on
        raise RefusedError(
            "Multiple bricks of a replicate volume are present on the same server. This setup is not optimal. "
            "Bricks should be on different nodes to have best fault tolerant configuration. Use 'force' at the end "
            "of the command if you want to override this behavior. "
        )
    if len(bricks) != (counts.replica - width) * len(sets):
        raise RefusedError(f"Incorrect number of bricks supplied {len(bricks)} with count {width}", 0)
    return (*sets[0], *bricks), counts


def _read(words: Sequence[str]) -> tuple[str, Counts, Bricks]:
    name, rest = words[0], list(words[1:])
    numbers = {"replica": 1, "arbiter": 0, "disperse-data": 0, "redundancy": 0}
    while len(rest) > 1 and rest[0] in numbers:
        numbers[rest[0]] = int(rest[1])
        del rest[:2]
    bricks = []
    for word in rest:
        address, colon, path = word.partition(":")
        if not (address and colon and path.startswith("/")):
            raise ValueError(f"Wrong brick type: {word}, use <HOSTNAME>:<export-dir-abs-path>")
        bricks.append((address, path))
    counts = Counts(
        numbers["replica"], numbers["arbiter"], numbers["disperse-data"] + numbers["redundancy"], numbers["redundancy"]
    )
    return name, counts, tuple(bricks)
