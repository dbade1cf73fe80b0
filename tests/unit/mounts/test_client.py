"""The client process: its arguments, its log, and whether a pid file tells the truth."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from csi.core.errors import MountFailed
from csi.mountports import MountSource
from csi.mounts import processes
from csi.mounts.client import Client

SOURCE = MountSource(("a", "b"), "vol_1", ping_timeout=7, flags=("--acl",))

# As glusterfs 10.3 wrote them.
LOG = """\
[2026-11-23 22:26:24.893377 +0000] E [MSGID: 101075] [common-utils.c:519:gf_resolve_ip6] 0-resolver: error in getaddrinfo [{family=2}, {ret=Name or service not known}]
[2026-11-23 22:26:24.906264 +0000] E [glusterfsd-mgmt.c:2170:mgmt_getspec_cbk] 0-glusterfs: failed to get the 'volume file' from server
[2026-11-23 22:26:24.906306 +0000] E [glusterfsd-mgmt.c:2371:mgmt_getspec_cbk] 0-mgmt: failed to fetch volume file (key:/nope)
[2026-11-23 22:26:24.906307 +0000] E [glusterfsd-mgmt.c:2371:mgmt_getspec_cbk] 0-mgmt: failed to fetch volume file (key:/nope)
[2026-11-23 22:26:24.906480 +0000] W [glusterfsd.c:1458:cleanup_and_exit] (-->/lib/x86_64-linux-gnu/libgfrpc.so.0(+0xfcc2) [0x7f6865]) 0-: received signum (0), shutting down
  1: volume va-client-0
"""  # noqa: E501


def test_arguments(tmp_path: Path) -> None:
    argv = Client(tmp_path, "vol_1", "/mnt/x").argv(SOURCE)
    assert argv[:6] == (
        *("glusterfs", "--process-name", "fuse"),
        *("--volfile-server=a", "--volfile-server=b", "--volfile-id=/vol_1"),
    )
    assert "--xlator-option=*-client-*.ping-timeout=7" in argv
    assert argv[-2:] == ("--acl", "/mnt/x")


def test_names_tell_the_volume_and_differ_by_target(tmp_path: Path) -> None:
    one, other = Client(tmp_path, "vol_1", "/mnt/x"), Client(tmp_path, "vol_1", "/mnt/y")
    assert one.log.name.startswith("vol_1-")
    assert len({one.log, one.pid_file, other.log, other.pid_file}) == 4
    assert len(Client(tmp_path, "v", "/" + "x" * 4000).log.name) < 64


def test_the_last_two_different_errors(tmp_path: Path) -> None:
    client = Client(tmp_path, "vol_1", "/mnt/x")
    client.log.write_text(LOG)
    assert client.complaints(0) == (
        "failed to get the 'volume file' from server; failed to fetch volume file (key:/nope)"
    )
    assert client.complaints(client.prepare()) == ""  # what an earlier mount said is not repeated
    client.forget(log=True)
    assert client.complaints(0) == ""


def test_a_start_that_was_cut_off_leaves_a_trace(tmp_path: Path) -> None:
    client = Client(tmp_path, "vol_1", "/mnt/x")
    assert not client.may_run()
    client.prepare()
    assert client.may_run()
    client.confirm()
    assert not client.may_run()
    client.pid_file.touch()  # of one that crashed
    assert client.may_run()
    client.forget(log=False)
    assert not client.may_run()


def test_a_log_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountFailed, match=r"log directory .*/file/logs cannot be used"):
        Client(tmp_path / "file" / "logs", "v", "/m").prepare()


async def test_a_pid_file_is_believed_only_if_the_process_says_so(tmp_path: Path) -> None:
    client = Client(tmp_path, "vol_1", "/mnt/x")
    with client.process() as found:
        assert found is None
    sleeper = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(sleeper, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        client.pid_file.write_text(f"{stranger.pid}\n")
        with client.process() as found:
            assert found is None
        assert stranger.poll() is None
        stranger.kill()
    with subprocess.Popen([*sleeper, f"--pid-file={client.pid_file}", "/mnt/x"], stdout=subprocess.PIPE) as ours:
        assert ours.stdout is not None
        ours.stdout.readline()
        client.pid_file.write_text(f"{ours.pid}\n")
        with client.process() as found:
            assert found is not None
            assert not await found.gone(0.05)
            assert await found.end(5)
            assert await found.gone(5)  # a zombie, that nobody has collected
        assert ours.wait() == -signal.SIGTERM


async def test_all_that_was_started_for_a_mount_is_ended(tmp_path: Path) -> None:
    """One that ignores a request, and a child of it: neither has a pid file."""
    client, other = Client(tmp_path, "vol_1", "/mnt/x"), Client(tmp_path, "vol_1", "/mnt/y")
    code = (
        "import os, signal, sys, time\n"
        "os.fork(); signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(1, b'.'); time.sleep(60)"
    )

    def start(owner: Client) -> subprocess.Popen[bytes]:
        started = subprocess.Popen([sys.executable, "-c", code, f"--pid-file={owner.pid_file}"], stdout=subprocess.PIPE)
        assert started.stdout is not None
        assert started.stdout.read(2) == b".."
        return started

    with start(client) as ours, start(other) as theirs:
        assert len(processes.with_argument(f"--pid-file={client.pid_file}")) == 2
        assert await client.end_all(0.05) == ()
        assert ours.wait() == -signal.SIGKILL
        assert not processes.with_argument(f"--pid-file={client.pid_file}")
        assert len(processes.with_argument(f"--pid-file={other.pid_file}")) == 2
        assert await other.end_all(0.05) == ()
        theirs.wait()


def test_clients_are_found_by_where_they_were_told_to_mount(tmp_path: Path) -> None:
    def process(pid: str, *argv: str) -> None:
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(b"".join(a.encode() + b"\0" for a in argv))

    process("12", "/usr/sbin/glusterfs", "--volfile-id=/v", "/mnt/x")
    process("13", "vi", "/mnt/y")
    process("14")
    (tmp_path / "meminfo").touch()
    assert processes.has_client(["/mnt/z", "/mnt/x"], tmp_path)
    assert not processes.has_client(["/mnt/y", "/mnt"], tmp_path)


def test_a_superblock_in_any_namespace(tmp_path: Path) -> None:
    for pid, namespace, device in (("1", "mnt:[1]", "8:1"), ("2", "mnt:[1]", "0:99"), ("3", "mnt:[3]", "0:51")):
        (tmp_path / pid / "ns").mkdir(parents=True)
        (tmp_path / pid / "ns" / "mnt").symlink_to(namespace)
        (tmp_path / pid / "mountinfo").write_text(f"123 27 {device} / /m rw - fuse.glusterfs a:/v rw\n")
    assert processes.is_mounted_anywhere("0:51", tmp_path)
    assert not processes.is_mounted_anywhere("0:5", tmp_path)
    assert not processes.is_mounted_anywhere("123", tmp_path)
