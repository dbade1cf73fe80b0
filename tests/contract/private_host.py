"""A host for tests of bricks: a private mount namespace on this machine, with disks of its own and no network."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

# What a brick touches outside its device is a tmpfs of this namespace; disks are XFS images in a directory of its own.
_SETUP = """
set -e
mount -t tmpfs none /run
mkdir -p /var/lib/gluster-csi
mount -t tmpfs none /var/lib/gluster-csi
: >"$1/fstab"
for disk in disk0 disk1; do
    mkdir "$1/$disk"
    mkfs.xfs -q -K -m reflink=1 -d "file,name=$1/$disk.img,size=8g"
    mount -o loop "$1/$disk.img" "$1/$disk"
done
mkdir "$1/plain"
echo ready
exec sleep 100000
"""


class PrivateHost:
    """The namespace lives as long as the process in it; its mounts and loop devices go with it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="csi-bricks-"))
        self._holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", _SETUP, "sh", str(self.directory)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError("the namespace could not be set up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """What makes a command run on this host."""
        return ("nsenter", "-t", str(self._holder.pid), "-m")

    def sh(self, script: str, *arguments: str) -> str:
        """Shell text of the test's own, run on this host."""
        done = subprocess.run(
            [*self.prefix, "sh", "-c", script, "sh", *arguments],
            capture_output=True,
            check=False,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.directory)], check=True, timeout=30)
