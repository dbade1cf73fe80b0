"""The virtual machine: words and status of the command come through, this machine stays as it is, nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab import vm
from tests.lab.system import command_line, processes

pytestmark = pytest.mark.lab

_COMMAND = [sys.executable, "-m", "tests.lab", "vm"]
_SCRIPT = """
printf "%s|" "$@"
echo wrong >&2
touch "$1" 2>/dev/null || echo refused
touch /tmp/of-the-guest && lvm version >/dev/null && exit 7
"""


@pytest.fixture(autouse=True)
def _installed() -> None:
    if (reason := vm.missing()) is not None:
        pytest.skip(f"THE VIRTUAL MACHINE DID NOT RUN: {reason}")


def guests(directory: Path) -> list[int]:
    """Processes that belong to a guest with its files in this directory."""
    return [pid for pid in processes() if any(str(directory) in word for word in command_line(pid))]


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "LAB_DIR": str(directory)}


def test_words_status_and_output_come_through_and_nothing_is_written(tmp_path: Path) -> None:
    target = "/usr/of-the-guest"
    words = ["bash", "-c", _SCRIPT, "bash", target, "a  b", "", "$x*", "ü\n"]
    done = subprocess.run(
        [*_COMMAND, "--", *words], capture_output=True, text=True, check=False, timeout=100, env=environment(tmp_path)
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout == f"{target}|a  b||$x*|ü\n|refused\n"
    assert "wrong" in done.stderr
    assert not Path(target).exists()
    assert not Path("/tmp/of-the-guest").exists()
    assert not list(tmp_path.iterdir())


def test_a_guest_whose_kernel_gives_up_is_not_waited_for(tmp_path: Path) -> None:
    words = ["bash", "-c", "echo c >/proc/sysrq-trigger; sleep 1000"]
    done = subprocess.run(
        [*_COMMAND, "--", *words], capture_output=True, text=True, check=False, timeout=60, env=environment(tmp_path)
    )
    assert done.returncode not in (0, 124)
    assert "Kernel panic" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_guest_ends_with_its_time_and_with_who_began_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [*_COMMAND, "--seconds", "3", "--", "sleep", "100"], check=False, timeout=60, env=environment(tmp_path)
    )
    assert done.returncode == 124
    with subprocess.Popen([*_COMMAND, "--", "sleep", "100"], env=environment(tmp_path)) as begun:
        while not any("linux.uml" in word for pid in guests(tmp_path) for word in command_line(pid)):
            time.sleep(0.1)
        begun.send_signal(signal.SIGTERM)
    assert begun.returncode != 0
    assert not guests(tmp_path)
    assert not list(tmp_path.iterdir())
