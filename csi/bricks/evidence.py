"""What is told when something on a host says that it is not the brick that it should be."""

from __future__ import annotations

from csi.bricks import identity
from csi.core.errors import Incoherent
from csi.core.model import BrickIdentity, Host, PlacedBrick


def incoherent(
    host: Host, placed: PlacedBrick | None, path: str, said: str, found: BrickIdentity | None = None
) -> Incoherent:
    """``path`` on the host said ``said``; ``found`` is who that is, if it is not JSON."""
    wanted = f"brick {placed.brick.id} of volume {placed.identity.volume_name!r}" if placed else "a brick of ours"
    found = found or identity.read_brick(said)
    if found is not None:
        evidence = (
            f"says volume {found.volume_name!r} ({found.volume_id}), brick {found.brick.id}, set {found.brick.set}, "
            f"index {found.brick.index}, instance {found.instance!r}"
        )
    elif said:
        evidence = f"holds no identity but {said[:120]!r}"
    else:
        evidence = "is there without a tag that says whose it is"
    return Incoherent(
        f"host {host.manage}: {path} should belong to {wanted}, but {evidence}; nothing was changed there: compare "
        f"the identity files on the volume's hosts and put the right one back, or remove the brick by hand"
    )
