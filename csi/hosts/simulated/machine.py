"""One simulated host: its tree of directories, mounts, loop devices, processes, and what a reboot leaves of them."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from csi.hosts.simulated.filesystem import BlockDevice, Directory, File, FileSystem, Mount, Node, refused
from csi.hosts.simulated.lvm import VolumeManager

GIB = 1 << 30


@functools.lru_cache(maxsize=4096)
def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


@dataclass(slots=True, eq=False)
class Process:
    """A process that runs on a host. ``cwd`` keeps the mount that it lies on busy."""

    pid: int
    name: str
    argv: tuple[str, ...]
    cwd: str = "/"


class Machine:
    """A host. It forgets mounts and processes when it reboots and keeps its disks."""

    def __init__(self, name: str, addresses: tuple[str, ...]) -> None:
        self.name = name
        self.addresses = addresses
        self.up = True
        self.boots = 1
        self.fstab = "/etc/fstab"
        self.root = FileSystem("ext4", 20 * GIB)
        self.disks: dict[str, FileSystem] = {}  # "/dev/vdb" -> the file system on it
        self.blocks: dict[str, BlockDevice] = {}  # by each of its names: disks that were blank once, active volumes
        self.mounts: dict[str, Mount] = {}
        self.processes: dict[int, Process] = {}
        self.when_booted: list[Callable[[Machine], None]] = []
        self.terms: dict[str, tuple[int, str]] = {}  # by instance: the highest term met, and who has it
        self.watches: dict[str, Callable[[], None]] = {}  # what happens by itself when time passes (copyverbs.py)
        self._next_pid = 100
        self._next_mount = 30
        self.lvm = VolumeManager(self.blocks, self.is_mounted)
        for path in ("/etc", "/dev", "/proc", "/run", "/var/lib/gluster-csi"):
            self.make_directory(path, parents=True)
        self.write("/dev/loop-control", "")
        self.write(self.fstab, "# /etc/fstab\n")

    # --- the tree ---

    def find(self, path: str) -> Node | None:
        """What lies at an absolute path, seen through the mounts; None if nothing does."""
        return self._walk(path)[0]

    def _walk(self, path: str) -> tuple[Node | None, FileSystem]:
        node: Node = self.root.root
        filesystem = self.root
        for part in _parts(path):
            child = node.children.get(part)
            if child is None:
                return None, filesystem
            node = child
            while node.mount is not None:
                filesystem = node.mount.filesystem
                node = filesystem.root
        return node, filesystem

    def filesystem_of(self, path: str) -> FileSystem:
        """The file system that the path lies on, or would lie on."""
        return self._walk(path)[1]

    def _parent(self, path: str) -> tuple[Directory, str, FileSystem]:
        parent, _, name = path.rstrip("/").rpartition("/")
        node, filesystem = self._walk(parent)
        if node is None:
            raise refused(errno.ENOENT, path)
        if not isinstance(node, Directory):
            raise refused(errno.ENOTDIR, path)
        return node, name, filesystem

    def is_directory(self, path: str) -> bool:
        return isinstance(self.find(path), Directory)

    def on_root(self, path: str) -> bool:
        """The path lies on the root file system: no mount at it or above it."""
        return self.filesystem_of(path) is self.root

    def xattrs(self, path: str) -> dict[str, bytes]:
        """The extended attributes; changing the mapping changes them. Raises: OSError (ENOENT)."""
        node = self.find(path)
        if node is None:
            raise refused(errno.ENOENT, path)
        return node.xattrs

    def make_directory(self, path: str, *, parents: bool = False, mode: int = 0o755) -> Directory:
        """``mkdir``, or ``mkdir -p`` with ``parents``. Raises: OSError (ENOENT, EEXIST, ENOTDIR, EPERM)."""
        present = self.find(path)
        if parents and isinstance(present, Directory):
            return present
        if present is not None:
            raise refused(errno.EEXIST, path)
        above = path.rstrip("/").rpartition("/")[0]
        if parents and above and self.find(above) is None:
            self.make_directory(above, parents=True)
        parent, name, _ = self._parent(path)
        if parent.immutable:
            raise refused(errno.EPERM, path)
        made = Directory(mode=mode)
        parent.children[name] = made
        return made

    def read(self, path: str) -> str:
        """Raises: OSError (ENOENT, EISDIR)."""
        node = self.find(path)
        if node is None:
            raise refused(errno.ENOENT, path)
        if isinstance(node, Directory):
            raise refused(errno.EISDIR, path)
        return node.text

    def write(self, path: str, text: str) -> File:
        """Replace or make a file. Raises: OSError (ENOENT, EISDIR, EPERM, ENOSPC)."""
        parent, name, filesystem = self._parent(path)
        node = parent.children.get(name)
        if isinstance(node, Directory):
            raise refused(errno.EISDIR, path)
        if parent.immutable if node is None else node.immutable:
            raise refused(errno.EPERM, path)
        size = len(text) if text.isascii() else len(text.encode())
        taken = -(-size // 4096) * 4096
        filesystem.take(taken - (node.allocated if node else 0), path)
        if node is None:
            node = File()
            parent.children[name] = node
        node.text, node.size, node.allocated = text, size, taken
        return node

    def rename(self, old: str, new: str) -> None:
        """Within one file system. Raises: OSError (ENOENT, EXDEV, EPERM, EISDIR)."""
        source, source_name, source_fs = self._parent(old)
        target, target_name, target_fs = self._parent(new)
        node = source.children.get(source_name)
        if node is None:
            raise refused(errno.ENOENT, old)
        if source_fs is not target_fs:
            raise refused(errno.EXDEV, new)
        replaced = target.children.get(target_name)
        if isinstance(replaced, Directory):
            raise refused(errno.EISDIR, new)
        if source.immutable or target.immutable or node.immutable or (replaced is not None and replaced.immutable):
            raise refused(errno.EPERM, new)
        if replaced is not None:
            target_fs.give_back(replaced.allocated)
        del source.children[source_name]
        target.children[target_name] = node

    def unlink(self, path: str) -> None:
        """Raises: OSError (ENOENT, EISDIR, EPERM). The space of an image stays taken while it is mounted."""
        parent, name, filesystem = self._parent(path)
        node = parent.children.get(name)
        if node is None:
            raise refused(errno.ENOENT, path)
        if isinstance(node, Directory):
            raise refused(errno.EISDIR, path)
        if node.immutable or parent.immutable:
            raise refused(errno.EPERM, path)
        del parent.children[name]
        if node.image is None or not any(m.image is node for m in self.mounts.values()):
            filesystem.give_back(node.allocated + (node.image.used if node.image else 0))

    def remove_directory(self, path: str) -> None:
        """``rmdir``. Raises: OSError (ENOENT, ENOTDIR, EBUSY, ENOTEMPTY, EPERM)."""
        parent, name, _ = self._parent(path)
        node = parent.children.get(name)
        if node is None:
            raise refused(errno.ENOENT, path)
        if not isinstance(node, Directory):
            raise refused(errno.ENOTDIR, path)
        if node.mount is not None:
            raise refused(errno.EBUSY, path)
        if node.immutable or parent.immutable:
            raise refused(errno.EPERM, path)
        if node.children:
            raise refused(errno.ENOTEMPTY, path)
        del parent.children[name]

    # --- mounts ---

    def add_disk(self, path: str, size: int) -> BlockDevice:
        """A blank disk."""
        self.blocks[path] = device = BlockDevice(path, size)
        return device

    def is_mounted(self, device: BlockDevice) -> bool:
        return device.filesystem is not None and any(m.filesystem is device.filesystem for m in self.mounts.values())

    def mount(
        self,
        filesystem: FileSystem,
        path: str,
        source: str,
        options: str,
        *,
        image: File | None = None,
        image_path: str = "",
    ) -> Mount:
        """Raises: OSError (ENOENT, ENOTDIR, EBUSY: something is mounted exactly there)."""
        if path in self.mounts:
            raise refused(errno.EBUSY, path)
        parent, name, _ = self._parent(path)
        point = parent.children.get(name)
        if point is None:
            raise refused(errno.ENOENT, path)
        if not isinstance(point, Directory):
            raise refused(errno.ENOTDIR, path)
        self._next_mount += 1
        mount = Mount(path, filesystem, source, options, self._next_mount, image, image_path)
        point.mount = mount
        self.mounts[path] = mount
        return mount

    def unmount(self, path: str) -> None:
        """Raises: OSError (EINVAL: not mounted, EBUSY)."""
        mount = self.mounts.get(path)
        if mount is None:
            raise refused(errno.EINVAL, path)
        if self.users_of(path) or any(other.startswith(path + "/") for other in self.mounts):
            raise refused(errno.EBUSY, path)
        self._drop(mount)

    def _drop(self, mount: Mount) -> None:
        del self.mounts[mount.path]
        parent, name, _ = self._parent(mount.path)
        point = parent.children[name]
        assert isinstance(point, Directory)
        point.mount = None
        image = mount.image
        if image is not None and mount.filesystem.below is not None and self.find(mount.image_path) is not image:
            # The file was removed while it was mounted: its space comes back now.
            mount.filesystem.below.give_back(image.allocated + mount.filesystem.used)

    def mount_of(self, path: str) -> str:
        """The mount point that the path lies on, "/" for the root file system."""
        while path not in ("", "/"):
            if path in self.mounts:
                return path
            path = path.rpartition("/")[0]
        return "/"

    def users_of(self, path: str) -> tuple[Process, ...]:
        """The processes that keep the mount at ``path`` busy."""
        return tuple(p for p in self.processes.values() if p.cwd.startswith(path) and self.mount_of(p.cwd) == path)

    def mountinfo(self) -> Iterator[str]:
        """The lines of /proc/self/mountinfo."""
        yield "25 1 254:0 / / rw,relatime - ext4 /dev/vda rw"
        for m in self.mounts.values():
            yield f"{m.number} 25 7:{m.number} / {m.path} rw,{m.options} - {m.filesystem.kind} {m.source} rw"

    # --- processes, power ---

    def spawn(self, name: str, argv: tuple[str, ...], cwd: str = "/") -> Process:
        self._next_pid += 1
        process = Process(self._next_pid, name, argv, cwd)
        self.processes[process.pid] = process
        return process

    def kill(self, pid: int) -> bool:
        """False if there is no such process."""
        return self.processes.pop(pid, None) is not None

    def pass_time(self) -> None:
        """Enough time for every watch to go off."""
        while self.watches:
            self.watches.pop(next(iter(self.watches)))()

    def shut_down(self) -> None:
        """The power is cut: processes, mounts and loop devices are gone, disks keep what they hold."""
        self.up = False
        self.processes.clear()
        self.watches.clear()
        for mounted in self.mounts.values():
            mounted.filesystem.frozen = False
        for mount in reversed(list(self.mounts.values())):
            self._drop(mount)
        self.lvm.lose_power()
        self.make_directory("/run", parents=True).children.clear()

    def boot(self) -> None:
        """Activate logical volumes, mount what fstab says, then start what starts at boot.

        Raises: OSError for a line of fstab that fails and lacks ``nofail``; it stops the boot, the machine stays down.
        """
        self.lvm.activate_all()
        for line in self.read(self.fstab).splitlines():
            words = line.split()
            if len(words) < 4 or words[0].startswith("#"):
                continue
            try:
                self.mount_line(words[0], words[1], words[3])
            except OSError:
                if "nofail" not in words[3].split(","):
                    raise
        self.up = True
        self.boots += 1
        for start in self.when_booted:
            start(self)

    def reboot(self) -> None:
        self.shut_down()
        self.boot()

    def mount_line(self, source: str, path: str, options: str) -> Mount:
        """What ``mount -o OPTIONS SOURCE PATH`` does. Raises: OSError; EINVAL: no file system in it."""
        words = options.split(",")
        if "loop" not in words:
            return self._mount_device(source, path, options)
        image = self.find(source)
        if not isinstance(image, File):
            raise refused(errno.ENOENT, source)
        if image.image is None:
            raise refused(errno.EINVAL, source)
        kept = ",".join(w for w in words if w not in ("loop", "nofail"))
        return self.mount(image.image, path, f"/dev/loop{self._next_mount}", kept, image=image, image_path=source)

    def _mount_device(self, source: str, path: str, options: str) -> Mount:
        block = self.blocks.get(source)
        disk = self.disks.get(source) if block is None else block.filesystem
        if block is None and disk is None:
            raise refused(errno.ENOENT, source)
        if disk is None or ("nouuid" not in options.split(",") and self._is_twin_mounted(disk)):
            raise refused(errno.EINVAL, source)
        return self.mount(disk, path, block.path if block else source, options)

    def _is_twin_mounted(self, filesystem: FileSystem) -> bool:
        """XFS refuses a second uuid, but looks only among the mounts that were made without ``nouuid``."""
        return bool(filesystem.uuid) and any(
            m.filesystem is not filesystem and m.filesystem.uuid == filesystem.uuid and "nouuid" not in m.options
            for m in self.mounts.values()
        )
