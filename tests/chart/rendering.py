"""The chart as the tests see it: rendered by the real helm, read as documents."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "gluster-csi"
VALUES = Path(__file__).parent / "values"
SETS = tuple(sorted(file.stem for file in VALUES.glob("*.yaml")))
NAMESPACE = "gluster-csi"
KUBERNETES = "1.36.0"

Document = dict[str, Any]


def program(name: str) -> str:
    """``helm`` or ``kubeconform``, of the version that ``tools/install.sh chart`` built."""
    home = Path(os.environ.get("CSI_TOOLS_CACHE") or Path.home() / ".cache" / "gluster-csi") / "chart"
    found = sorted(home.glob(f"{name}-v*"))
    assert found, f"{name} is not in {home}: make chart installs it"
    return str(found[-1])


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("helm"), *arguments], capture_output=True, text=True, timeout=60, check=False)


def template(*arguments: str, kubernetes: str = KUBERNETES) -> str:
    """Raises: AssertionError with helm's words if it refuses."""
    base = ["template", "gluster-csi", str(CHART), "--namespace", NAMESPACE, "--kube-version", kubernetes]
    done = helm(*base, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def values(name: str) -> tuple[str, str]:
    return "--values", str(VALUES / f"{name}.yaml")


@cache
def rendered(name: str) -> str:
    return template(*values(name))


@dataclass(frozen=True)
class Workload:
    """A Deployment or a DaemonSet."""

    document: Document

    @property
    def part(self) -> str:
        return str(self.document["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.document["spec"]["template"]["metadata"]["labels"])

    @property
    def pod(self) -> Document:
        return dict(self.document["spec"]["template"]["spec"])

    @property
    def containers(self) -> list[Document]:
        return list(self.pod["containers"])


@cache
def documents(text: str) -> list[Document]:
    """Not to be changed: the next test gets the same ones."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def of_kind(text: str, *kinds: str) -> list[Document]:
    return [document for document in documents(text) if document["kind"] in kinds]


def workloads(text: str) -> Iterator[Workload]:
    for document in of_kind(text, "Deployment", "DaemonSet"):
        yield Workload(document)


def workload(text: str, part: str) -> Workload:
    """The first, where each zone has one."""
    return next(one for one in workloads(text) if one.part == part)


def environment(container: Document) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container.get("env", ())}
