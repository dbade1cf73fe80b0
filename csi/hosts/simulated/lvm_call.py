"""One call of an LVM program of a simulated host: its options, and what it says."""

from __future__ import annotations

import getopt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from csi.hosts.simulated.lvm import RefusedByLvm, VolumeGroup, VolumeManager

ANSWERED = "[y/n]: [n]"
"""How a question ends that LVM asked without a terminal: it takes no for an answer."""

_TAG = re.compile(r"[a-zA-Z0-9_+./=!:&#][a-zA-Z0-9_+./=!:&#-]*")
_SIZE = re.compile(r"(\+?)(\d+)([bskmgt]?)", re.IGNORECASE)
_UNIT = {"b": 1, "s": 512, "k": 1 << 10, "": 1 << 20, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class UnknownUse(Exception):
    """The simulated LVM does not know this use."""


@dataclass(slots=True)
class Call:
    """One call of a verb, and what it says. ``options`` by their long names; those given twice have two values."""

    manager: VolumeManager
    options: dict[str, list[str]]
    operands: list[str]
    printed: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    changed: bool = False

    def say(self, line: str) -> None:
        """Not with -qq."""
        if len(self.options.get("quiet", ())) < 2:
            self.printed.append(f"  {line}\n")

    def complain(self, *lines: str) -> None:
        self.complaints += [line + "\n" if line.endswith(ANSWERED) else f"  {line}\n" for line in lines]

    def has(self, option: str) -> bool:
        return option in self.options

    def value(self, option: str) -> str:
        """Raises: UnknownUse if it is not given."""
        if option not in self.options:
            raise UnknownUse
        return self.options[option][-1]

    def size(self, option: str) -> tuple[bool, int]:
        """Whether it is one to add, and the bytes."""
        match = _SIZE.fullmatch(self.value(option))
        if match is None:
            raise UnknownUse
        return bool(match[1]), int(match[2]) * _UNIT[match[3].lower()]

    def tags(self, option: str) -> set[str]:
        """Raises: RefusedByLvm for what can be no tag."""
        tags = set(self.options.get(option, ()))
        for tag in tags:
            if not _TAG.fullmatch(tag):
                raise RefusedByLvm(
                    f"Invalid argument for --{option}: {tag}", "Error during parsing of command line.", status=3
                )
        return tags

    def operand(self) -> str:
        """The only one."""
        if len(self.operands) != 1:
            raise UnknownUse
        return self.operands[0]

    def group_and_name(self) -> tuple[VolumeGroup, str]:
        """Of the only operand, "VG/LV". Raises: RefusedByLvm if there is no such group."""
        group, slash, name = self.operand().partition("/")
        if not slash or not name:
            raise UnknownUse
        return self.manager.group(group), name


@dataclass(frozen=True, slots=True)
class Verb:
    """What it does, and its options: "LETTER|NAME" or "NAME", with "=" at the end if there is a value."""

    act: Callable[[Call], None]
    options: str

    def parse(self, words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
        """Raises: UnknownUse."""
        letters, short, long = {}, "", []
        for word in f"q|quiet y|yes f|force {self.options}".split():
            letter, _, name = word.rpartition("|")
            long.append(name)
            if letter:
                short += letter + (":" if name.endswith("=") else "")
                letters[letter] = name.rstrip("=")
        try:
            found, operands = getopt.gnu_getopt(list(words), short, long)
        except getopt.GetoptError:
            raise UnknownUse from None
        options: dict[str, list[str]] = {}
        for flag, value in found:
            name = flag.lstrip("-")
            options.setdefault(letters.get(name, name), []).append(value)
        return options, operands
