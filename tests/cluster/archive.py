"""Images made by hand: a file tree packed as a docker archive, for ``ctr images import``."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.binaries import debian, kubernetes
from tests.cluster.configuration import PAUSE_IMAGE
from tests.lab.system import call

BUSYBOX_IMAGE = "localhost/busybox:tests"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class HandMade:
    """An image of few files. ``programs``: path in the image to path here. ``links``: path to target."""

    name: str
    programs: dict[str, Path]
    links: dict[str, str]
    entry: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def pack(image: HandMade, archive: Path) -> None:
    """Write the docker archive."""
    layer = _layer(image)
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "Entrypoint": list(image.entry),
                "Cmd": list(image.command),
                "Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [],
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [image.name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for name, data in (("config.json", config), ("layer.tar", layer), ("manifest.json", manifest)):
            _add(tar, name, data, 0o644)


def _layer(image: HandMade) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        paths = [*image.programs, *image.links]
        for directory in sorted({str(parent) for path in paths for parent in Path(path).parents} - {"/"} | {"/tmp"}):
            entry = tarfile.TarInfo(directory.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "/tmp" else 0o755
            tar.addfile(entry)
        for path, source in image.programs.items():
            _add(tar, path.lstrip("/"), source.read_bytes(), 0o755)
        for path, target in image.links.items():
            link = tarfile.TarInfo(path.lstrip("/"))
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def pause_image(directory: Path) -> HandMade:
    """The image of every pod's sandbox."""
    program = directory / "pause"
    source = Path(__file__).with_name("pause.c")
    call("gcc", "-Os", "-static", "-s", "-o", str(program), str(source))
    return HandMade(PAUSE_IMAGE, {"/pause": program}, {}, entry=("/pause",))


def busybox_image() -> HandMade:
    """A shell and the usual tools, for the pods of the tests."""
    busybox = Path(debian("busybox", "busybox-static")).resolve()
    applets = call(str(busybox), "--list").split()
    links = {f"/bin/{name}": "busybox" for name in applets if name != "busybox"}
    return HandMade(BUSYBOX_IMAGE, {"/bin/busybox": busybox}, links, command=("sh",))


def sidecar_image(program: str, name: str) -> HandMade:
    """One of the sidecars that ``make kubernetes`` builds, as an image named ``name``."""
    return HandMade(name, {f"/{program}": Path(kubernetes(program))}, {}, entry=(f"/{program}",))
