"""``make demo``: a pool on this machine, and a volume through CSI: mounted, written, read elsewhere, deleted."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.driver import GIB, Driver
from tests.lab import Lab
from tests.lab.sessions import remove_abandoned, session_instance

console = Console(highlight=False, width=120)


def step(what: str) -> None:
    console.print(f"[bold cyan]==>[/] [bold]{what}[/]")


def show(text: str) -> None:
    for line in text.strip().splitlines():
        console.print(f"    {line}", markup=False)


def as_group(gid: int | None, *argv: str) -> subprocess.CompletedProcess[str]:
    """A process of a user that nobody knows; ``gid`` is the only right it has."""
    groups = [f"--groups={gid}"] if gid is not None else ["--clear-groups"]
    rights = ["setpriv", "--reuid=54321", "--regid=54321", *groups, "--inh-caps=-all", "--bounding-set=-all"]
    return subprocess.run([*rights, *argv], capture_output=True, text=True, check=False, timeout=30)


def demonstrate(lab: Lab, driver: Driver, work: Path) -> None:
    step("gluster-csi serve, and the topology: three hosts, two devices each")
    driver.start(topology=False)
    show(driver.topology_command())

    with driver.client() as client:
        step("CreateVolume: 2 GiB, replica 3")
        began = time.monotonic()
        volume = client.create("pvc-demo", 2 * GIB, {"volumeType": "replicate:3"})
        took = time.monotonic() - began
        context = dict(volume.volume_context)
        gid, name = int(context["gid"]), context["glusterVolume"]
        show(f"volume id {volume.volume_id}, {volume.capacity_bytes} bytes, GID {gid}, in {took * 1000:.0f} ms")
        info = lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "info", name]).stdout
        show(
            "\n".join(line for line in info.splitlines() if line.startswith(("Volume Name", "Type", "Status", "Brick")))
        )
        try:
            step("NodeStageVolume and NodePublishVolume")
            staging, target = work / "staging", work / "pod" / "mount"
            target.parent.mkdir(parents=True)
            client.stage(volume, staging)
            client.publish(volume, staging, target)
            show(subprocess.run(["df", "-h", str(target)], capture_output=True, text=True, check=True).stdout)
            show(subprocess.run(["ls", "-ldn", str(target)], capture_output=True, text=True, check=True).stdout)

            step(f"A process whose only right is group {gid} writes; one without it is refused")
            work.chmod(0o755)
            done = as_group(
                gid, "sh", "-c", f"echo 'hello from a pod' > {target}/greeting && id && cat {target}/greeting"
            )
            if done.returncode != 0:
                raise SystemExit(f"the writer failed: {done.stderr}")
            show(done.stdout)
            refused = as_group(None, "sh", "-c", f"echo no > {target}/refused")
            if refused.returncode == 0:
                raise SystemExit("a process without the group could write")
            show(refused.stderr)

            step("The same file on a second mount, through another server")
            other = work / "other"
            other.mkdir()
            servers = context["servers"].split(",")
            subprocess.run(["mount", "-t", "glusterfs", f"{servers[1]}:/{name}", str(other)], check=True, timeout=30)
            try:
                content = (other / "greeting").read_text()
                show(f"{servers[1]}:/{name}: {content}")
                if content != "hello from a pod\n":
                    raise SystemExit("the second mount shows something else")
            finally:
                subprocess.run(["umount", str(other)], check=True, timeout=30)

            step("NodeUnpublishVolume, NodeUnstageVolume")
            client.unpublish(volume, target)
            client.unstage(volume, staging)
        finally:
            step("DeleteVolume")
            began = time.monotonic()
            client.delete(volume.volume_id)
            show(f"gone in {(time.monotonic() - began) * 1000:.0f} ms")
    driver.stop()
    left = lab.leftovers()
    if left:
        raise SystemExit("left behind:\n" + "\n".join(left))
    show("nothing is left: no volume, brick, mount, image, loop device or process")


def main() -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gluster-csi-demo-") as temporary:
        work = Path(temporary)
        remove_abandoned()
        lab = Lab(session_instance())
        step("A pool on this machine: three GlusterFS hosts in network namespaces")
        try:
            lab.up()
            show(f"hosts {', '.join(host.address for host in lab.hosts)} up after {time.monotonic() - began:.1f} s")
            driver = Driver(lab, work / "driver")
            try:
                demonstrate(lab, driver, work)
            finally:
                driver.stop()
        finally:
            lab.down()
    console.print(f"[bold green]All of it in {time.monotonic() - began:.1f} s.[/]")


if __name__ == "__main__":
    main()
