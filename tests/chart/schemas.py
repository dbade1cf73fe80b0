"""The schemas of Kubernetes for what the chart makes, as kubeconform reads them, cut out of the API server's OpenAPI.

    python -m tests.chart.schemas SWAGGER

SWAGGER is ``api/openapi-spec/swagger.json`` of Kubernetes, or what an API server answers to ``/openapi/v2``. Texts are
left out, and unknown fields are refused, as ``kubectl --validate=strict`` does. ``schemas/`` is committed: the tests
need no network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "schemas"
DEFINITIONS = "definitions.json"

# group/version of each kind; the core group has no name.
KINDS = {
    "v1": ("ConfigMap", "Namespace", "PersistentVolumeClaim", "Secret", "Service", "ServiceAccount"),
    "admissionregistration.k8s.io/v1": ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
    "admissionregistration.k8s.io/v1beta1": ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
    "apiextensions.k8s.io/v1": ("CustomResourceDefinition",),
    "apps/v1": ("DaemonSet", "Deployment"),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
    "rbac.authorization.k8s.io/v1": ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    "storage.k8s.io/v1": ("CSIDriver", "StorageClass"),
}

Schema = dict[str, Any]


def file_name(kind: str, version: str) -> str:
    """As kubeconform's ``{{.ResourceKind}}{{.KindSuffix}}``."""
    group, _, number = version.rpartition("/")
    return "-".join(filter(None, (kind.lower(), group.split(".")[0], number))) + ".json"


def cut(swagger: Schema) -> dict[str, Schema]:
    """By file name."""
    known = swagger["definitions"]
    tops = {file_name(kind, version): _name(known, kind, version) for version, kinds in KINDS.items() for kind in kinds}
    wanted, waiting = {}, list(tops.values())
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted[name] = _strict(known[name])
            waiting += _references(wanted[name])
    files = {file: {"$ref": f"{DEFINITIONS}#/definitions/{name}"} for file, name in tops.items()}
    return {DEFINITIONS: {"definitions": dict(sorted(wanted.items()))}, **files}


def _name(known: dict[str, Schema], kind: str, version: str) -> str:
    group, _, number = version.rpartition("/")
    wanted = {"group": group, "kind": kind, "version": number}
    (found,) = (name for name, schema in known.items() if wanted in schema.get("x-kubernetes-group-version-kind", ()))
    return found


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string":
        return {"type": ["string", "integer"]}
    cut: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            cut[key] = {name: _strict(part) for name, part in value.items()}
        elif key == "$ref":
            cut[key] = value.replace("#/definitions/", f"{DEFINITIONS}#/definitions/")
        elif not key.startswith("x-") and key not in ("description", "format", "default"):
            cut[key] = _strict(value)
    if "properties" in cut and "additionalProperties" not in cut:
        cut["additionalProperties"] = False
    return cut


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for part in schema for name in _references(part)]
    if not isinstance(schema, dict):
        return []
    # The schema of schemas has a property of that name.
    own = [schema["$ref"].rpartition("/")[2]] if isinstance(schema.get("$ref"), str) else []
    return own + [name for part in schema.values() for name in _references(part)]


def main(swagger: Path) -> None:
    HERE.mkdir(exist_ok=True)
    for name, schema in cut(json.loads(swagger.read_text())).items():
        (HERE / name).write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
