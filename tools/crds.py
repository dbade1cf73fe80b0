"""Writes deploy/crds and docs/crds.md from the record types: ``python tools/crds.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from csi.store.kube.definitions import definition, definitions
from csi.store.kube.kinds import API_VERSION, FINALIZER, KINDS, Kind

ROOT = Path(__file__).parent.parent
DIRECTORY = ROOT / "deploy" / "crds"
REFERENCE = ROOT / "docs" / "crds.md"

Document = dict[str, Any]

_INTRODUCTION = f"""\
# Custom resources

Made by `make crds` from the definitions in [deploy/crds](../deploy/crds); do not edit. All are of
`{API_VERSION}`, none is in a namespace, and `kubectl get gluster` lists all of them.

People write GlusterClusters, GlusterHosts and GlusterDevices ([an example](examples/pool.yaml)); the controller writes
the others. Fields marked *controller* are filled in when a resource is taken up: leave them out. What was taken up
carries the finalizer `{FINALIZER}`, so a deletion waits until nothing refers to it. `status` is for people: the
controller never reads it.
"""

_CONDITIONS = {
    "GlusterSnapshot": (("Ready", "volumes can be made of it"),),
    "GlusterCluster": (("Accepted", "it is a record of the driver; if not, why, and what to do"),),
    "GlusterHost": (
        ("Accepted", "it is a record of the driver; if not, why, and what to do"),
        ("Reachable", "it answered the last command that was sent to it; nothing is sent only to find out"),
        ("Removable", "`False` after a deletion that waits: what it still holds"),
    ),
    "GlusterDevice": (
        ("Accepted", "it is a record of the driver; if not, why, and what to do"),
        (
            "Removable",
            "`False` after a deletion that waits: what it still holds, or why its disk is not given back yet",
        ),
        (
            "ThinPoolsHealthy",
            "of a disk: every thin pool is below `bricks.pool_limit`; if not, which, of which volume, how full, and "
            "whether the device takes nothing new for it (reason `Refusing`)",
        ),
    ),
    "GlusterVolume": (
        ("Ready", "it is made, and not being deleted"),
        ("Deleting", "it is being deleted, and what that waits for"),
    ),
}
_CONDITIONS["GlusterCluster"] = (*_CONDITIONS["GlusterCluster"], _CONDITIONS["GlusterHost"][2])


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> dict[str, str]:
    """By file name."""
    note = "# Made by tools/crds.py from the record types; do not edit.\n"
    return {
        name: note + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)
        for name, document in definitions().items()
    }


def reference() -> str:
    return _INTRODUCTION + "".join("\n" + "\n".join(_of_kind(kind)) + "\n" for kind in KINDS)


def _of_kind(kind: Kind) -> Iterator[str]:
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    yield f"## {kind.name}\n"
    yield f"{schema['description']} `kubectl get {kind.plural}`, or `{kind.short}`.\n"
    yield "| `spec` | type | | |"
    yield "|---|---|---|---|"
    measured = {"schema", "version"} | set(spec["properties"]) - set(spec.get("required", ())) - _optional(kind, spec)
    for name, field in spec["properties"].items():
        need = "required" if name in spec.get("required", ()) else "controller" if name in measured else ""
        yield f"| `{name}` | {_type(field)} | {need if kind.by_people else ''} | {field.get('description', '')} |"
    yield ""
    for rule in kind.rules:
        yield f"- {rule.message}"
    if kind.rules:
        yield ""
    yield "| `status` | |"
    yield "|---|---|"
    for name, field in status["properties"].items():
        if name != "conditions":
            yield f"| `{name}` | {field['description']} |"
    for condition, text in _CONDITIONS.get(kind.name, ()):
        yield f"| condition `{condition}` | {text} |"


def _optional(kind: Kind, spec: Document) -> set[str]:
    """What people may say, and need not."""
    may = {"state", "tags", *kind.said, *kind.confirmed}
    if kind.record.__name__ == "Device":
        may |= {"backend", "total"}
    return may & set(spec["properties"])


def _type(field: Document) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{word}`" for word in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if field.get("pattern"):
        return "id"
    if field["type"] == "object":
        return "map" if "additionalProperties" in field else "object"
    return str(field["type"])


def main() -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (DIRECTORY / name).write_text(text)
    REFERENCE.write_text(reference())


if __name__ == "__main__":
    main()
