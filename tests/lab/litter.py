"""Things that a test can leave behind, made on purpose: for the tests of the laboratory."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab.daemons import GLUSTER
from tests.lab.pool import Lab, LabHost

BRICK = "0123456789abcdef0123456789abcdef"
DEVICE = "f" * 32
BRICK_MOUNT = f"/var/lib/gluster-csi/bricks/{DEVICE}/{BRICK}"


def make_volume(lab: Lab, host: LabHost) -> None:
    """A real volume of one brick, started."""
    lab.run(host, [*GLUSTER, "volume", "create", "left", f"{host.address}:/srv/d0/brick"])
    lab.run(host, [*GLUSTER, "volume", "start", "left"])


def make_brick(lab: Lab, host: LabHost) -> None:
    image = f"/srv/d0/{BRICK}.img"
    lab.run(host, ["mkdir", "-p", BRICK_MOUNT])
    lab.run(host, ["chattr", "+i", BRICK_MOUNT])
    lab.run(
        host, ["sh", "-c", f"truncate -s 400M {image} && mkfs.xfs -q {image} && mount -o loop {image} {BRICK_MOUNT}"]
    )


def _say(script: str) -> Callable[[Lab, LabHost], None]:
    return lambda lab, host: (lab.run(host, ["sh", "-c", script]), None)[1]


LEFTOVERS: dict[str, tuple[Callable[[Lab, LabHost], None], list[str]]] = {
    "volume": (
        make_volume,
        ["gluster volume left", "brick process: /usr/sbin/glusterfsd", "file /srv/d0/brick"],
    ),
    "brick": (
        make_brick,
        [f"mount {BRICK_MOUNT} of /dev/loop", f"/srv/d0/{BRICK}.img", f"brick directory {BRICK_MOUNT}", "loop device"],
    ),
    "image": (_say(f"truncate -s 1G /srv/d1/{BRICK}.img"), [f"image /srv/d1/{BRICK}.img"]),
    "sidecar": (_say(f"echo {{}} > /srv/d0/{BRICK}.json"), [f"file /srv/d0/{BRICK}.json"]),
    "loop device": (
        _say(f"truncate -s 64M /srv/d0/{BRICK}.img && losetup -f /srv/d0/{BRICK}.img"),
        ["loop device /dev/loop", f"image /srv/d0/{BRICK}.img"],
    ),
    "fstab": (
        _say(f"echo '/srv/d0/{BRICK}.img {BRICK_MOUNT} xfs loop,nofail 0 0' >> /etc/fstab; touch /etc/fstab.part"),
        [f"fstab line: /srv/d0/{BRICK}.img", "file /etc/fstab.part"],
    ),
    "brick directory": (
        _say(f"mkdir -p {BRICK_MOUNT} && chattr +i {BRICK_MOUNT}"),
        [f"brick directory {BRICK_MOUNT}"],
    ),
    "orphan": (
        _say("(sh -c 'while :; do sleep 3600; done' >/dev/null 2>&1 </dev/null &)"),
        ["orphaned process: sh -c"],
    ),
    "unmounted device": (
        _say("umount /srv/d1 && touch /srv/d1/lost /srv/beside"),
        ["device /srv/d1 is not mounted", "under the devices: /srv/d1/lost", "under the devices: /srv/beside"],
    ),
}
