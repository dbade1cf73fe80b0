"""Scripts as text for a long-lived /bin/sh, and what the shell says as results. No I/O here.

The text of one script is one compound command. The shell parses all of it before it runs any of it, so a script
that a broken connection cut short does nothing. After each command the shell writes a marker with the command's
status to both of its streams (after silent ones only if they failed, or nothing follows); a marker begins with a nonce
that the commands can't know, so no output is taken for one. A command costs the shell nothing but its own process, and
a verb (``verbs.sh``) not even that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

from csi.core.command import Command, Result, Script

OUTPUT_LIMIT = 1 << 20
"""Bytes that are kept of each stream of each command; what comes beyond is read and dropped."""

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# These act on the shell itself; given as a command they would change it for all scripts after, or end it.
_SHELL_ONLY = frozenset(
    """
    . alias bg break cd command continue eval exec exit export fg getopts hash jobs local read readonly return
    set shift source times trap type ulimit umask unalias unset wait
    """.split()  # noqa: SIM905
)

# Verbs that say nothing when they end with 0: nobody needs to tell their output from that of the next command.
_SILENT = frozenset(
    "csi_brick_ours csi_brick_tag csi_copy_ours csi_copy_tag csi_device_claimed csi_lvm_copy_ours".split()  # noqa: SIM905
)

_BEGIN = "begin"
_END = "end"
_SKIPPED = "skipped"
_MARKER = re.compile(rb":([a-z0-9]+):([a-z0-9]+)\n")  # after the nonce


def quote(text: str) -> str:
    """The one place where a string becomes shell text: a single word that the shell does not look into.

    Always in quotes, plain words too: unquoted, ``if`` or ``a=b`` would be syntax where the name of a command is due.
    """
    if "\0" in text:
        raise ValueError(f"a word for a shell cannot hold a NUL character: {text[:80]!r}")
    return "'" + text.replace("'", "'\\''") + "'"


def prelude() -> str:
    """What each shell is given once: a fixed locale and search path, and the functions."""
    functions = "".join(
        resources.files("csi.hosts").joinpath(name).read_text(encoding="utf-8")
        for name in ("session.sh", "verbs.sh", "copyverbs.sh", "lvm.sh", "lvmcopies.sh", "regroup.sh")
    )
    # Comments are most of the text, and some shells read a pipe byte by byte.
    lines = [line for line in functions.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    settings = ["unset CDPATH ENV", f"LC_ALL=C PATH={SEARCH_PATH}", "export LC_ALL PATH", "umask 022", "cd /"]
    return "\n".join([*settings, *lines, ""])


def compile_script(script: Script, nonce: str, *, first: bool = False) -> bytes:
    """The text that makes a shell run the script and mark its output with the nonce.

    ``first``: of a new shell; what its start-up files said is not the script's. Raises: ValueError for what cannot be
    said to a shell.
    """
    body = "".join(_command(script, index) for index in range(len(script.commands)))
    # The loop is there for `break` alone: it ends the script at its first failure and leaves the shell alive. Whatever
    # command was the last one is marked together with the end: each write is a packet on its way to us.
    begin = f"csi_mark {_BEGIN} 0; " if first else ""
    return _encode(
        f"csi_nonce={nonce}; {begin}while :; do\n{body}break; done </dev/null; "
        f"csi_mark $csi_index $csi_status {_END} 0\n"
    )


def compile_exec(argv: Sequence[str], nonce: str) -> bytes:
    """The text that makes the shell's process become a program.

    What follows ``exec_marker`` on stdout is the program's output, and what is written after it was met goes to the
    program; before that the shell might still take it for itself.
    """
    return _encode(f"csi_nonce={nonce}; csi_mark {_END} 0; exec {_words(argv, program=True)} 2>&1\n")


def exec_marker(nonce: str) -> bytes:
    return f"{nonce}:{_END}:0\n".encode()


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _words(argv: Sequence[str], *, program: bool = False) -> str:
    if not argv or not argv[0]:
        raise ValueError("a command needs a name")
    if not program and argv[0] in _SHELL_ONLY:
        raise ValueError(f"{argv[0]!r} is a command of the shell itself and cannot be run as a command of a script")
    return " ".join(map(quote, argv))


def is_unmarked(command: Command) -> bool:
    """Whether the next mark says of this command, too, that it has ended, and well."""
    return command.argv[0] in _SILENT and command.ok == (0,) and not command.unless


def _command(script: Script, index: int) -> str:
    """One command of it. The mark of the command before goes out first: that one was not the last."""
    command = script.commands[index]
    words = _words(command.argv)
    if command.stdin:
        # The first half is quiet because the command may end without reading all of it.
        words = f"printf %s {quote(command.stdin)} 2>/dev/null | {words}"
    accepted = "|".join(str(int(status)) for status in command.ok) or "none"
    marked = index > 0 and not is_unmarked(script.commands[index - 1])
    before = "csi_mark $csi_index $csi_status\n" if marked else ""
    run = f"{words}\ncsi_status=$? csi_index={index}; case $csi_status in {accepted}) ;; *) break ;; esac\n"
    if not command.unless:
        return before + run
    skipped = f"csi_status={_SKIPPED} csi_index={index}"
    return f"{before}if {_words(command.unless)} >/dev/null 2>&1; then {skipped}; else\n{run}fi\n"


@dataclass(slots=True)
class _Stream:
    """One of the shell's two streams: what is not looked at yet, and the outputs cut so far."""

    pending: bytearray = field(default_factory=bytearray)
    output: bytearray = field(default_factory=bytearray)
    dropped: int = 0
    ended: bool = False
    outputs: list[tuple[str, str]] = field(default_factory=list)  # (status, text) of each command

    def keep(self, data: bytearray, limit: int) -> None:
        room = limit - len(self.output)
        self.output += data[:room]
        self.dropped += max(0, len(data) - room)

    def cut(self, index: str, status: str) -> None:
        """A marker was met."""
        if index == _END:
            self.ended = True
        elif index != _BEGIN:
            text = self.output.decode("utf-8", "surrogateescape")
            if self.dropped:
                text += f"\n[{self.dropped} more bytes dropped]\n"
            # Those that were silent have no marks of their own.
            self.outputs += [("0", "")] * (int(index) - len(self.outputs))
            self.outputs.append((status, text))
        self.output.clear()
        self.dropped = 0


