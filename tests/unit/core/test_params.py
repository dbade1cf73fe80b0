"""StorageClass parameters: what each takes, what it refuses and how it says so."""

from __future__ import annotations

import dataclasses
import re
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csi.core import documents, params
from csi.core.errors import InvalidRequest
from csi.core.model import Durability, Protection, RestoreGid, TagRule, VolumeSpec, ZoneChecking

ID = "0123456789abcdef" * 2


def spec(**parameters: str) -> VolumeSpec:
    return params.parse(parameters).spec


def refusal(**parameters: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        params.parse(parameters)
    return str(caught.value)


def test_nothing_given_is_the_default() -> None:
    assert params.parse({}) == params.Parsed(VolumeSpec(), ())


def test_a_class_of_the_in_tree_provisioner_works_unchanged() -> None:
    found = params.parse(
        {
            "resturl": "http://127.0.0.1:8081",
            "clusterid": f"{ID}, {ID.upper()}",
            "restauthenabled": "true",
            "restuser": "admin",
            "secretNamespace": "default",
            "secretName": "heketi-secret",
            "gidMin": "40000",
            "gidMax": "50000",
            "volumetype": "replicate:3",
            "volumeoptions": "client.ssl on, server.ssl on",
            "volumenameprefix": "dept-dev",
            "snapfactor": "10",
            "customepnameprefix": "dbstorage",
        }
    )
    assert found.spec == VolumeSpec(
        gid_min=40000,  # type: ignore[arg-type]
        gid_max=50000,  # type: ignore[arg-type]
        options=(("client.ssl", "on"), ("server.ssl", "on")),
        name_prefix="dept-dev",
        snap_factor=10.0,
        cluster_ids=(ID,),  # type: ignore[arg-type]
    )
    assert found.unused == (
        "customepnameprefix",
        "restauthenabled",
        "resturl",
        "restuser",
        "secretName",
        "secretNamespace",
    )


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gidMin", "gidmin", "GIDMIN", "GidMin"])
def test_names_are_compared_without_case(name: str) -> None:
    assert params.parse({name: "3000"}).spec.gid_min == 3000


def test_names_that_differ_in_case_only_are_refused() -> None:
    said = refusal(gidMin="3000", gidmin="3000")
    assert "'gidmin'" in said
    assert "'gidMin'" in said
    assert "twice" in refusal(restUser="a", restuser="b")


@pytest.mark.parametrize(
    ("name", "meant"), [("volumeTyp", "volumeType"), ("gid_min", "gidMin"), ("zonechecks", "zoneChecking")]
)
def test_an_unknown_name_is_refused_with_the_known_ones(name: str, meant: str) -> None:
    said = refusal(**{name: "x"})
    assert repr(name) in said
    assert f"did you mean {meant}?" in said
    assert all(known in said for known in (*params.KNOWN, *params.UNUSED))


def test_what_the_sidecar_adds_is_passed_over() -> None:
    found = params.parse({"csi.storage.k8s.io/pvc/name": "$(reboot)", "csi.storage.k8s.io/fstype": "xfs"})
    assert found == params.Parsed(VolumeSpec())


def test_the_whole_has_a_limit() -> None:
    assert params.parse({"restuserkey": "x" * 4000}).unused == ("restuserkey",)
    assert "4111 bytes" in refusal(restuserkey="x" * 4100)


def test_secrets_are_never_repeated() -> None:
    assert "hunter2" not in refusal(restuserkey="hunter2" * 600)
    assert "hunter2" not in refusal(restuserkey="hunter2", RestUserKey="hunter2")


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "durability"),
    [
        ("none", Durability(Protection.NONE)),
        ("replicate", Durability(Protection.REPLICATE, 1, 2)),
        ("replicate:2", Durability(Protection.REPLICATE, 1, 1)),
        ("replicate:3", Durability(Protection.REPLICATE, 1, 2)),
        (" Replicate:3 ", Durability(Protection.REPLICATE, 1, 2)),
        ("disperse:4:2", Durability(Protection.DISPERSE, 4, 2)),
        ("disperse:2:1", Durability(Protection.DISPERSE, 2, 1)),
        ("disperse:16:15", Durability(Protection.DISPERSE, 16, 15)),
    ],
)
def test_volume_types(text: str, durability: Durability) -> None:
    assert spec(volumeType=text).durability == durability


