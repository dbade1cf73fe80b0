"""Images as their users build them: a Dockerfile, by buildah, on a Debian made on this machine. No registry is asked.

What a build leaves for the next one (the base, and layers that did not change) lies in the cache outside the checkout.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.binaries import cache_directory, debian
from tests.lab.system import LabError, environment, locked

BASE = "localhost/debian:bookworm-slim"
_BASE_SECONDS = 600
_BUILD_SECONDS = 1200
# Of the packages' texts, as Debian's own slim image does.
_NOT_IN_BASE = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def build(context: Path, tag: str, arguments: dict[str, str] | None = None, archive: Path | None = None) -> None:
    """Build ``context/Dockerfile`` as ``tag``; with ``archive`` also write it as a docker archive.

    What did not change since the last build is taken from there, so that an image can be built ahead of its use.

    The Dockerfile gets the argument BASE, and the secrets ``ca.pem`` (the authorities that this machine trusts) and
    ``pip.conf`` (the package index that pip uses here).
    """
    with locked("images", seconds=_BUILD_SECONDS):
        make_base()
        with _secrets() as secrets:
            _buildah(
                *("bud", "--layers", "--network=host", "--pull-never", f"--tag={tag}"),
                *(f"--build-arg={name}={value}" for name, value in {"BASE": BASE, **(arguments or {})}.items()),
                *(f"--secret=id={name},src={path}" for name, path in secrets.items()),
                str(context),
                seconds=_BUILD_SECONDS,
            )
        if archive is None:
            return
        archive.unlink(missing_ok=True)  # an archive is never added to
        _buildah("push", tag, f"docker-archive:{archive}:{tag}", seconds=_BASE_SECONDS)


def make_base() -> None:
    """The image that Dockerfiles begin with, if the cache lacks it."""
    if _exists(BASE):
        return
    with tempfile.TemporaryDirectory(prefix="debian-", dir=_storage()) as directory:
        tree = Path(directory, "tree")
        _call([debian("debootstrap", "debootstrap"), "--variant=minbase", "bookworm", str(tree)], _BASE_SECONDS)
        for unwanted in _NOT_IN_BASE:
            _call(["find", str(tree / unwanted), "-mindepth", "1", "-delete"], _BASE_SECONDS)
        container = _buildah("from", "scratch", seconds=_BASE_SECONDS).strip()
        try:
            _buildah("copy", "--quiet", container, str(tree), "/", seconds=_BASE_SECONDS)
            _buildah("config", "--cmd=bash", container, seconds=_BASE_SECONDS)
            _buildah("commit", "--quiet", container, BASE, seconds=_BASE_SECONDS)
        finally:
            _buildah("rm", container, seconds=_BASE_SECONDS)


def _exists(image: str) -> bool:
    return image in _buildah("images", "--format={{.Name}}:{{.Tag}}", seconds=60).split()


@contextmanager
def _secrets() -> Iterator[dict[str, str]]:
    """Files by the id of the secret."""
    with tempfile.TemporaryDirectory(prefix="secrets-", dir=_storage()) as directory:
        pip = Path(directory, "pip.conf")
        pip.write_text(_pip_configuration())
        secrets = {"pip.conf": str(pip)}
        if _AUTHORITIES.exists():
            secrets["ca.pem"] = str(_AUTHORITIES)
        yield secrets


def _pip_configuration() -> str:
    """Where pip of this machine looks for packages; of the rest nothing holds inside a build."""
    wanted = ("index-url", "extra-index-url", "timeout")
    found = {}
    for line in _call(["python3", "-m", "pip", "config", "list"], 60).splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2].removeprefix("default-")
        if option in wanted:
            found[option] = value.strip("'\"")  # of several files the last counts, the environment is the very last
    return "\n".join(["[global]", *(f"{option} = {value}" for option, value in found.items())]) + "\n"


def _storage() -> Path:
    storage = cache_directory() / "images"
    storage.mkdir(parents=True, exist_ok=True)
    return storage


def _buildah(verb: str, *words: str, seconds: float) -> str:
    # A mount namespace of its own: buildah leaves mounts behind, also when all goes well. Without those of GlusterFS
    # clients: copies of them would keep the clients alive after their own mounts were gone.
    alone = 'umount --all --lazy --types fuse.glusterfs; exec "$0" "$@"'
    aside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", alone, debian("buildah", "buildah")]
    return _call([*aside, f"--root={_storage()}/root", f"--runroot={_storage()}/run", verb, *words], seconds)


def _call(argv: list[str], seconds: float) -> str:
    """Output of a command; a failure says how its complaint ended."""
    done = subprocess.run(
        argv,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
        cwd="/",
        # chroot: the one way to run a step that needs no more than root.
        env={
            **environment(),
            "BUILDAH_ISOLATION": "chroot",
            "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "overlay"),
        },
    )
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv[:6])} ...: exit {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
