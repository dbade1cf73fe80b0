"""glusterd of simulated hosts: the commands that this driver gives, answered as GlusterFS 10.3 answers them.

What matters of the real one is kept: a creation looks at its bricks in order and marks each with the volume's id as
it goes, so one that fails half-way leaves marks behind; a volume cannot be deleted while any peer is away; a brick
that is gone, lies on the root file system or carries the mark of a volume is refused; bricks are processes that keep
their file system busy. Commands act at once; ``refuse_locked`` makes the next ones meet somebody else's lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from csi.hosts.simulated import glusterd_answers as answers
from csi.hosts.simulated import glusterd_commands as commands
from csi.hosts.simulated.glusterd_answers import SimulatedVolume
from csi.hosts.simulated.glusterd_pool import RefusedError, TrustedPool, uuid_of
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.world import World

VOLUME_MARK = "trusted.glusterfs.volume-id"
PID_DIRECTORY = "/run/gluster/vols"

LOCKED = 30802
NO_VOLUME = 30806
NOT_CONNECTED = 107

_GONE = "No such file or directory"


class SimulatedGlusterd:
    """The glusterds of all machines of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pools: dict[str, TrustedPool] = {}  # by name of machine
        self._locked: dict[str, int] = {}
        self._mute: set[tuple[str, str]] = set()
        self._stopped: set[str] = set()
        self._commands: dict[str, Callable[[Machine, list[str]], str]] = {
            "volume create": self._create,
            "volume info": self._info,
            "volume list": self._list,
            "volume set": self._set,
            "volume start": self._start,
            "volume status": self._status,
            "volume barrier": self._barrier,
            "volume stop": self._stop,
            "volume delete": self._delete,
            "volume add-brick": self._add_bricks,
            "volume heal": self._heal,
            "volume rebalance": lambda m, w: answers.rebalanced(self._volume(m, w[0]), w[1]),
            "peer probe": self._probe,
            "peer status": self._peers,
        }

    # --- what the world calls ---

    def answer(self, machine: Machine, words: list[str]) -> str:
        """The document that glusterd answers. Raises: ValueError with what the tool says without asking glusterd."""
        if machine.name in self._stopped:
            raise ValueError("Connection failed. Please check if gluster daemon is operational.")
        command = self._commands.get(" ".join(words[:2]))
        if command is None:
            raise ValueError(f"unrecognized word: {(words or [''])[0]} (position 0)")
        rest = words[2:]
        try:
            return command(machine, rest)
        except RefusedError as refusal:
            return answers.document(-1, refusal.errno, str(refusal))
        except IndexError:
            raise ValueError(f"Usage: {' '.join(words[:2])} ...") from None

    def end_bricks(self, machine: Machine, volume: str) -> int:
        """End the brick processes of the volume on this machine."""
        found = self._pool(machine).volumes.get(volume)
        if found is None:
            return 0
        ended = [pid for (name, _), pid in found.pids.items() if name == machine.name and machine.kill(pid)]
        self._forget_processes(machine, found)
        return len(ended)

    def booted(self, machine: Machine) -> None:
        """The bricks of started volumes come back with their host, if their directories did."""
        self._stopped.discard(machine.name)
        for volume in self._pool(machine).volumes.values():
            self._forget_processes(machine, volume)
            if volume.started:
                self._spawn(machine, volume)

    # --- what tests call ---

    def refuse_locked(self, name: str, times: int) -> None:
        """The next ``times`` changes of the volume find it locked by another transaction."""
        self._locked[name] = times

    def keep_down(self, machine: Machine, path: str) -> None:
        """The brick process of this directory ends as soon as it is started."""
        self._mute.add((machine.name, path))

    def stop(self, machine: Machine) -> None:
        """glusterd of this machine ends. Its bricks go on."""
        self._stopped.add(machine.name)

    def start(self, machine: Machine) -> None:
        """glusterd of this machine runs again, and starts the bricks that do not run."""
        self._stopped.discard(machine.name)
        for volume in self._pool(machine).volumes.values():
            if volume.started:
                self._spawn(machine, volume)

    def add_snapshots(self, machine: Machine, name: str, count: int) -> None:
        """Somebody made snapshots of the volume by hand."""
        self._pool(machine).volumes[name].snapshots = count

    # --- peers ---

    def _pool(self, machine: Machine) -> TrustedPool:
        pool = self._pools.get(machine.name)
        if pool is None:
            pool = self._pools[machine.name] = TrustedPool(members={machine.name: machine})
        return pool

    def _probe(self, machine: Machine, words: list[str]) -> str:
        address = words[0]
        pool = self._pool(machine)
        other = self._world.machines.get(address)
        if other is machine or address in ("localhost", "127.0.0.1", "::1"):
            return answers.document(0, 1, output="Probe on localhost not needed")
        if other is None or not self._hears(machine, other):
            raise RefusedError("Probe returned with Transport endpoint is not connected", NOT_CONNECTED)
        if other.name in pool.members:
            return answers.document(0, 2, output=f"Host {address} port 24007 already in peer list")
        theirs = self._pool(other)
        if len(theirs.members) > 1 or theirs.volumes:
            raise RefusedError(f"{address} is either already part of another cluster or having volumes configured", 3)
        pool.members[other.name] = other
        self._pools[other.name] = pool
        return answers.document(0, 0, output="success")

    def _peers(self, machine: Machine, words: list[str]) -> str:
        others = [m for m in self._pool(machine).members.values() if m is not machine]
        return answers.peers([(uuid_of(m), m.addresses, self._hears(machine, m)) for m in others])

    def _hears(self, machine: Machine, other: Machine) -> bool:
        return self._world.reachable(machine, other) and other.name not in self._stopped

    def _present(self, machine: Machine) -> list[Machine]:
        """The members of the pool that this one hears, itself included."""
        members = self._pool(machine).members.values()
        if not (self._world.cuts or self._stopped):
            return [m for m in members if m.up]  # nearly always, and for large pools much sooner
        return [m for m in members if m is machine or self._hears(machine, m)]

    # --- volumes ---

    def _volume(self, machine: Machine, name: str, *, change: bool = True) -> SimulatedVolume:
        if change and self._locked.get(name, 0) > 0:
            self._locked[name] -= 1
            raise RefusedError(
                f"Another transaction is in progress for {name}. Please try again after some time.", LOCKED
            )
        volume = self._pool(machine).volumes.get(name)
        if volume is None:
            raise RefusedError(f"Volume {name} does not exist")
        return volume

    def _create(self, machine: Machine, words: list[str]) -> str:
        name, counts, bricks = commands.creation(words)
        pool = self._pool(machine)
        if self._locked.get(name, 0) > 0:
            self._volume(machine, name)
        if name in pool.volumes:
            raise RefusedError(f"Volume {name} already exists", 0)
        volume = SimulatedVolume(name, str(uuid.uuid4()), bricks, counts)
        if volume.set_size > 1 and len({address for address, _ in bricks[: volume.set_size]}) < volume.set_size:
            raise RefusedError(
                "Multiple bricks of a replicate volume are present on the same server. This setup is not optimal. "
                "Bricks should be on different nodes to have best fault tolerant configuration. Use 'force' at the end "
                "of the command if you want to override this behavior. "
            )
        # The acting host goes through all bricks and marks its own as it comes to them; then the others look at theirs.
        owners = []
        for address, path in bricks:
            owners.append(self._owner(machine, address, path))
            if owners[-1] is machine:
                self._take_brick(machine, address, path, volume.uuid)
        for owner, (address, path) in zip(owners, bricks, strict=True):
            if owner is not machine:
                try:
                    self._take_brick(owner, address, path, volume.uuid)
                except RefusedError as refusal:
                    raise RefusedError(f"Staging failed on {address}. Error: {refusal}") from None
        pool.add(volume, [owner.name for owner in owners])
        return answers.changed("volCreate", volume)

    def _add_bricks(self, machine: Machine, words: list[str]) -> str:
        name, counts, bricks = commands.addition(words)
        pool = self._pool(machine)
        if (volume := pool.volumes.get(name)) is None:
            raise RefusedError(f"Unable to get volinfo for volume name {name}", 0)
        volume = self._volume(machine, name)
        if set(bricks) & set(volume.bricks):
            raise RefusedError("Operation failed", 0)
        grown = commands.arranged(volume, counts, bricks)
        owners = [self._owner(machine, address, path) for address, path in bricks]
        for owner, (address, path) in zip(owners, bricks, strict=True):
            self._take_brick(owner, address, path, volume.uuid)
            pool.claim(owner.name, path)
        volume.bricks, volume.counts = grown
        for owner in set(owners) if volume.started else ():
            self._spawn(owner, volume)
        return answers.document(0, 0, tail="  <cliOp>volAddBrick</cliOp>\n", output="Add Brick successful")

    def _heal(self, machine: Machine, words: list[str]) -> str:
        volume = self._volume(machine, words[0], change=False)
        return answers.healed(volume) if len(words) > 1 else answers.urged(volume)

    def _owner(self, machine: Machine, address: str, path: str) -> Machine:
        """The machine of a new brick, if it may have it."""
        pool = self._pool(machine)
        owner = self._world.machines.get(address)
        if owner is None or owner.name not in pool.members:
            raise RefusedError(f"Host {address} is not in 'Peer in Cluster' state")
        if owner is not machine and not self._hears(machine, owner):
            raise RefusedError(f"Host {address} not connected")
        if pool.is_taken(owner.name, path):
            raise RefusedError(
                f"Brick: {address}:{path} not available. Brick may be containing or be contained by an existing brick."
            )
        return owner

    def _take_brick(self, machine: Machine, address: str, path: str, volume_uuid: str) -> None:
        made = False
        if not machine.is_directory(path):
            try:
                machine.make_directory(path)
            except OSError as error:
                raise RefusedError(
                    f"Failed to create brick directory for brick {address}:{path}. Reason : {error.strerror} "
                ) from None
            made = True
        if machine.on_root(path):
            if made:
                machine.remove_directory(path)
            raise RefusedError(
                f"The brick {address}:{path} is being created in the root partition. It is recommended that you don't "
                "use the system's root partition for storage backend. Or use 'force' at the end of the command if you "
                "want to override this behavior."
            )
        if machine.mount_of(path) == path:
            raise RefusedError(
                f"The brick {address}:{path} is a mount point. Please create a sub-directory under the mount point and "
                "use that as the brick directory. Or use 'force' at the end of the command if you want to override "
                "this behavior."
            )
        marks = machine.xattrs(path)
        if VOLUME_MARK in marks or "trusted.gfid" in marks:
            raise RefusedError(f"{path} is already part of a volume")
        marks[VOLUME_MARK] = uuid.UUID(volume_uuid).bytes

    def _info(self, machine: Machine, words: list[str]) -> str:
        volumes = self._pool(machine).volumes
        if words in ([], ["all"]):
            return answers.info(volumes.values())
        found = volumes.get(words[0])
        if found is None:
            return answers.no_info(NO_VOLUME, "Volume does not exist")
        return answers.info([found])

    def _list(self, machine: Machine, words: list[str]) -> str:
        return answers.names(self._pool(machine).volumes)

    def _set(self, machine: Machine, words: list[str]) -> str:
        volume = self._volume(machine, words[0])
        pairs = list(zip(words[1::2], words[2::2], strict=True))
        if not pairs:
            raise ValueError("Usage:\nvolume set <VOLNAME> <KEY> <VALUE>")
        for key, _ in pairs:
            domain, dot, rest = key.partition(".")
            if not (domain in commands.OPTION_DOMAINS.split() and dot and rest):
                raise RefusedError(f"option : {key} does not exist")
        volume.options.update(pairs)
        return answers.document(0, 0, tail="  <cliOp>volSet</cliOp>\n", output="Set volume successful")

    def _start(self, machine: Machine, words: list[str]) -> str:
        volume = self._volume(machine, words[0])
        if volume.started and "force" not in words[1:]:
            raise RefusedError(f"Volume {volume.name} already started")
        present = self._present(machine)
        for address, path in volume.bricks:
            owner = self._world.machines[address]
            if owner not in present:
                continue
            if not owner.is_directory(path):
                said = f"Failed to find brick directory {path} for volume {volume.name}. Reason : {_GONE}"
                raise RefusedError(said if owner is machine else f"Staging failed on {address}. Error: {said}")
            if owner.xattrs(path).get(VOLUME_MARK) != uuid.UUID(volume.uuid).bytes:
                raise RefusedError(
                    f"Failed to get extended attribute {VOLUME_MARK} for brick dir {path}. Reason : No data available"
                )
        volume.state = "Started"
        owners = {self._world.machines[address].name for address, _ in volume.bricks}
        for member in present:
            if member.name in owners:
                self._spawn(member, volume)
        return answers.changed("volStart", volume)

    def _spawn(self, machine: Machine, volume: SimulatedVolume) -> None:
        """Start the bricks of the volume on this machine that do not run and have their directory."""
        for address, path in volume.bricks:
            if self._world.machines[address] is not machine:
                continue
            if volume.pids.get((machine.name, path)) in machine.processes:
                continue
            if not machine.is_directory(path) or (machine.name, path) in self._mute:
                continue
            name = path.strip("/").replace("/", "-")
            pid_file = f"{PID_DIRECTORY}/{volume.name}/{address}-{name}.pid"
            process = machine.spawn(
                "glusterfsd",
                (
                    "/usr/sbin/glusterfsd",
                    "-s",
                    address,
                    "--volfile-id",
                    f"{volume.name}.{address}.{name}",
                    "-p",
                    pid_file,
                ),
                cwd=path,
            )
            machine.make_directory(f"{PID_DIRECTORY}/{volume.name}", parents=True)
            machine.write(pid_file, f"{process.pid}\n")
            volume.pids[machine.name, path] = process.pid
            machine.xattrs(path).setdefault("trusted.gfid", b"\0" * 15 + b"\1")

    def _forget_processes(self, machine: Machine, volume: SimulatedVolume) -> None:
        for key in [key for key in volume.pids if key[0] == machine.name]:
            machine.kill(volume.pids.pop(key))
        directory = f"{PID_DIRECTORY}/{volume.name}"
        present = machine.find(directory)
        if present is not None:
            for name in list(getattr(present, "children", ())):
                machine.unlink(f"{directory}/{name}")
            machine.remove_directory(directory)

    def _status(self, machine: Machine, words: list[str]) -> str:
        try:
            volume = self._volume(machine, words[0], change=False)
            if not volume.started:
                raise RefusedError(f"Volume {volume.name} is not started")
        except RefusedError as refusal:
            return answers.document(
                -1, refusal.errno, str(refusal), tail="  <cliOp>volStatus</cliOp>\n", output=str(refusal)
            )
        nodes = []
        present = self._present(machine)
        for address, path in volume.bricks:
            owner = self._world.machines[address]
            if owner in present:
                pid = volume.pids.get((owner.name, path), -1)
                nodes.append((address, path, uuid_of(owner), pid if pid in owner.processes else -1))
        if volume.set_size > 1:
            heals = [(("localhost" if m is machine else m.addresses[-1]), uuid_of(m), 90) for m in present]
            nodes += [("Self-heal Daemon", where, peer, pid) for where, peer, pid in heals]
        return answers.status(volume, nodes)

    def _barrier(self, machine: Machine, words: list[str]) -> str:
        volume = self._volume(machine, words[0])
        if volume.options.get("features.barrier", "disable") == words[1]:
            raise ValueError("volume barrier: command unsuccessful : Failed to reconfigure barrier.")
        volume.options["features.barrier"] = words[1]
        return answers.BARRIER_DONE

    def _stop(self, machine: Machine, words: list[str]) -> str:
        volume = self._volume(machine, words[0])
        if not volume.started and "force" not in words[1:]:
            raise RefusedError(f"Volume {volume.name} is not in the started state")
        volume.state = "Stopped"
        for member in self._present(machine):
            self._forget_processes(member, volume)
        return answers.changed("volStop", volume)

    def _delete(self, machine: Machine, words: list[str]) -> str:
        volume = self._volume(machine, words[0])
        pool = self._pool(machine)
        if volume.started:
            raise RefusedError(f"Volume {volume.name} has been started.Volume needs to be stopped before deletion.")
        if volume.snapshots:
            raise RefusedError(
                f"Cannot delete Volume {volume.name} ,as it has {volume.snapshots} snapshots. "
                "To delete the volume, first delete all the snapshots under it."
            )
        if len(self._present(machine)) < len(pool.members):
            raise RefusedError("Some of the peers are down")
        pool.remove(volume, [self._world.machines[address].name for address, _ in volume.bricks])
        return answers.changed("volDelete", volume)
