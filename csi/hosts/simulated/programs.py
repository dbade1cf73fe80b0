"""What the programs of a simulated host do: only the uses that this driver makes of them.

A use that is not known here fails with status 2 and says so, as a real program would for a wrong option.
"""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Callable, Sequence

from csi.core.command import Result
from csi.hosts.simulated.filesystem import Directory, File
from csi.hosts.simulated.machine import Machine

Program = Callable[[Machine, Sequence[str], str], Result]
"""(machine, argv, stdin) -> how it ended. Its effects are made before it returns. May raise OSError: status 1."""

DONE = Result(0)
MOUNTINFO = "/proc/self/mountinfo"


def failed(status: int, text: str) -> Result:
    return Result(status, stderr=text + "\n")


def unknown(argv: Sequence[str]) -> Result:
    return failed(2, f"{argv[0]}: the simulated host does not know this use: {' '.join(argv[1:])[:200]}")


def run(program: Program, machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    """The program, with an error of the system told as programs tell it."""
    try:
        return program(machine, argv, stdin)
    except OSError as error:
        return failed(1, f"{argv[0]}: {error.filename}: {error.strerror}")


def _operands(argv: Sequence[str], *flags: str) -> list[str] | None:
    """The words after the flags; None if there is a flag that is not allowed."""
    words = list(argv[1:])
    while words and words[0] != "-" and words[0].startswith("-"):
        flag = words.pop(0)
        if flag == "--":
            break
        if flag not in flags:
            return None
    return words


# --- small ones -------------------------------------------------------------------------------


def _true(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    return DONE


def _false(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    return Result(1)


def _echo(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    return Result(0, " ".join(argv[1:]) + "\n")


def _test(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    if len(argv) != 3:
        return unknown(argv)
    node = machine.find(argv[2])
    match argv[1]:
        case "-e":
            true = node is not None or argv[2] in machine.blocks
        case "-b":
            true = argv[2] in machine.blocks or argv[2] in machine.disks
        case "-f":
            true = isinstance(node, File)
        case "-d":
            true = isinstance(node, Directory)
        case "-s":
            true = isinstance(node, File) and node.size > 0
        case _:
            return unknown(argv)
    return Result(0 if true else 1)


def _cat(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    paths = _operands(argv)
    if paths is None:
        return unknown(argv)
    if not paths:
        return Result(0, stdin)
    return Result(0, "".join(_text(machine, path) for path in paths))


def _text(machine: Machine, path: str) -> str:
    if path == MOUNTINFO:
        return "".join(line + "\n" for line in machine.mountinfo())
    return machine.read(path)


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _kill(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    pids = [word for word in argv[1:] if word.isdigit()]
    missing = [pid for pid in pids if not machine.kill(int(pid))]
    return failed(1, f"kill: ({missing[0]}) - No such process") if missing else DONE


# --- files ------------------------------------------------------------------------------------


def _mkdir(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    paths = _operands(argv, "-p")
    if paths is None:
        return unknown(argv)
    for path in paths:
        machine.make_directory(path, parents="-p" in argv)
    return DONE


def _rmdir(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    for path in _operands(argv) or ():
        machine.remove_directory(path)
    return DONE


def _rm(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    paths = _operands(argv, "-f")
    if paths is None:
        return unknown(argv)
    for path in paths:
        if "-f" not in argv or machine.find(path) is not None:
            machine.unlink(path)
    return DONE


def _mv(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    paths = _operands(argv, "-T", "-f")
    if paths is None or len(paths) != 2:
        return unknown(argv)
    machine.rename(*paths)
    return DONE


def _sync(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    for path in _operands(argv) or ():
        if machine.find(path) is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return DONE


def _chmod(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    words = _operands(argv)
    if not words or len(words) < 2:
        return unknown(argv)
    for path in (word for word in words[1:] if word != "--"):
        node = machine.find(path)
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        node.mode = node.mode | 0o1000 if words[0] == "+t" else int(words[0], 8)
    return DONE


def _setfattr(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    if len(argv) < 4 or argv[1] not in ("-x", "--remove"):
        return unknown(argv)
    for path in argv[3:]:
        if path != "--" and machine.xattrs(path).pop(argv[2], None) is None:
            return failed(1, f"setfattr: {path}: No such attribute")
    return DONE


# --- looking ----------------------------------------------------------------------------------


def _stat(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    if list(argv[1:4]) != ["-c", "%F:%s:%n", "--"]:
        return unknown(argv)
    lines, missing = [], []
    for path in argv[4:]:
        node = machine.find(path)
        if node is None:
            missing.append(f"stat: cannot statx '{path}': No such file or directory\n")
        elif isinstance(node, Directory):
            lines.append(f"directory:4096:{path}\n")
        else:
            lines.append(f"regular {'' if node.size else 'empty '}file:{node.size}:{path}\n")
    return Result(1 if missing else 0, "".join(lines), "".join(missing))


def _grep(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    """Fixed strings only: an empty pattern, or any with -F."""
    words, patterns, paths, flags = list(argv[1:]), [], [], set()
    while words:
        word = words.pop(0)
        if word == "-e":
            patterns.append(words.pop(0))
        elif word == "--":
            paths += words
            break
        elif word.startswith("-"):
            flags.add(word)
        elif not patterns:
            patterns.append(word)
        else:
            paths.append(word)
    if not flags <= {"-F", "-H", "-h", "-s"} or ("-F" not in flags and any(patterns)):
        return unknown(argv)
    lines, missing = [], False
    for path in paths:
        try:
            text = _text(machine, path)
        except OSError:
            missing = True
            continue
        head = f"{path}:" if "-H" in flags else ""
        lines += [f"{head}{line}\n" for line in _lines(text) if any(p in line for p in patterns)]
    return Result(2 if missing else 0 if lines else 1, "".join(lines))


def _find(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    """One directory; ``-printf %b`` or ``-exec grep -h``."""
    path, words = argv[1], list(argv[2:])
    if words[:3] != ["-maxdepth", "1", "-name"]:
        return unknown(argv)
    pattern, action = words[3], words[4:]
    directory = machine.find(path)
    if not isinstance(directory, Directory):
        return failed(1, f"find: '{path}': No such file or directory")
    found = {n: f for n, f in directory.children.items() if isinstance(f, File) and fnmatch.fnmatchcase(n, pattern)}
    if action == ["-printf", "%b\\n"]:
        blocks = (f.allocated + (f.image.used if f.image else 0) for f in found.values())
        return Result(0, "".join(f"{b // 512}\n" for b in blocks))
    if action == ["-printf", "%f %b %T@\\n"]:
        sizes = {n: f.allocated + (f.image.used if f.image else 0) for n, f in found.items()}
        return Result(0, "".join(f"{name} {size // 512} 1700000000.5\n" for name, size in sizes.items()))
    if action == ["-size", "+0", "-exec", "grep", "-h", "", "{}", "+"]:
        return Result(0, "".join(line + "\n" for f in found.values() for line in _lines(f.text)))
    return unknown(argv)


def _df(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    if list(argv[1:4]) != ["-B1", "--output=target,fstype,avail", "--"] or len(argv) != 5:
        return unknown(argv)
    path = argv[4]
    if machine.find(path) is None:
        return failed(1, f"df: {path}: No such file or directory")
    system = machine.filesystem_of(path)
    return Result(0, f"Mounted on Type Avail\n{machine.mount_of(path)} {system.kind} {system.capacity - system.used}\n")


PROGRAMS: dict[str, Program] = {
    "true": _true,
    "false": _false,
    "echo": _echo,
    "test": _test,
    "cat": _cat,
    "kill": _kill,
    "mkdir": _mkdir,
    "rmdir": _rmdir,
    "rm": _rm,
    "mv": _mv,
    "sync": _sync,
    "chmod": _chmod,
    "setfattr": _setfattr,
    "stat": _stat,
    "grep": _grep,
    "find": _find,
    "df": _df,
}