ACCEPTED: list[tuple[str, str, str, Any]] = [
    ("gidMin", "2000", "gid_min", 2000),
    ("gidMin", "2147483647", "gid_min", 2147483647),
    ("gidMax", "2000", "gid_max", 2000),
    ("snapFactor", "1", "snap_factor", 1.0),
    ("snapFactor", "1.5", "snap_factor", 1.5),
    ("snapFactor", "100", "snap_factor", 100.0),
    ("volumeNamePrefix", "", "name_prefix", ""),
    ("volumeNamePrefix", "9-a", "name_prefix", "9-a"),
    ("volumeNamePrefix", "a" * 63, "name_prefix", "a" * 63),
    ("clusterId", "", "cluster_ids", ()),
    ("clusterId", f"{ID},{'a' * 32}", "cluster_ids", (ID, "a" * 32)),
    ("zoneChecking", "strict", "zone_checking", ZoneChecking.STRICT),
    ("zoneChecking", "none", "zone_checking", ZoneChecking.NONE),
    ("restoreGid", "New", "restore_gid", RestoreGid.NEW),
    ("restoreGid", "source", "restore_gid", RestoreGid.SOURCE),
    ("deviceTag", "tier=ssd-1", "device_tag", TagRule("tier", "ssd-1")),
    ("deviceTag", "my-tier!=ssd", "device_tag", TagRule("my-tier", "ssd", equal=False)),
    ("deviceTag", "tier!=", "device_tag", TagRule("tier", "", equal=False)),
    ("averageFileSize", "1024", "average_file_size", 1024),
    ("averageFileSize", "64Ki", "average_file_size", 65536),
    ("averageFileSize", "2M", "average_file_size", 2_000_000),
    ("averageFileSize", "1Gi", "average_file_size", 1 << 30),
    ("rootMode", "2770", "root_mode", 0o2770),
    ("rootMode", "02775", "root_mode", 0o2775),
    ("rootMode", "0o2775", "root_mode", 0o2775),
    ("rootMode", "770", "root_mode", 0o770),
    ("rootMode", "3777", "root_mode", 0o3777),
    ("pingTimeout", "1", "ping_timeout", 1),
    ("pingTimeout", "1013", "ping_timeout", 1013),
    ("arbiter", "false", "durability", Durability(Protection.REPLICATE, 1, 2)),
    ("arbiter", "True", "durability", Durability(Protection.REPLICATE, 1, 2, arbiter=True)),
    ("volumeOptions", "", "options", ()),
    ("volumeOptions", " performance.readdir-ahead  on ,", "options", (("performance.readdir-ahead", "on"),)),
    ("volumeOptions", "storage.reserve 5%", "options", (("storage.reserve", "5%"),)),
    ("volumeOptions", "user.note a=b/c", "options", (("user.note", "a=b/c"),)),
    (
        "volumeOptions",
        "auth.allow 10.0.0.*,192.168.0.0/24,nfs.disable on",
        "options",
        (("auth.allow", "10.0.0.*,192.168.0.0/24"), ("nfs.disable", "on")),
    ),
]


@pytest.mark.parametrize(("name", "text", "field", "value"), ACCEPTED)
def test_values_that_are_taken(name: str, text: str, field: str, value: Any) -> None:
    assert spec(**{name: text}) == dataclasses.replace(VolumeSpec(), **{field: value})


