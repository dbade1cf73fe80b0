"""What ``gluster`` answered: refused or not, and what a refusal means.

glusterd has numbers for its refusals (opErrno) and uses them seldom: nearly everything is 30800. Where the number
says nothing the text has to. The texts that are known, in this order, each one recorded from GlusterFS 10.3 in
``tests/recorded/gluster`` (or, where marked so, taken from its binary, since it could not be provoked):

================================================================  ======================  =====================
text                                                              from                    meaning
================================================================  ======================  =====================
Another transaction is in progress for V. Please try again …      any change              LOCKED (also 30802)
Another transaction could be in progress. Please try again …      any change (binary)     LOCKED
Locking failed on H. …                                            any change (binary)     LOCKED
Volume V does not exist                                           all but info            ABSENT (info: 30806)
Volume V already exists                                           create (opErrno 0)      EXISTS
P is already part of a volume (also after "Staging failed on")    create                  MARKED
parent directory P is already part of a volume                    create (binary)         REFUSED
Host H is not in 'Peer in Cluster' state                          create                  JOINING
Host H not connected                                              create                  AWAY
Some of the peers are down (also after "Staging failed on")       delete                  AWAY
Quorum not met. Volume operation not allowed.                     any change but create   AWAY
Server quorum not met. Rejecting operation.                       any change (binary)     AWAY
Volume V already started                                          start                   STARTED
Volume V is not in the started state                              stop                    STOPPED
Volume V is not started                                           status                  STOPPED
Staging failed on H. Error: Volume V is not started               status                  PARTLY
Pre Validation failed on H. Volume V is not in the started state  stop                    PARTLY
Staging failed on H. Error: Volume V has been started.…           delete                  PARTLY
Pre Validation failed on H. Volume V already started              start                   STARTED
Commit failed on H. Please check log file for details.            start                   UNCOMMITTED
Rebalance on V is already started                                 rebalance start         REBALANCING
Brick ops failed on H. … op 'Rebalance' failed. …                 rebalance status, soon  REBALANCING
Volume name V rebalance is in progress. …                         add-brick               REBALANCING
rebalance session is in progress for the volume 'V'               stop                    REBALANCING
Rebalance not started for volume V.                               rebalance status        STOPPED
Volume V is not a distribute volume or contains only 1 brick. …   rebalance start         ONE_SET
Cannot delete Volume V ,as it has N snapshots. …                  delete (binary)         HELD
H is either already part of another cluster or …                  probe (opErrno 3)       HELD
Probe returned with Transport endpoint is not connected           probe (opErrno 107)     DISCONNECTED
Launching heal operation to … on volume V has been successful     heal, plain text        DONE
volume barrier: command successful                                barrier, plain text     DONE
Error : Request timed out                                         any, plain text         SILENT
Connection failed. Please check if gluster daemon is operational. any, plain text         NO_DAEMON
================================================================  ======================  =====================

What stands in no row is REFUSED: passed on with its number and its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from xml.etree import ElementTree

from csi.core.errors import Busy, DriverError, GlusterFailed, HostUnreachable, InUse, Unavailable


class Meaning(Enum):
    DONE = "done"
    LOCKED = "another change of this volume is under way"
    ABSENT = "no such volume"
    EXISTS = "there is a volume of this name"
    MARKED = "a brick directory bears the mark of a volume"
    JOINING = "a peer is not yet, or no longer, in the cluster"
    AWAY = "a peer is down"
    STARTED = "started already"
    STOPPED = "not started"
    PARTLY = "started on some hosts only"
    UNCOMMITTED = "a host could not carry it out"
    HELD = "something else holds on to it"
    DISCONNECTED = "the peer does not answer"
    SILENT = "glusterd gave up waiting for a peer"
    NO_DAEMON = "glusterd does not run on this host"
    REBALANCING = "its files are being moved"
    ONE_SET = "nothing to move files to"
    REFUSED = "refused"


_NUMBERS = {30802: Meaning.LOCKED, 30806: Meaning.ABSENT}
_NUMBERS_OF_PROBE = {3: Meaning.HELD, 107: Meaning.DISCONNECTED}  # elsewhere they may be any errno of Linux

_OF_A_PEER = r"(?:Staging|Pre Validation) failed on \S+ (?:Error: )?"

_TEXTS = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"Another transaction (is|could be) in progress", Meaning.LOCKED),
        (r"Locking failed on ", Meaning.LOCKED),
        (r"Volume \S+ does not exist$", Meaning.ABSENT),
        (r"Volume \S+ already exists$", Meaning.EXISTS),
        (rf"(?:{_OF_A_PEER})?/\S+ is already part of a volume", Meaning.MARKED),
        (r".*Host \S+ is not in 'Peer in Cluster' state", Meaning.JOINING),
        (r".*Host \S+ (is )?not connected", Meaning.AWAY),
        (rf"(?:{_OF_A_PEER})?Some of the peers are down", Meaning.AWAY),
        (r".*[Qq]uorum (is )?not met", Meaning.AWAY),
        (r"Volume \S+ already started$", Meaning.STARTED),
        (r"Volume \S+ is not (started|in the started state)$", Meaning.STOPPED),
        # A line for each host that says so.
        (_OF_A_PEER + r"Volume \S+ (is not started|is not in the started state|has been started)", Meaning.PARTLY),
        (_OF_A_PEER + r"Volume \S+ already started", Meaning.STARTED),
        (r"Commit failed on ", Meaning.UNCOMMITTED),
        (r"Rebalance on \S+ is already started", Meaning.REBALANCING),
        (r"Brick ops failed .*'Rebalance' failed", Meaning.REBALANCING),
        (r"Volume name \S+ rebalance is in progress", Meaning.REBALANCING),
        (r"rebalance session is in progress for the volume", Meaning.REBALANCING),
        (r"Rebalance not started for volume ", Meaning.STOPPED),
        (r"Volume \S+ is not a distribute volume or contains only 1 brick", Meaning.ONE_SET),
        (r"Cannot delete Volume .* snapshots", Meaning.HELD),
        (r"Launching heal operation to perform index self heal .* has been successful", Meaning.DONE),
        (r"volume barrier: command successful", Meaning.DONE),
        (r"Error : Request timed out", Meaning.SILENT),
        (r"Connection failed\. Please check if gluster daemon is operational", Meaning.NO_DAEMON),
    )
)


# A status has one for each host of the pool, and nobody here asks for them: of fifty hosts they are nine tenths of it.
_DAEMONS = re.compile(r"<node>\s*<hostname>Self-heal Daemon</hostname>.*?</node>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host said to a command. ``document`` is there unless it was plain text."""

    host: str
    command: str
    meaning: Meaning
    errno: int = 0
    text: str = ""
    document: ElementTree.Element | None = None

    def done(self) -> ElementTree.Element:
        """The document of a command that was carried out. Raises: what ``error`` gives, if it was refused."""
        if self.meaning is not Meaning.DONE or self.document is None:
            raise self.error()
        return self.document

    def error(self) -> DriverError:
        """The error that a refusal of this meaning is, for who can do nothing about it."""
        what = f"gluster {self.command!r} on host {self.host}: {self.text}"
        match self.meaning:
            case Meaning.LOCKED:
                return Busy(f"{what}; another client of glusterd keeps the volume locked: try again later")
            case Meaning.REBALANCING:
                return Busy(f"{what}; it goes on when its files have been moved (`gluster volume rebalance`)")
            case Meaning.AWAY | Meaning.JOINING:
                return Unavailable(f"{what}: bring glusterd on all peers up and connected (`gluster peer status`)")
            case Meaning.DISCONNECTED:
                return Unavailable(f"{what}: glusterd must run there and be reachable on port 24007")
            case Meaning.SILENT:
                return Unavailable(f"{what}: a peer has vanished or hangs, and the outcome is not known yet")
            case Meaning.HELD:
                return InUse(what)
            case Meaning.NO_DAEMON:
                return HostUnreachable(self.host, f"glusterd does not run there: {self.text}")
            case _:
                return GlusterFailed(self.host, self.command, self.errno, self.text)


