"""The laboratory itself: it does what it says, and goes without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, LabError, LabHost, missing
from tests.lab.daemons import GLUSTER
from tests.lab.litter import BRICK, BRICK_MOUNT, make_brick, make_volume
from tests.lab.network import is_member, namespace_processes
from tests.lab.system import command_line, loops, mounts, processes

pytestmark = pytest.mark.lab


def other_instance(suffix: str) -> str:
    return f"{os.getpid() % 0xFFFFF:x}{suffix}"


def lab_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.lab", *words]


def traces(lab: Lab) -> list[str]:
    """What this machine holds of a lab, looked for without any of the lab's own code that removes it."""
    mark = lab.directory.name
    found = [f"namespace {n}" for n in _listing("/run/netns") if n.startswith(f"gl-{lab.instance}-")]
    links = (f"glb-{lab.instance}", f"glv-{lab.instance}-")
    found += [f"link {n}" for n in _listing("/sys/class/net") if n.startswith(links)]
    found += [f"loop {loop.name}" for loop in loops() if f"/{mark}/" in loop.backing_file]
    found += [f"mount {m.target}" for m in mounts() if f"/{mark}/" in m.target]
    for pid in processes():
        inside = any(f"/{mark}/" in mount.target or f"/{mark}/" in mount.source for mount in mounts(pid))
        if inside or any(f"/{mark}/" in word for word in command_line(pid)):
            found.append(f"process {pid} {command_line(pid)}")
    found += [f"pointer {pointer}" for pointer in Path("/run").glob(mark)]
    return found + ([f"directory {lab.directory}"] if lab.directory.exists() else [])