REFUSED = [
    ("volumeType", "", "replicate:2"),
    ("volumeType", "mirror", "replicate:2"),
    ("volumeType", "replicate:0", "replicate:2"),
    ("volumeType", "replicate:1", "say none"),
    ("volumeType", "replicate:4", "replicate:3"),
    ("volumeType", "replicate:3:1", "replicate:3"),
    ("volumeType", "disperse", "disperse:DATA:REDUNDANCY"),
    ("volumeType", "disperse:4", "disperse:DATA:REDUNDANCY"),
    ("volumeType", "disperse:4:0", "at least 1"),
    ("volumeType", "disperse:1:1", "fewer REDUNDANCY"),
    ("volumeType", "disperse:2:2", "fewer REDUNDANCY"),
    ("volumeType", "disperse:17:2", "at most 16"),
    ("volumeType", "disperse:4:-2", "two numbers"),
    ("volumeType", "disperse:٤:2", "two numbers"),
    ("gidMin", "1999", "2000 to 2147483647"),
    ("gidMax", "2147483648", "2000 to 2147483647"),
    ("gidMin", "0x7d0", "whole number"),
    ("gidMin", "", "whole number"),
    ("gidMin", "2000.0", "whole number"),
    ("gidMax", "9" * 400, "whole number"),
    ("snapFactor", "0.99", "1 to 100"),
    ("snapFactor", "100.1", "1 to 100"),
    ("snapFactor", "nan", "1 to 100"),
    ("snapFactor", "1e2", "1 to 100"),
    ("volumeNamePrefix", "a_b", "'_' divides"),
    ("volumeNamePrefix", "-a", "not '-' first"),
    ("volumeNamePrefix", "a" * 64, "at most 63"),
    ("clusterId", "abc", "32 hex digits"),
    ("clusterId", ID + ",", "32 hex digits"),
    ("zoneChecking", "maybe", "none or strict"),
    ("restoreGid", "2000", "source or new"),
    ("restoreGid", "", "source or new"),
    ("deviceTag", "tier", "key=value"),
    ("deviceTag", "=ssd", "key=value"),
    ("deviceTag", "a=b=c", "key=value"),
    ("deviceTag", "a=b,c=d", "key=value"),
    ("averageFileSize", "1023", "1Ki"),
    ("averageFileSize", "2000Gi", "1024Gi"),
    ("averageFileSize", "64KB", "Mi"),
    ("rootMode", "2700", "x77x"),
    ("rootMode", "0750", "x77x"),
    ("rootMode", "6770", "user id"),
    ("rootMode", "rwx", "octal"),
    ("rootMode", "2780", "octal"),
    ("pingTimeout", "0", "1 to 1013"),
    ("pingTimeout", "10s", "1 to 1013"),
    ("arbiter", "perhaps", "true or false"),
]


@pytest.mark.parametrize(("name", "text", "allowed"), REFUSED)
def test_values_that_are_refused_by_name_and_value(name: str, text: str, allowed: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        params.parse({name.lower(): text})
    assert caught.value.field == f"parameter {name}"
    assert caught.value.value == text
    assert allowed in str(caught.value)


def test_a_range_that_is_empty_is_refused() -> None:
    assert "3000 is not accepted: a number up to gidMax, which is 2999" in refusal(gidMin="3000", gidMax="2999")
    assert spec(gidMin="3000", gidMax="3000").gid_max == 3000


@pytest.mark.parametrize("volume_type", ["none", "replicate:2", "disperse:4:2"])
def test_an_arbiter_needs_three_copies(volume_type: str) -> None:
    assert "only with volumeType replicate:3" in refusal(arbiter="true", volumeType=volume_type)
    assert spec(arbiter="false", volumeType=volume_type).durability.arbiter is False


# --- options of gluster -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("performance.readdir-ahead", "name value"),
        ("performance.readdir-ahead on cluster.quorum-type auto", "name value"),
        ("performance.readdir-ahead on, on", "name value"),
        ("nfs.disable on,nfs.disable off", "each option once"),
        ("--mode=script on", "the name of an option"),
        ("-x.y on", "the name of an option"),
        ("performance..x on", "the name of an option"),
        ("Performance.x on", "the name of an option"),
        (f"a.{'x' * 200} on", "the name of an option"),
        ("readdir-ahead on", "full name"),
        ("group virt", "full name"),
        ("performance.cache-size -1", "a value of letters"),
        ("performance.cache-size $(id)", "a value of letters"),
        (f"performance.cache-size {'9' * 256}", "a value of letters"),
        ("auth.allow 10.0.0.1,$(id)", "name value"),
        ("cluster.brick-multiplex on", "whole pool"),
        ("cluster.brick_multiplex on", "whole pool"),
        ("cluster.server-quorum-ratio 51%", "whole pool"),
        ("glusterd.vol_count_per_thread 1", "whole pool"),
        ("storage.owner-gid 0", "the GID that the driver gives"),
        ("features.barrier enable", "copies"),
        ("debug.error-gen client", "on purpose"),
        ("nfs.rpc-statd /bin/sh", "program"),
        ("user.xlator.protocol.x y", "translators"),
        ("user.heketi.id abc", "no meaning"),
    ],
)
def test_options_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        params.parse({"volumeOptions": text})
    assert caught.value.field == "parameter volumeOptions"
    assert says in str(caught.value)


