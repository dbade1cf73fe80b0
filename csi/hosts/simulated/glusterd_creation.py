"""The words of ``volume create``, as the tool of a simulated host reads them."""

from __future__ import annotations

from collections.abc import Sequence

from csi.hosts.simulated import glusterd_answers as answers


def creation(words: Sequence[str]) -> tuple[str, answers.Counts, tuple[tuple[str, str], ...]]:
    """Name, counts and bricks of ``volume create``. Raises: ValueError for what the tool refuses by itself."""
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
    counts = answers.Counts(
        numbers["replica"], numbers["arbiter"], numbers["disperse-data"] + numbers["redundancy"], numbers["redundancy"]
    )
    if not bricks or len(bricks) % counts.set_size:
        raise ValueError(f"number of bricks is not a multiple of {'disperse' if counts.disperse else 'replica'} count")
    return name, counts, tuple(bricks)