def _listing(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


def eventually(what: str, true: Callable[[], bool], seconds: float = 30, pause: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)


def can_connect(lab: Lab, source: LabHost, target: LabHost, port: int = 24007) -> bool:
    script = f"exec 3<>/dev/tcp/{target.address}/{port}"
    return lab.run(source, ["timeout", "1", "bash", "-c", script], check=False).returncode == 0


@pytest.fixture
def second() -> Iterator[Lab]:
    """Another lab beside the session's, not up yet."""
    if reason := missing():
        pytest.skip(f"THE LABORATORY DID NOT RUN: {reason}")
    second = Lab(other_instance("x"))
    yield second
    second.down()


# ------------------------------------------------------------------------------------------------- up and down


@pytest.mark.parametrize("hosts", [3, 8])
def test_up_is_quick_and_down_leaves_nothing(hosts: int, clean_lab: Lab) -> None:
    second = Lab(other_instance(str(hosts)), hosts=hosts, device_size="1G")
    began = time.monotonic()
    try:
        second.up(pool=True)
        up = time.monotonic() - began
        assert second.subnet != clean_lab.subnet
        assert len(second.hosts) == hosts
        for host in second.hosts:
            assert second.run(host, [*GLUSTER, "pool", "list"]).stdout.count("Connected") == hosts
        assert len([trace for trace in traces(second) if trace.startswith("loop")]) == 3 * hosts
    finally:
        began = time.monotonic()
        second.down()
    print(f"{hosts} hosts: up with their pool in {up:.2f} s, down in {time.monotonic() - began:.2f} s")
    assert up < 60  # beside other suites; alone it takes a tenth of that
    assert traces(second) == []
    assert [clean_lab.run(host, ["hostname"]).stdout.strip() for host in clean_lab.hosts] == ["host1", "host2", "host3"]
    assert clean_lab.run("host1", [*GLUSTER, "pool", "list"]).stdout.count("Connected") == 3


@pytest.mark.parametrize("sign", ["directory", "link", "namespace", "process", "loop", "mkfs", "state", "peer"])
def test_up_killed_half_way_leaves_nothing_after_down(sign: str, second: Lab) -> None:
    """Killed at the moment when the first thing of each kind is seen."""
    mark = f"/{second.directory.name}/"
    # Not by ``traces``, which takes longer on a busy machine than what is looked at.
    signs: dict[str, Callable[[], bool]] = {
        "directory": second.directory.exists,
        "link": lambda: f"glb-{second.instance}" in _listing("/sys/class/net"),
        "namespace": lambda: any(name.startswith(f"gl-{second.instance}-") for name in _listing("/run/netns")),
        "process": lambda: any(mark in word for pid in processes() for word in command_line(pid)),
        "loop": lambda: any(mark in loop.backing_file for loop in loops()),
        "mkfs": lambda: len(list(second.directory.glob("host*/d1.img"))) > 0,
        "state": lambda: '"complete": true' in _text(second.directory / "state.json"),
        "peer": lambda: any(any(peers.glob("*")) for peers in _inside(second, "/var/lib/glusterd/peers")),
    }
    for _ in range(5):
        if _killed_when(lab_command("up", "--pool", "--instance", second.instance), signs[sign]):
            break
        second.down()  # it was too late, and is tried again
    else:
        pytest.fail(f"it always ended before {sign} was seen")
    assert traces(second), "nothing to remove: this shows nothing"
    done = subprocess.run(lab_command("down", "--instance", second.instance), check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert traces(second) == []


def _killed_when(words: list[str], reached: Callable[[], bool]) -> bool:
    """Run it until then. False: it had ended."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not reached():
            time.sleep(0.002)
        process.kill()
    return process.returncode == -signal.SIGKILL


def _inside(lab: Lab, path: str) -> list[Path]:
    """A path of the first host, if it is on, through one of its processes."""
    return [Path(f"/proc/{pid}/root{path}") for pid in namespace_processes(lab.instance, 1)]


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_down_removes_what_lies_on_the_lab(second: Lab, tmp_path: Path) -> None:
    """A client mount on this machine, a loop device nobody knows of, a program in a host's mount namespace only."""
    second.up()
    host = second.hosts[0]
    init = second.init_pid(host)
    make_volume(second, host)
    target = tmp_path / "mount"
    target.mkdir()
    subprocess.run(["mount", "-t", "glusterfs", f"{host.address}:/left", target], check=True, timeout=20)
    second.run(host, ["sh", "-c", "truncate -s 64M /srv/d0/loose.img && losetup -f /srv/d0/loose.img"])
    intruder = subprocess.Popen(["nsenter", "-t", str(init), "-m", "sleep", "1000"])
    second.run(host, ["chattr", "+i", "/var/lib/gluster-csi"])
    second.down()
    assert intruder.wait(5) == -signal.SIGKILL
    assert traces(second) == []
    assert not any(mount.target == str(target) for mount in mounts())
    assert not any(loop.backing_file == "/srv/d0/loose.img" for loop in loops())


def test_down_finds_a_lab_in_another_directory(second: Lab, tmp_path: Path) -> None:
    elsewhere = Lab(second.instance, hosts=1, directory=tmp_path)
    elsewhere.up()
    assert elsewhere.directory.parent == tmp_path
    assert subprocess.run(lab_command("down", "--instance", second.instance), check=False).returncode == 0
    assert traces(elsewhere) == []


def test_a_machine_that_cannot_carry_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None if name == "mkfs.xfs" else f"/bin/{name}")
    assert missing() == "the laboratory needs programs that are not installed: mkfs.xfs"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert missing() == "the laboratory makes namespaces and mounts: it needs root"


def test_two_ups_of_one_instance_make_one_lab(second: Lab) -> None:
    both = [
        subprocess.Popen(lab_command("up", "--instance", second.instance), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=60)[0].splitlines()[1:] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert printed[0] == printed[1], "the second must have found the first one's lab"
    with pytest.raises(LabError, match="up with 3 hosts, not 2"):
        Lab(second.instance, hosts=2).up()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"instance": "with-dash"}, "one to eight"),
        ({"instance": "toolongname"}, "one to eight"),
        ({"hosts": 9}, "from 1 to 8"),
        ({"zones": 0}, "at least one zone"),
    ],
)
def test_what_cannot_be_made_is_refused(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(LabError, match=reason):
        Lab(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- hosts


def test_every_host_reaches_every_other_and_glusterd_answers(clean_lab: Lab) -> None:
    for source in clean_lab.hosts:
        assert clean_lab.run(source, [*GLUSTER, "pool", "list"]).stdout.count("Connected") == 3
        for target in clean_lab.hosts:
            assert can_connect(clean_lab, source, target), f"{source.name} to {target.name}"
    with socket.create_connection((clean_lab.hosts[0].address, 24007), 5) as here:
        assert here.getsockname()[0] == clean_lab.gateway


def test_ssh_as_root_and_with_sudo(clean_lab: Lab) -> None:
    for host in clean_lab.hosts:
        assert _ssh(clean_lab, f"root@{host.address}", "id -u; hostname").split() == ["0", host.name]
    user = f"csi@{clean_lab.hosts[0].address}"
    assert _ssh(clean_lab, user, "id -u; sudo -n id -u").split() == ["20201", "0"]


def test_ssh_knows_an_impostor(clean_lab: Lab, tmp_path: Path) -> None:
    first, second, _ = clean_lab.known_hosts.read_text().splitlines()
    swapped = tmp_path / "known_hosts"
    swapped.write_text(f"{first.split()[0]} {second.partition(' ')[2]}\n")
    with pytest.raises(AssertionError, match="Host key verification failed"):
        _ssh(clean_lab, f"root@{clean_lab.hosts[0].address}", "true", known_hosts=swapped)


def _ssh(lab: Lab, login: str, command: str, known_hosts: Path | None = None) -> str:
    options = {
        "UserKnownHostsFile": known_hosts or lab.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
    }
    words = ["ssh", "-F", "none", "-p", "2222", "-i", str(lab.key_file)]
    words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    done = subprocess.run([*words, login, command], text=True, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_command_that_takes_too_long_ends_on_the_host_too(clean_lab: Lab) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        clean_lab.run("host1", ["sh", "-c", "sleep 54321 & wait"], timeout=0.3)
    eventually("the command is gone", lambda: not any("54321" in command_line(pid) for pid in processes()))


def test_reboot_is_a_new_start_from_fstab(clean_lab: Lab) -> None:
    host = clean_lab.hosts[1]
    make_brick(clean_lab, host)
    clean_lab.run(host, ["sh", "-c", f"echo kept > {BRICK_MOUNT}/file; touch /run/lost /etc/kept; sync"])
    # Replaced by rename, as the driver does it.
    line = f"/srv/d0/{BRICK}.img {BRICK_MOUNT} xfs loop,nouuid,nofail 0 0"
    clean_lab.run(host, ["sh", "-c", "cp /etc/fstab /etc/fstab.new && cat >> /etc/fstab.new"], input=line + "\n")
    clean_lab.run(host, ["sh", "-c", "echo '/srv/d0/none.img /mnt xfs loop,nofail 0 0' >> /etc/fstab.new"])
    clean_lab.run(host, ["mv", "/etc/fstab.new", "/etc/fstab"])
    before = _glusterd(clean_lab, host)
    clean_lab.cut(host)

    began = time.monotonic()
    clean_lab.reboot(host)
    print(f"reboot in {time.monotonic() - began:.2f} s")

    assert clean_lab.run(host, ["cat", f"{BRICK_MOUNT}/file"]).stdout == "kept\n"
    assert clean_lab.run(host, ["ls", "/etc/kept"]).stdout
    assert clean_lab.run(host, ["ls", "/run/lost"], check=False).returncode != 0
    for device in host.devices:
        clean_lab.run(host, ["mountpoint", "-q", device])
    assert not {before, None} & {_glusterd(clean_lab, host)}
    clean_lab.settle()
    assert can_connect(clean_lab, clean_lab.hosts[0], host)
    assert _ssh(clean_lab, f"root@{host.address}", "hostname").strip() == host.name
    clean_lab.sweep()
    clean_lab.run(host, ["rm", "/etc/kept"])


def _glusterd(lab: Lab, host: LabHost) -> tuple[int, str] | None:
    """The process by its number on this machine, and when it was started."""
    for pid in processes():
        if command_line(pid)[:1] == ["glusterd"] and is_member(pid, lab.instance, host.number):
            return pid, Path(f"/proc/{pid}/stat").read_text().split()[21]
    return None


def test_a_killed_host_is_silent_until_it_is_started(clean_lab: Lab) -> None:
    host = clean_lab.hosts[2]
    clean_lab.kill(host)
    assert clean_lab.init_pid(host) is None
    assert _glusterd(clean_lab, host) is None
    with pytest.raises(LabError, match="host3 is powered off"):
        clean_lab.run(host, ["true"])
    assert clean_lab.run("host1", ["true"]).returncode == 0
    assert not can_connect(clean_lab, clean_lab.hosts[0], host)
    assert next(line for line in _status(clean_lab) if "host3" in line).endswith("powered off")
    clean_lab.start(host)
    clean_lab.settle()
    assert can_connect(clean_lab, clean_lab.hosts[0], host)


def test_restore_repairs_whatever_a_test_did(clean_lab: Lab) -> None:
    one, two, three = clean_lab.hosts
    clean_lab.kill(one)
    clean_lab.cut(two)
    clean_lab.run(three, ["sh", "-c", "kill -9 $(cat /run/glusterd.pid) $(cat /run/sshd.pid)"])
    clean_lab.restore()
    for host in clean_lab.hosts:
        assert clean_lab.run(host, [*GLUSTER, "pool", "list"]).stdout.count("Connected") == 3
        assert _ssh(clean_lab, f"root@{host.address}", "hostname").strip() == host.name


def test_a_cut_cable_is_silence_and_no_reset(clean_lab: Lab) -> None:
    host = clean_lab.hosts[0]
    with socket.create_connection((host.address, host.ssh_port), 5) as connection:
        assert connection.recv(100).startswith(b"SSH-2.0")
        clean_lab.cut(host)
        connection.settimeout(0.5)
        connection.sendall(b"no greeting of ssh\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(100)
        assert not can_connect(clean_lab, clean_lab.hosts[1], host)
        clean_lab.mend(host)
        connection.settimeout(10)
        assert b"Invalid SSH identification string" in connection.recv(100), "what was sent meanwhile must arrive"
    eventually("the host is reached again", lambda: can_connect(clean_lab, clean_lab.hosts[1], host))


# ------------------------------------------------------------------------------------------------ command line


def _command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lab_command(*words), text=True, capture_output=True, check=False, timeout=60)


def _status(lab: Lab) -> list[str]:
    return _command("status", "--instance", lab.instance).stdout.splitlines()


def test_the_command_line_finds_a_running_lab(clean_lab: Lab) -> None:
    named = ["--instance", clean_lab.instance]
    topology = _command("topology", *named).stdout
    assert json.loads(topology) == clean_lab.topology()
    node = json.loads(topology)["clusters"][0]["nodes"][1]
    address = clean_lab.hosts[1].address
    assert node == {
        "node": {"hostnames": {"manage": [address], "storage": [address]}, "zone": 2},
        "devices": ["/srv/d0", "/srv/d1"],
    }
    run = _command("run", *named, "host2", "--", "sh", "-c", "hostname; exit 7")
    assert (run.returncode, run.stdout) == (7, "host2\n")
    assert len([line for line in _status(clean_lab) if " init " in line]) == 3
    nobody = _command("cut", *named, "host9")
    assert nobody.returncode == 1
    assert "has no host host9: there are host1, host2, host3" in nobody.stderr
