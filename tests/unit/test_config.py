"""The configuration: the file, the environment, every problem at once."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from csi import config
from csi.core.errors import ConfigInvalid
from csi.settings import Settings


def load(path: Path | None = None, /, **environ: str) -> Settings:
    return config.load(path, environ)


def problems(path: Path | None = None, /, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        config.load(path, environ)
    return caught.value.problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def ready(tmp_path: Path) -> dict[str, str]:
    """An environment with which the controller can run."""
    (tmp_path / "key").write_text("key")
    (tmp_path / "known_hosts").write_text("")
    return {
        "GLUSTER_CSI_STATE__PATH": str(tmp_path / "state.db"),
        "GLUSTER_CSI_SSH__KEY_FILE": str(tmp_path / "key"),
        "GLUSTER_CSI_SSH__KNOWN_HOSTS": str(tmp_path / "known_hosts"),
    }


def check(environ: dict[str, str], role: str = "serve") -> tuple[str, ...]:
    try:
        load(**environ).check(role)
    except ConfigInvalid as error:
        return error.problems
    return ()


# --- where settings come from -----------------------------------------------------------------


def test_without_anything_there_are_defaults() -> None:
    settings = load()
    assert settings.driver_name == "csi.gluster.org"
    assert settings.endpoint == "unix:///run/gluster-csi/csi.sock"
    assert settings.node_id == socket.gethostname()
    assert settings.state.path == Path("/var/lib/gluster-csi/state.db")
    assert settings.metrics.listen == "127.0.0.1:9080"
    assert settings.gids.rest_seconds == 3600
    assert (settings.hosts.runner, settings.ssh.port, settings.ssh.insecure_host_keys) == ("ssh", 22, False)
    assert (settings.placement.min_brick, settings.placement.max_brick) == (1 << 30, 4 << 40)


def test_the_defaults_pass_the_checks_of_what_is_given() -> None:
    default = load()
    assert Settings.model_validate(default.model_dump()) == default


def test_the_file_is_read(file: Path) -> None:
    file.write_text('instance = "east"\n[ssh]\nport = 2222\nsudo = true\n[placement]\nmax_brick = "500Gi"\n')
    settings = load(file)
    assert (settings.instance, settings.ssh.port, settings.ssh.sudo) == ("east", 2222, True)
    assert settings.placement.max_brick == 500 << 30


def test_the_environment_wins_setting_by_setting(file: Path) -> None:
    file.write_text('instance = "east"\n[ssh]\nport = 2222\nuser = "storage"\n')
    settings = load(file, GLUSTER_CSI_SSH__PORT="2200", GLUSTER_CSI_INSTANCE="west", PATH="/bin")
    assert (settings.ssh.port, settings.ssh.user, settings.instance) == (2200, "storage", "west")


@pytest.mark.parametrize("name", config.names())
def test_every_setting_has_its_variable(name: str) -> None:
    section, _, leaf = name.rpartition(".")
    default = load()
    value = getattr(getattr(default, section) if section else default, leaf)
    text = "/some/file" if value is None else str(value)
    settings = load(**{config.variable(name): text})
    assert str(getattr(getattr(settings, section) if section else settings, leaf)) == text


def test_every_setting_is_described() -> None:
    for name in config.names():
        section, _, leaf = name.rpartition(".")
        model = Settings.model_fields[section].default_factory if section else Settings
        described = model.model_fields[leaf].description  # type: ignore[union-attr]
        assert described, name
        assert described.endswith("."), name


@pytest.mark.parametrize(
    ("text", "size"), [("1048576", 1 << 20), ("2M", 2_000_000), ("2Mi", 2 << 20), ("3Gi", 3 << 30), ("1Ti", 1 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert load(GLUSTER_CSI_PLACEMENT__MIN_BRICK=text).placement.min_brick == size


@pytest.mark.parametrize("given", ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock", "unix:////run/x.sock"])
def test_the_socket_that_every_csi_driver_is_given(given: str) -> None:
    assert load(CSI_ENDPOINT=given).endpoint == "unix:///run/x.sock"


def test_our_own_variable_of_the_socket_wins(file: Path) -> None:
    file.write_text('endpoint = "unix:///a"')
    assert load(file, CSI_ENDPOINT="unix:///b").endpoint == "unix:///b"
    assert load(file, CSI_ENDPOINT="unix:///b", GLUSTER_CSI_ENDPOINT="unix:///c").endpoint == "unix:///c"


def test_what_kubernetes_puts_into_the_environment_is_passed_over() -> None:
    load(
        GLUSTER_CSI_SERVICE_HOST="10.96.0.7",
        GLUSTER_CSI_SERVICE_PORT="9080",
        GLUSTER_CSI_SERVICE_PORT_METRICS="9080",
        GLUSTER_CSI_PORT="tcp://10.96.0.7:9080",
        GLUSTER_CSI_PORT_9080_TCP="tcp://10.96.0.7:9080",
        GLUSTER_CSI_PORT_9080_TCP_ADDR="10.96.0.7",
        GLUSTER_CSI_CONTROLLER_SERVICE_HOST="10.96.0.7",
        GLUSTER_CSI_CONTROLLER_PORT_9080_TCP_PROTO="tcp",
        CSI_NODE_NAME="n",
    )


# --- problems ---------------------------------------------------------------------------------


def test_every_problem_is_told_at_once_with_its_origin(file: Path) -> None:
    file.write_text('instance = "A_b"\nspeed = 3\n[ssh]\nport = 0\nsudoo = true\n[log]\nlevel = "loud"\n')
    found = problems(file, GLUSTER_CSI_SSH__USER="a b", GLUSTER_CSI_SHS__PORT="1", GLUSTER_CSI_GIDS__REST_SECONDS="x")
    assert len(found) == 8
    said = "\n".join(sorted(found))
    for expected in (
        rf"^speed \(in {file}\) is not a setting",
        rf"^ssh\.sudoo \(in {file}\) is not a setting: did you mean ssh\.sudo\?",
        r"^GLUSTER_CSI_SHS__PORT \(in the environment\) is not a setting: did you mean GLUSTER_CSI_SSH__PORT\?",
        rf"^instance \(in {file}\): 'A_b' is not accepted: at most 63 small letters",
        rf"^ssh\.port \(in {file}\): '0' is not accepted: .* 1$",
        r"^ssh\.user \(from GLUSTER_CSI_SSH__USER\): 'a b' is not accepted: the name of a user",
        rf"^log\.level \(in {file}\): 'loud' is not accepted: .*'debug'",
        r"^gids\.rest_seconds \(from GLUSTER_CSI_GIDS__REST_SECONDS\): 'x' is not accepted",
    ):
        assert re.search(expected, said, re.MULTILINE), expected


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("driver_name", "csi.gluster.org1", "a letter at both ends"),
        ("driver_name", "a" * 64, "at most 63"),
        ("driver_name", "", "letter"),
        ("instance", "a" * 64, "at most 63"),
        ("instance", "-a", "small letters"),
        ("endpoint", "tcp://0.0.0.0:10000", "unix:///PATH"),
        ("endpoint", "unix:///" + "a" * 107, "107 bytes"),
        ("endpoint", "unix:///", "unix:///PATH"),
        ("node_id", "", "letters"),
        ("node_id", "a b", "letters"),
        ("node_id", "a" * 129, "at most 128"),
        ("state.path", "state.db", "an absolute path"),
        ("node.log_dir", "logs", "an absolute path"),
        ("bricks.fstab", "/etc/fstab;reboot", "an absolute path"),
        ("bricks.fstab", "etc/fstab", "an absolute path"),
        ("metrics.listen", "9080", "HOST:PORT"),
        ("metrics.listen", "localhost:65536", "HOST:PORT"),
        ("metrics.listen", "localhost:", "HOST:PORT"),
        ("log.format", "xml", "'json' or 'text'"),
        ("hosts.runner", "telnet", "'ssh', 'local' or 'kube'"),
        ("ssh.port", "65536", "65535"),
        ("ssh.user", "-oProxyCommand=id", "the name of a user"),
        ("ssh.sudo", "perhaps", "boolean"),
        ("ssh.sessions", "1", "2"),
        ("ssh.connect_timeout", "0", "greater than 0"),
        ("ssh.connect_timeout", "inf", "finite"),
        ("node.stat_timeout", "nan", "finite"),
        ("placement.min_brick", "1GB", "integer"),
        ("placement.min_brick", "1Ki", "1048576"),
        ("placement.max_bricks", "0", "1"),
        ("gids.rest_seconds", "-1", "0"),
        ("shutdown.grace", "601", "600"),
    ],
)
def test_each_setting_is_checked(name: str, value: str, says: str) -> None:
    (problem,) = problems(**{config.variable(name): value})
    assert problem.startswith(f"{name} (from {config.variable(name)}): {value[:60]!r}"[:60])
    assert says in problem


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("instance = ", "is not TOML"),
        ("instance = 'a'\ninstance = 'b'", "is not TOML"),
        ("ssh = 5", "ssh (in"),
        ("[colour]\nred = 1", "colour.red (in"),
        ("[colour]", "colour"),
        ("[ssh.port]\nx = 1", "ssh.port (in"),
        ("[instance]\na = 1", "instance.a (in"),
        ("instance = 1979-05-27", "instance (in"),
        ("state.path = 7", "state.path (in"),
    ],
)
def test_what_is_no_configuration(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    assert any(says in problem for problem in problems(file))


def test_a_variable_over_a_broken_table_is_no_crash(file: Path) -> None:
    file.write_text("ssh = 5")
    assert any(problem.startswith("ssh ") for problem in problems(file, GLUSTER_CSI_SSH__PORT="22"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "no.toml") == (f"{tmp_path / 'no.toml'}: No such file or directory",)
    assert problems(tmp_path) == (f"{tmp_path}: Is a directory",)


def test_a_file_that_is_no_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in problems(file)[0]


def test_settings_do_not_change() -> None:
    settings = load()
    with pytest.raises(ValidationError):
        settings.ssh.port = 1  # type: ignore[misc]


# --- what only this machine can tell ----------------------------------------------------------


def test_a_complete_configuration_passes(ready: dict[str, str]) -> None:
    for role in ("serve", "controller", "node"):
        assert check(ready, role) == ()


def test_a_node_needs_no_key_and_no_state() -> None:
    assert check({"GLUSTER_CSI_STATE__PATH": "/no/such/state.db"}, "node") == ()


def test_the_local_runner_needs_no_key(ready: dict[str, str]) -> None:
    assert (
        check({"GLUSTER_CSI_STATE__PATH": ready["GLUSTER_CSI_STATE__PATH"], "GLUSTER_CSI_HOSTS__RUNNER": "local"}) == ()
    )


@pytest.mark.parametrize("role", ["serve", "controller"])
def test_all_that_is_missing_is_told_at_once(role: str) -> None:
    found = check(
        {
            "GLUSTER_CSI_STATE__PATH": "/no/such/state.db",
            "GLUSTER_CSI_TOPOLOGY__FILE": "/no/topology.json",
            "GLUSTER_CSI_SSH__KNOWN_HOSTS": "/no/known_hosts",
            "GLUSTER_CSI_PLACEMENT__MIN_BRICK": "2Gi",
            "GLUSTER_CSI_PLACEMENT__MAX_BRICK": "1Gi",
            "GLUSTER_CSI_RECOVERY__FIRST": "600",
        },
        role,
    )
    assert [problem.split(" ")[0] for problem in found] == [
        "placement.min_brick",
        "recovery.first",
        "state.path",
        "topology.file",
        "ssh.key_file",
        "ssh.known_hosts",
    ]


def test_files_must_be_files(ready: dict[str, str], tmp_path: Path) -> None:
    (problem,) = check({**ready, "GLUSTER_CSI_SSH__KEY_FILE": str(tmp_path)})
    assert problem.startswith(f"ssh.key_file {str(tmp_path)!r}")


def test_insecure_host_keys_need_no_file_and_warn(ready: dict[str, str]) -> None:
    assert load(**ready).warnings == ()
    insecure = {**ready, "GLUSTER_CSI_SSH__INSECURE_HOST_KEYS": "true", "GLUSTER_CSI_SSH__KNOWN_HOSTS": "/no/such"}
    assert check(insecure) == ()
    (warning,) = load(**insecure).warnings
    assert "ssh.insecure_host_keys" in warning


def test_the_mounts_daemon_needs_nothing_of_the_controller() -> None:
    assert check({"GLUSTER_CSI_MOUNTS__ROOTS": "/var/lib/kubelet:/srv/pods"}, "mounts") == ()


@pytest.mark.parametrize("roots", ["", "/", "relative", "/a:", "/a:b", ":/a", "/a/"])
def test_roots_of_the_mounts_daemon(roots: str) -> None:
    assert any("absolute paths with ':' between them" in one for one in problems(GLUSTER_CSI_MOUNTS__ROOTS=roots))
