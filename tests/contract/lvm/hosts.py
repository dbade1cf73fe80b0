"""The hosts on which the contract of brick backends is tried with LVM."""

from __future__ import annotations

from csi.bricks import lvmpaths
from csi.core import naming
from csi.core.model import PlacedBrick
from csi.hosts.local import LocalRunner
from csi.hosts.simulated.filesystem import Directory
from tests.contract.bricks.hosts import RealHost, SimulatedHost, a_host
from tests.lab import Lab

POINT = naming.LVM_BRICK_ROOT
_VOLUMES = "lvs --noheadings -o vg_name,lv_name,lv_tags"


class SimulatedLvmHost(SimulatedHost):
    def __init__(self) -> None:
        super().__init__()
        self.devices = ("/dev/vdb", "/dev/vdc")
        for path in self.devices:
            self.machine.add_disk(path, 8 << 30)

    def traces(self) -> frozenset[str]:
        groups = self.machine.lvm.groups.values()
        found = {f"volume {group.name}/{name}" for group in groups for name in (*group.volumes, *group.pools)}
        found |= {f"mount {path}" for path in self.machine.mounts if path.startswith(POINT)}
        root = self.machine.find(POINT)
        for group, node in root.children.items() if isinstance(root, Directory) else ():
            assert isinstance(node, Directory)
            found |= {f"point {group}/{name}" for name in node.children}
        return frozenset(found | {f"fstab {line}" for line in self.read(self.fstab).splitlines()})

    def put(self, placed: PlacedBrick, size: int) -> None:
        """So many bytes more are in the brick, and on its disk."""
        self.machine.mounts[lvmpaths.mount_point(placed)].filesystem.used += size

    def retag(self, name: str, tags: str) -> None:
        """The volume or pool VG/LV, or the group VG, gets these tags in place of its own."""
        group, _, volume = name.partition("/")
        found = self.machine.lvm.groups[group]
        (found.find(volume) if volume else found).tags = set(filter(None, tags.split(",")))

    def make_volume(self, group: str, pool: str, name: str) -> None:
        """As Heketi makes it."""
        manager = self.machine.lvm
        found = manager.groups[group]
        manager.make_volume(found, manager.make_pool(found, pool, 256, 2, 256 << 10), name, 256)

    def remove_volume(self, name: str) -> None:
        group, _, volume = name.partition("/")
        found = self.machine.lvm.groups[group]
        self.machine.lvm.remove(found, found.find(volume))

    def clear(self) -> None:
        for name in list(self.machine.lvm.groups):
            self.machine.lvm.remove_group(self.machine.lvm.groups[name])
        for path in list(self.machine.lvm.physical):
            self.machine.lvm.unlabel(path)


class LaboratoryLvmHost(RealHost):
    """A host of the laboratory, past ssh: a connection takes seconds in the virtual machine."""

    def __init__(self, lab: Lab) -> None:
        machine = lab.hosts[0]
        prefix = ("nsenter", "--target", str(lab.init_pid(machine)), "--mount", "--net", "--pid", "--")
        runner = LocalRunner(lambda _: prefix)
        devices = (machine.blocks[0], machine.blocks[1])
        super().__init__(runner, a_host(machine.address), prefix, devices, on_root="/opt", fstab="/etc/fstab")

    def traces(self) -> frozenset[str]:
        return frozenset(
            self.sh(
                "lvs --noheadings --separator / -o vg_name,lv_name | sed 's/^ */volume /'\n"
                f"sed -n 's#^[0-9]* [0-9]* [0-9:]* [^ ]* \\({POINT}/[^ ]*\\) .*#mount \\1#p' /proc/self/mountinfo\n"
                f"[ ! -d {POINT} ] || find {POINT} -mindepth 2 -maxdepth 2 -printf 'point %P\\n'\n"
                "sed 's/^/fstab /' \"$1\"",
                self.fstab,
            ).splitlines()
        )

    def put(self, placed: PlacedBrick, size: int) -> None:
        self.sh('head -c "$2" /dev/zero >"$1/put" && sync -f -- "$1/put"', placed.brick.path, str(size))

    def retag(self, name: str, tags: str) -> None:
        program, report = ("lvchange", "lvs -o lv_tags") if "/" in name else ("vgchange", "vgs -o vg_tags")
        old = set(filter(None, self.sh(f"{report} --noheadings {name}").strip().split(",")))
        new = set(filter(None, tags.split(",")))
        # LVM adds before it takes away, so a tag that is named for both goes.
        words = [f"--deltag {tag}" for tag in old - new] + [f"--addtag {tag}" for tag in new - old]
        self.sh(f"{program} -qq {' '.join(words)} {name}")

    def make_volume(self, group: str, pool: str, name: str) -> None:
        self.sh(
            "lvcreate -qq --autobackup=n --poolmetadatasize 8192K --chunksize 256K --size 1048576K --thin "
            f"{group}/{pool} --virtualsize 1048576K --name {name}"
        )

    def remove_volume(self, name: str) -> None:
        self.sh(f"lvremove -qq -f {name}")

    def reboot(self) -> None:
        self.sh(
            f"grep -o ' {POINT}/[^ ]* ' /proc/self/mountinfo | xargs -r umount; vgchange -qq -an; vgchange -qq -aay"
        )
        self.sh("mount -a")

    def clear(self) -> None:
        self.sh(
            "vgs --noheadings -o vg_name | xargs -r -n 1 vgremove -qq -f\n"
            "pvs --noheadings -o pv_name | xargs -r pvremove -qq"
        )
