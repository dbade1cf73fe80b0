"""Mount flags: what each becomes, and that nothing else passes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.core import mountflags
from csi.core.errors import InvalidRequest
from csi.core.mountflags import ClientFlags


def refusal(*flags: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        mountflags.check(flags)
    return str(caught.value)


def test_no_flags_are_none() -> None:
    assert mountflags.check([]) == ClientFlags()
    assert mountflags.check([""]) == ClientFlags()


@pytest.mark.parametrize(
    ("flag", "arguments"),
    [
        ("log-level=WARNING", ("--log-level=WARNING",)),
        ("log-level=debug", ("--log-level=DEBUG",)),
        ("attribute-timeout=600", ("--attribute-timeout=600",)),
        ("entry-timeout=0.5", ("--entry-timeout=0.5",)),
        ("negative-timeout=0", ("--negative-timeout=0",)),
        ("gid-timeout=2", ("--gid-timeout=2",)),
        ("direct-io-mode=disable", ("--direct-io-mode=disable",)),
        ("direct-io-mode=auto", ("--direct-io-mode=auto",)),
        ("reader-thread-count=4", ("--reader-thread-count=4",)),
        ("background-qlen=128", ("--background-qlen=128",)),
        ("oom-score-adj=-500", ("--oom-score-adj=-500",)),
        ("lru-limit=0", ("--lru-limit=0",)),
        ("use-readdirp=no", ("--use-readdirp=no",)),
        ("fopen-keep-cache", ("--fopen-keep-cache",)),
        ("fopen-keep-cache=true", ("--fopen-keep-cache=true",)),
        ("acl", ("--acl",)),
        ("selinux", ("--selinux",)),
        ("backup-volfile-servers=a.example:10.0.0.2", ("--volfile-server=a.example", "--volfile-server=10.0.0.2")),
        ("backupvolfile-server=b", ("--volfile-server=b",)),
    ],
)
def test_flags_of_the_client(flag: str, arguments: tuple[str, ...]) -> None:
    assert mountflags.check([flag]) == ClientFlags(client=arguments)


@pytest.mark.parametrize("flag", ["nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "exec", "atime"])
def test_flags_of_the_kernel(flag: str) -> None:
    assert mountflags.check([flag]) == ClientFlags(bind=(flag,))


def test_read_only() -> None:
    assert mountflags.check(["ro"]) == ClientFlags(read_only=True)
    assert mountflags.check(["rw"]) == ClientFlags()


@pytest.mark.parametrize(
    "flag", ["defaults", "_netdev", "auto_unmount", "nofail", "noauto", "x-systemd.automount", "x-a=b"]
)
def test_flags_that_mean_nothing_here(flag: str) -> None:
    assert mountflags.check([flag]) == ClientFlags()


def test_several_in_one_entry_and_twice_the_same() -> None:
    found = mountflags.check(["ro,noatime", "acl, log-level=ERROR", "acl", "noatime", "ro", "log-level=ERROR"])
    assert found == ClientFlags(client=("--acl", "--log-level=ERROR"), bind=("noatime",), read_only=True)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["ro", "rw"], "contradicts 'ro'"),
        (["exec,noexec"], "contradicts 'exec'"),
        (["noatime", "relatime"], "contradicts 'noatime'"),
        (["log-level=ERROR", "log-level=INFO"], "another value before"),
        (["log-level=LOUD"], "log-level takes one of TRACE, DEBUG"),
        (["log-level"], "'log-level'"),
        (["acl=on"], "'acl'"),
        (["ro=1"], "'ro'"),
        (["attribute-timeout=-1"], "seconds"),
        (["attribute-timeout=1s"], "seconds"),
        (["gid-timeout=0.5"], "whole number"),
        (["attribute-timeout=٣"], "seconds"),
        (["reader-thread-count=0"], "1 to 64"),
        (["reader-thread-count=65"], "1 to 64"),
        (["direct-io-mode=maybe"], "on, off or auto"),
        (["fopen-keep-cache="], "on or off"),
        (["backup-volfile-servers=a:"], "names of hosts"),
        (["backup-volfile-servers=a:$(id)"], "names of hosts"),
        (["backup-volfile-servers=-a"], "names of hosts"),
        (["log-file=/etc/passwd"], "node.log_dir"),
        (["xlator-option=*.ping-timeout=1"], "pingTimeout"),
        (["subdir-mount=/a"], "subPath"),
        (["dump-fuse=/tmp/x"], "'dump-fuse'"),
        (["fuse-mountopts=allow_other"], "'fuse-mountopts'"),
        (["volume-id=other"], "'volume-id'"),
        (["--acl"], "'--acl'"),
        (["bind"], "'bind'"),
        (["remount"], "'remount'"),
        (["sync"], "'sync'"),
        (["acl\n"], "acl"),
    ],
)
def test_flags_that_are_refused_by_name(flags: list[str], says: str) -> None:
    assert says in refusal(*flags)


def test_the_allowed_ones_are_listed() -> None:
    said = refusal("colour=red")
    for flag in mountflags.ALLOWED:
        assert flag in said


def test_the_value_of_an_unknown_flag_is_not_repeated() -> None:
    assert "hunter2" not in refusal("password=hunter2")


def test_together_they_have_a_limit() -> None:
    assert mountflags.check(["acl"] * 1365).client == ("--acl",)
    assert "4098 bytes" in refusal(*["acl"] * 1366)


_SAFE = re.compile(r"--[a-z0-9-]+(=[A-Za-z0-9.:-]+)?", re.ASCII)
_NAMES = [name.removesuffix("...") for name in mountflags.ALLOWED]


@given(
    st.lists(st.text(max_size=200) | st.builds(str.__add__, st.sampled_from(_NAMES), st.text(max_size=20)), max_size=4)
)
def test_nothing_else_passes_through(flags: list[str]) -> None:
    try:
        found = mountflags.check(flags)
    except InvalidRequest:
        return
    assert all(_SAFE.fullmatch(argument) for argument in found.client)
    assert set(found.bind) <= set(mountflags.ALLOWED)
