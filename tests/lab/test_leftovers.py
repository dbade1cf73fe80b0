"""The laboratory names what a test leaves behind, removes it, and fails the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.lab.daemons import GLUSTER
from tests.lab.litter import BRICK, LEFTOVERS, make_volume

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_leftovers_are_seen_and_swept(kind: str, clean_lab: Lab) -> None:
    make, expected = LEFTOVERS[kind]
    host = clean_lab.hosts[1]
    assert clean_lab.leftovers() == []
    make(clean_lab, host)
    found = clean_lab.leftovers(patience=0)
    for text in expected:
        assert any(line.startswith("host2: ") and text in line for line in found), f"{text} is not in {found}"
    clean_lab.sweep()
    assert clean_lab.leftovers() == []


def test_a_client_mount_is_seen_and_swept(clean_lab: Lab, tmp_path: Path) -> None:
    host = clean_lab.hosts[1]
    make_volume(clean_lab, host)
    subprocess.run(["mount", "-t", "glusterfs", f"{host.address}:/left", tmp_path], check=True, timeout=20)
    found = clean_lab.leftovers(patience=0)
    assert f"this machine: mount {tmp_path} of {host.address}:/left" in found
    assert any(line.startswith("this machine: client process") and host.address in line for line in found)
    subprocess.run(["umount", "--lazy", tmp_path], check=True)
    clean_lab.sweep()
    assert clean_lab.leftovers() == []


def test_a_volume_is_swept_though_a_peer_is_off(clean_lab: Lab) -> None:
    """glusterd refuses to delete it then, and the peer would bring it back: so it is switched on first."""
    one, two, _ = clean_lab.hosts
    make_volume(clean_lab, two)
    clean_lab.kill(one)
    left = clean_lab.leftovers(patience=0)
    assert {"host1: powered off", "host2: gluster volume left"} <= set(left)
    clean_lab.sweep()
    assert clean_lab.leftovers() == []
    assert "No volumes" in clean_lab.run(two, [*GLUSTER, "volume", "list"], check=False).stderr


def test_the_mark_of_a_device_is_no_leftover(clean_lab: Lab) -> None:
    clean_lab.run("host1", ["sh", "-c", "echo claimed > /srv/d0/.gluster-csi-device.json"])
    assert clean_lab.leftovers() == []
    clean_lab.sweep()
    assert clean_lab.run("host1", ["cat", "/srv/d0/.gluster-csi-device.json"]).stdout == "claimed\n"
    clean_lab.run("host1", ["rm", "/srv/d0/.gluster-csi-device.json"])


def test_the_fixture_fails_what_leaves_something_and_spares_the_next(tmp_path: Path) -> None:
    (tmp_path / "test_dirty.py").write_text(
        "def test_one(clean_lab):\n"
        f"    clean_lab.run('host1', ['touch', '/srv/d0/{BRICK}.img'])\n"
        "    clean_lab.cut('host2')\n"
        "def test_two(clean_lab):\n"
        "    assert clean_lab.leftovers() == []\n"
        "    assert not clean_lab.is_cut('host2')\n"
    )
    words = ["pytest", "-q", "-p", "tests.lab.fixtures", "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)]
    impatient = {**os.environ, "LAB_LINGERING": "0"}
    done = subprocess.run(
        [sys.executable, "-m", *words], text=True, capture_output=True, check=False, timeout=120, env=impatient
    )
    assert "2 passed, 1 error" in done.stdout
    assert f"host1: image /srv/d0/{BRICK}.img" in done.stdout