def _meaning(command: str, errno: int, text: str) -> Meaning:
    numbers = _NUMBERS_OF_PROBE if command.startswith("peer probe ") else _NUMBERS
    if (known := numbers.get(errno)) is not None:
        return known
    return next((meaning for pattern, meaning in _TEXTS if pattern.match(text)), Meaning.REFUSED)


def read(host: str, command: str, said: bytes | str, status: int = 0) -> Answer | None:
    """The answer in what was printed: one document, or plain text of a process that ended with ``status``.

    None if it is neither, as when it was cut off.
    """
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    start = text.find("<?xml")
    if start < 0:
        plain = text.strip()
        meaning = _meaning(command, 0, plain)
        if not plain or (not status and meaning is not Meaning.DONE):
            return None
        return Answer(host, command, meaning, status, plain[-500:])
    try:
        # The declared encoding is about bytes; this is text already.
        relevant = _DAEMONS.sub("", text[text.index("?>", start) + 2 :].strip())
        document = ElementTree.fromstring(relevant)  # noqa: S314 -- glusterd's own
        code = int(document.findtext("opRet", ""))
        errno = int(document.findtext("opErrno", "0"))
    except (ElementTree.ParseError, ValueError):
        return None
    told = (document.findtext("opErrstr") or document.findtext("output") or "").strip()
    if code == 0:
        return Answer(host, command, Meaning.DONE, errno, told, document)
    return Answer(host, command, _meaning(command, errno, told), errno, told, document)
