"""Where the programs of a cluster come from: Debian's packages, and the cache that ``make kubernetes`` fills."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.lab.system import LabError, search_path

_MODULE = Path(__file__).parents[2] / "tools/kubernetes/go.mod"


def cache_directory() -> Path:
    """Outside the checkout: what takes long to make and depends on nothing but versions."""
    named = os.environ.get("CSI_TOOLS_CACHE")
    return Path(named) if named else Path.home() / ".cache/gluster-csi"


def version() -> str:
    """Of Kubernetes, as the module for the binaries pins it: ``v1.36.3``."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)$", _MODULE.read_text(), re.MULTILINE)
    if found is None:
        raise LabError(f"{_MODULE} names no version of k8s.io/kubernetes")
    return found[1]


def program_directory() -> Path:
    return cache_directory() / f"kubernetes-{version()}/bin"


def kubernetes(name: str) -> str:
    """The path of a program of Kubernetes or of one of its sidecars."""
    path = program_directory() / name
    if not path.exists():
        raise LabError(f"{path} is not built yet: run `make kubernetes`")
    return str(path)


def snapshot_definitions() -> list[Path]:
    """Of VolumeSnapshots and groups of them, as the external-snapshotter has them."""
    found = sorted((program_directory().parent / "snapshot-definitions").glob("*.yaml"))
    if not found:
        raise LabError(f"{program_directory().parent} has no definitions of snapshots: run `make kubernetes`")
    return found


def helm() -> str:
    """The path of helm, as `make chart` pins and builds it."""
    found = sorted((cache_directory() / "chart").glob("helm-v*"))
    if not found:
        raise LabError(f"{cache_directory()}/chart has no helm yet: run `tools/install.sh chart`")
    return str(found[-1])


def debian(name: str, package: str) -> str:
    """The path of a program that a package of Debian brings."""
    path = shutil.which(name, path=search_path())
    if path is None:
        raise LabError(f"{name} is not installed: run `tools/install.sh apt-cluster`, or install {package}")
    return path