def test_the_options_of_heketi_become_parameters_and_are_not_set() -> None:
    found = spec(
        volumeOptions="user.heketi.arbiter true,user.heketi.average-file-size 128,nfs.disable on,"
        "user.heketi.zone-checking strict,user.heketi.device-tag-match my-tier!=ssd"
    )
    assert found == VolumeSpec(
        durability=Durability(Protection.REPLICATE, 1, 2, arbiter=True),
        options=(("nfs.disable", "on"),),
        zone_checking=ZoneChecking.STRICT,
        device_tag=TagRule("my-tier", "ssd", equal=False),
        average_file_size=128 * 1024,
    )


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("user.heketi.arbiter maybe", "parameter arbiter"),
        ("user.heketi.average-file-size 0", "parameter averageFileSize"),
        ("user.heketi.average-file-size 64Ki9", "parameter averageFileSize"),
        ("user.heketi.device-tag-match tier", "parameter deviceTag"),
        ("user.heketi.device-tag-match a=$(id)", "parameter deviceTag"),
        ("user.heketi.arbiter true,user.heketi.arbiter true", "each option once"),
    ],
)
def test_the_options_of_heketi_are_checked_like_parameters(option: str, says: str) -> None:
    assert says in refusal(volumeOptions=option)


def test_a_parameter_and_an_option_of_heketi_must_agree() -> None:
    assert spec(arbiter="true", volumeOptions="user.heketi.arbiter true").durability.arbiter
    assert "keep one of the two" in refusal(zoneChecking="none", volumeOptions="user.heketi.zone-checking strict")


# --- nothing passes through -------------------------------------------------------------------

HARMLESS = set(string.ascii_letters + string.digits + "._:%*+@=/-,")
SHELL = "$(reboot)`id`;|&<>'\"\\\n\r\t\x00 *?[]{}!#~^%=-ü\u202e\ud800"
hostile = st.text(st.sampled_from(SHELL + "ab1.") | st.characters(), max_size=200)


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if dataclasses.is_dataclass(value):
        return [text for part in dataclasses.fields(value) for text in texts(getattr(value, part.name))]
    if isinstance(value, tuple):
        return [text for part in value for text in texts(part)]
    return []


@given(
    parameters=st.dictionaries(
        st.sampled_from(params.KNOWN) | hostile,
        hostile | st.builds("nfs.disable {}".format, hostile) | st.builds("auth.allow 1,{}".format, hostile),
        max_size=3,
    )
)
@example({"volumeOptions": "user.heketi.device-tag-match a=b;reboot"})
@example({"deviceTag": "a=" + SHELL * 5})
@example({"volumeNamePrefix": "a\n"})
@example({"gidMin": "2000\n;id"})
def test_no_shell_syntax_passes_through(parameters: dict[str, str]) -> None:
    try:
        found = params.parse(parameters)
    except InvalidRequest:
        return
    for text in texts(found.spec):
        assert set(text) <= HARMLESS, text
        assert not text.startswith("-")
    documents.encode(found.spec)


@pytest.mark.parametrize("name", params.KNOWN)
def test_shell_syntax_in_each_parameter_is_refused(name: str) -> None:
    assert f"parameter {name}" in refusal(**{name: (SHELL * 6)[:200]})


def test_every_parameter_is_documented() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "parameters.md").read_text()
    documented = set(re.findall(r"`(\w+)`", text))
    assert set(params.KNOWN) <= documented
    assert set(params.UNUSED) <= documented
