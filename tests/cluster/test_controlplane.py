"""The API server of the tests: real, several at a time, gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.lab.system import LabError, alive, command_line, processes, wait_for

pytestmark = pytest.mark.cluster


def of_directory(directory: Path) -> list[int]:
    """Processes that name a path below it."""
    return [pid for pid in processes() if alive(pid) and any(str(directory) in word for word in command_line(pid))]


def test_it_serves_and_asks_who_may(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "namespace", "seen")
    try:
        named = json.loads(control_plane.kubectl("get", "namespace", "seen", "-o", "json").stdout)
        assert named["metadata"]["name"] == "seen"
        denied = control_plane.kubectl("auth", "can-i", "list", "secrets", "--as=somebody", check=False)
        assert denied.stdout.strip() == "no"
    finally:
        control_plane.kubectl("delete", "namespace", "seen", "--wait=false")


def test_two_side_by_side_share_nothing(control_plane: ControlPlane, tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as other:
        assert other.url != control_plane.url
        other.kubectl("create", "configmap", "mine")
        assert "mine" not in control_plane.kubectl("get", "configmaps").stdout
        with pytest.raises(LabError, match="Unauthorized"):
            control_plane.kubectl("get", "configmaps", f"--token={other.token}")


def test_down_leaves_nothing(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path)
    plane.up()
    assert len(of_directory(tmp_path)) == 2
    plane.down()
    assert of_directory(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    plane.down()  # a second time is harmless


def test_what_was_written_outlives_the_api_server(tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as plane:
        plane.kubectl("create", "configmap", "kept")
        plane.kill("kube-apiserver")
        plane.kill("etcd")
        assert plane.kubectl("get", "configmap", "kept", check=False).returncode != 0
        plane.start("etcd")
        plane.start("kube-apiserver")
        plane.wait_until_ready()
        assert "kept" in plane.kubectl("get", "configmap", "kept").stdout


def test_a_killed_session_leaves_no_process_and_the_next_one_clears_its_files(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from tests.cluster.controlplane import ControlPlane
        ControlPlane(Path(sys.argv[1])).up()
        print("up", flush=True)
        time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "up\n"
        left = [pid for pid in of_directory(tmp_path) if pid != session.pid]
        assert len(left) == 2
        os.kill(session.pid, signal.SIGKILL)
    wait_for("end of etcd and kube-apiserver", lambda: not any(alive(pid) for pid in left), 10)
    with ControlPlane(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1


def test_a_port_that_is_taken_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody binds the chosen port before etcd does."""
    from tests.cluster import controlplane

    with ControlPlane(tmp_path) as first:
        taken = int(first.url.rpartition(":")[2])
        choices = iter([[taken, *controlplane._free_ports(2)]])
        honest = controlplane._free_ports
        monkeypatch.setattr(controlplane, "_free_ports", lambda count: next(choices, None) or honest(count))
        began = time.monotonic()
        with ControlPlane(tmp_path) as second:
            assert second.url != first.url
            assert second.kubectl("get", "namespaces").returncode == 0
        assert time.monotonic() - began < 60