class Reply:
    """Takes the two streams of a shell as they come and cuts them at the markers."""

    def __init__(self, nonce: str, limit: int = OUTPUT_LIMIT) -> None:
        self._nonce = nonce.encode()
        self._limit = limit
        self._streams = (_Stream(), _Stream())

    def feed(self, stream: int, data: bytes) -> bool:
        """``stream``: 0 is stdout, 1 is stderr. True when all has been said on both."""
        state = self._streams[stream]
        state.pending += data
        start = 0
        while found := self._next_marker(state.pending, start):
            state.keep(state.pending[start : found.start() - len(self._nonce)], self._limit)
            state.cut(found[1].decode(), found[2].decode())
            start = found.end()
        # A marker may have come in part: what could be the beginning of one is looked at again with the next data.
        rest = state.pending[start:]
        cut = self._possible_marker(rest)
        state.keep(rest[:cut], self._limit)
        state.pending = rest[cut:]
        return self.done

    def _next_marker(self, data: bytearray, start: int) -> re.Match[bytes] | None:
        """What follows the nonce in the next whole marker."""
        # Not one pattern with the nonce in it: compiling that for each script costs more than all the rest here.
        while (at := data.find(self._nonce, start)) >= 0:
            start = at + len(self._nonce)
            if found := _MARKER.match(data, start):
                return found
        return None

    def _possible_marker(self, rest: bytearray) -> int:
        """Where in ``rest`` an unfinished marker may begin."""
        found = rest.find(self._nonce)
        return found if found >= 0 else max(0, len(rest) - len(self._nonce) + 1)

    @property
    def done(self) -> bool:
        return all(stream.ended for stream in self._streams)

    @property
    def reached(self) -> int:
        """The index of the command that is running, or would run next."""
        return len(self._streams[0].outputs)

    def unmarked(self) -> str:
        """What came after the last marker; before the first one, why there is no shell."""
        said = (bytes(stream.output + stream.pending).decode("utf-8", "replace").strip() for stream in self._streams)
        return " ".join(filter(None, said))

    def results(self) -> tuple[Result, ...]:
        """One for each command that was reached, once all is said."""
        out, err = (stream.outputs for stream in self._streams)
        return tuple(
            Result(0, skipped=True) if status == _SKIPPED else Result(int(status), stdout, stderr)
            for (status, stdout), (_, stderr) in zip(out, err, strict=True)
        )
