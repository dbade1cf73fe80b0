"""Makes what is installed from one source, the chart: ``python tools/manifests.py [--check]``.

``deploy/helm/gluster-csi/definitions``: the custom resource definitions of ``deploy/crds``, since a chart holds no
files from outside it. ``deploy/kustomize``: the chart with its defaults, in files by part. ``--check`` writes nothing
and fails if anything would change. HELM names the program; by default the one that ``tools/install.sh chart`` built.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy" / "helm" / "gluster-csi"
CRDS = ROOT / "deploy" / "crds"
DEFINITIONS = CHART / "definitions"
KUSTOMIZE = ROOT / "deploy" / "kustomize"

NAMESPACE = "gluster-csi"
KUBERNETES = "1.36.0"  # what the base is for; patch the policy's apiVersion for an older one

_SOURCE = re.compile(r"^# Source: gluster-csi/templates/(.+)\n", re.MULTILINE)
# Marks of Helm, which means nothing to kubectl.
_HELMS = re.compile(r"^ *(app\.kubernetes\.io/managed-by: Helm|helm\.sh/resource-policy: .*)\n", re.MULTILINE)
_EMPTY_ANNOTATIONS = re.compile(r"^( *)annotations:\n(?!\1 )", re.MULTILINE)


def helm() -> str:
    """The program. It is looked for, not built."""
    if named := os.environ.get("HELM"):
        return named
    cache = Path(os.environ.get("CSI_TOOLS_CACHE") or Path.home() / ".cache" / "gluster-csi")
    built = sorted((cache / "chart").glob("helm-v*"))
    return str(built[-1]) if built else "helm"


def rendered(*arguments: str) -> str:
    command = [helm(), "template", "gluster-csi", str(CHART), "--namespace", NAMESPACE, "--kube-version", KUBERNETES]
    return subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def definitions() -> dict[Path, str]:
    return {DEFINITIONS / file.name: file.read_text() for file in sorted(CRDS.glob("*.yaml"))}


def base() -> dict[Path, str]:
    """The kustomize base, from the chart as it lies there."""
    parts: dict[str, list[str]] = {"namespace.yaml": [_namespace()]}
    for document in re.split(r"^---\n", rendered(), flags=re.MULTILINE):
        found = _SOURCE.search(document)
        if found is None:
            continue
        text = _EMPTY_ANNOTATIONS.sub("", _HELMS.sub("", _SOURCE.sub("", document))).strip() + "\n"
        if not all(line.startswith("#") for line in text.splitlines()):
            parts.setdefault(found[1], []).append(text)
    files = {KUSTOMIZE / name: "---\n".join(documents) for name, documents in parts.items()}
    listed = "".join(f"- {name}\n" for name in sorted(parts))
    files[KUSTOMIZE / "kustomization.yaml"] = (
        '# The chart with its defaults, made by "make manifests". Change it in an overlay: docs/install.md\n'
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n" + listed
    )
    return files


def _namespace() -> str:
    # Node plug-in and mounts are privileged; the label lets them in where pods are held to a standard.
    labels = "    pod-security.kubernetes.io/enforce: privileged\n"
    return f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n{labels}"


def changes(wanted: dict[Path, str], directory: Path) -> list[str]:
    """What differs from the files there: names, with what would become of them."""
    there = {file for file in directory.glob("*") if file.is_file()} if directory.is_dir() else set()
    found = [f"remove {file.relative_to(ROOT)}" for file in sorted(there - set(wanted))]
    return found + [
        f"write {file.relative_to(ROOT)}"
        for file, text in sorted(wanted.items())
        if file not in there or file.read_text() != text
    ]


def write(wanted: dict[Path, str], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*"):
        if file.is_file() and file not in wanted:
            file.unlink()
    for file, text in wanted.items():
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as part:
            part.write(text)
        Path(part.name).chmod(0o644)
        Path(part.name).replace(file)


def main(arguments: list[str]) -> int:
    found = []
    # The definitions first: the chart is rendered with them.
    for make, directory in ((definitions, DEFINITIONS), (base, KUSTOMIZE)):
        wanted = make()
        found += changes(wanted, directory)
        if "--check" not in arguments:
            write(wanted, directory)
    for change in found:
        sys.stdout.write(f"{change}\n")
    return 1 if found and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
