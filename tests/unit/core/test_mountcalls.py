"""The words between node plug-in and mounts daemon: what is understood, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from csi.core import mountcalls, mountflags
from csi.core.errors import InvalidRequest
from csi.core.mountcalls import End, Fault, Misunderstood, Reply, Request, Runs, Source, Start
from csi.core.podpaths import pod_of

START = Start(Source(("a", "10.0.0.1", "fd00::1"), "vol_1", 8, ("--acl", "--log-level=DEBUG")), "/var/lib/kubelet/x")


def document(**changes: Any) -> bytes:
    plain = json.loads(mountcalls.frame(Request(1, "r", 10.0, START))[mountcalls.HEADER :])
    for key, value in changes.items():
        where = plain["call"]["source"] if key in plain["call"]["source"] else plain["call"]
        (plain if key in plain else where)[key] = value
    return json.dumps(plain).encode()


@pytest.mark.parametrize("call", [START, Runs(("/a", "/b")), End("vol_1", "/a", "0:51", True)])
def test_there_and_back(call: mountcalls.Call) -> None:
    request = Request(1, "r", 10.0, call)
    frame = mountcalls.frame(request)
    assert mountcalls.length(frame[: mountcalls.HEADER]) == len(frame) - mountcalls.HEADER
    assert mountcalls.read_request(frame[mountcalls.HEADER :]) == request
    reply = Reply("r", Fault(mountcalls.FAILED, "why"), True)
    assert mountcalls.read_reply(mountcalls.frame(reply)[mountcalls.HEADER :]) == reply


def test_a_newer_plug_in_may_say_more() -> None:
    assert mountcalls.read_request(document(hint="x")).call == START


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "speaks version 1, not 2"),
        ({"type": "shutdown"}, "shutdown"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 1e9}, "timeout"),
        ({"volume": "../x"}, "volume"),
        ({"volume": "-x"}, "volume"),
        ({"servers": []}, "servers"),
        ({"servers": ["a"] * 65}, "servers"),
        ({"servers": ["a/b"]}, "servers"),
        ({"ping_timeout": 0}, "ping_timeout"),
        ({"flags": ["--volfile=/etc/shadow"]}, "volfile"),
        ({"flags": ["--log-file=/etc/cron.d/x"]}, "log-file"),
        ({"flags": ["--xlator-option=*.x=y"]}, "xlator-option"),
        ({"flags": ["/elsewhere"]}, "/elsewhere"),
        ({"flags": ["acl"]}, "acl"),
        ({"flags": ["--acl "]}, "acl"),
        ({"target": "relative"}, "target"),
        ({"target": "/a/../etc"}, "target"),
        ({"target": "/a//b"}, "target"),
        ({"target": "/"}, "target"),
        ({"target": "/a\0b"}, "target"),
        ({"target": 7}, "target"),
    ],
)
def test_what_no_plug_in_would_say_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Misunderstood) as caught:
        mountcalls.read_request(document(**changes))
    assert caught.value.request_id == "r"
    assert says in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{}", b"GET / HTTP/1.1", b'{"version": "1", "id": "r"}'])
def test_what_is_not_our_protocol_cannot_be_answered(text: bytes) -> None:
    with pytest.raises(ValueError, match="document") as caught:
        mountcalls.read_request(text)
    assert not isinstance(caught.value, Misunderstood)


def test_sizes_have_a_limit() -> None:
    with pytest.raises(ValueError, match="larger than"):
        mountcalls.length(b"GET ")
    with pytest.raises(ValueError, match="larger than"):
        mountcalls.frame(Request(1, "r", 1.0, Runs(("/" + "x" * 70000,))))


@pytest.mark.parametrize(
    "flags", [("acl", "log-level=debug"), ("backup-volfile-servers=a:b,attribute-timeout=0.5",), ("fopen-keep-cache",)]
)
def test_arguments_that_flags_become_are_accepted(flags: Sequence[str]) -> None:
    mountflags.check_arguments(mountflags.check(flags).client)


def test_long_arguments_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="bytes together"):
        mountflags.check_arguments(["--acl"] * 5000)


def test_the_pod_of_a_target() -> None:
    uid = "0a1b2c3d-1111-2222-3333-444455556666"
    assert pod_of(f"/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/pv-1/mount") == uid
    assert pod_of("/var/lib/kubelet/plugins/kubernetes.io/csi/x/globalmount") == pod_of("/mnt") == ""
