"""Who may do what: the whole list, written down once more by hand. What is not here must not be in the chart.

Each right is ``verb resource`` with the API group after the resource, as ``kubectl auth can-i`` takes it; rights within
the release's namespace alone stand apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.chart.rendering import NAMESPACE, Document, of_kind

_OWN = (
    "glusterclusters",
    "glusterhosts",
    "glusterdevices",
    "glustervolumes",
    "glusteroperations",
    "glusterrestinggids",
    "glustersnapshots",
)


def _each(verbs: str, *resources: str) -> set[str]:
    return {f"{verb} {resource}" for verb in verbs.split() for resource in resources}


CONTROLLER = (
    _each("create", "events")
    | _each("list watch patch", "persistentvolumes")
    | _each("list watch", "pods")
    | _each("get list watch create patch delete", *(f"{kind}.csi.gluster.org" for kind in _OWN))
    | _each("patch", *(f"{kind}.csi.gluster.org/status" for kind in _OWN))
)
PROVISIONER = (
    _each("get list watch create patch delete", "persistentvolumes")
    | _each("get list watch update", "persistentvolumeclaims")
    | _each("get list watch", "nodes", "storageclasses.storage.k8s.io", "csinodes.storage.k8s.io")
    | _each("get", "volumeattributesclasses.storage.k8s.io")
    | _each("list watch create update patch", "events")
)
RESIZER = (
    _each("get list watch patch", "persistentvolumes")
    | _each("get list watch", "persistentvolumeclaims")
    | _each("patch", "persistentvolumeclaims/status")
    | _each("get list watch", "volumeattributesclasses.storage.k8s.io")
    | _each("list watch create update patch", "events")
)
_SNAPSHOT, _GROUP = "snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io"
SNAPSHOTTER = (
    _each("get list watch", f"volumesnapshotclasses.{_SNAPSHOT}")
    | _each("get list watch update patch", f"volumesnapshotcontents.{_SNAPSHOT}")
    | _each("update patch", f"volumesnapshotcontents.{_SNAPSHOT}/status")
    | _each("list watch create update patch", "events")
)
GROUP_SNAPSHOTTER = (
    _each("get list watch", f"volumegroupsnapshotclasses.{_GROUP}")
    | _each("get list watch update patch", f"volumegroupsnapshotcontents.{_GROUP}")
    | _each("update patch", f"volumegroupsnapshotcontents.{_GROUP}/status")
)
# The provisioner's, where there are snapshots.
RESTORER = _each("get", f"volumesnapshots.{_SNAPSHOT}", f"volumesnapshotcontents.{_SNAPSHOT}")
NODE = (
    _each("get", "persistentvolumes")
    | _each("list", "pods")
    | _each("create", "events")
    | _each("get", "glustervolumes.csi.gluster.org")
    | _each("list", "glusterhosts.csi.gluster.org")
)
# In the namespace of the release. The Lease by its name, but for the create.
LEASE = _each("create", "leases.coordination.k8s.io")
NAMED_LEASE = _each("get patch", "leases.coordination.k8s.io")
CAPACITY = _each("get list watch create update patch delete", "csistoragecapacities.storage.k8s.io") | _each(
    "get", "pods", "replicasets.apps"
)
HOSTS = _each("list", "pods") | _each("get create", "pods/exec")

EVERYWHERE = {"controller": CONTROLLER | PROVISIONER | RESIZER, "node": NODE, "mounts": set(), "server": set()}
WITHIN = {"controller": LEASE | CAPACITY | HOSTS, "node": set(), "mounts": set(), "server": set()}


def rights(rules: list[Document]) -> Iterator[tuple[str, str]]:
    """Each right, and the name that it is held to (or nothing)."""
    for rule in rules:
        assert "nonResourceURLs" not in rule
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    name, _, part = resource.partition("/")
                    whole = f"{name}.{group}" if group else name
                    for held in rule.get("resourceNames", [""]):
                        yield f"{verb} {whole}{'/' if part else ''}{part}", held


def granted(text: str, part: str, prefix: str = "gluster-csi") -> tuple[set[str], dict[str, set[tuple[str, str]]]]:
    """What the account of a part has: everywhere, and by namespace (with the name a right is held to)."""
    account = f"{prefix}-{part}"
    roles = {
        (d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]): d["rules"]
        for d in of_kind(text, "ClusterRole", "Role")
    }
    everywhere: set[str] = set()
    within: dict[str, set[tuple[str, str]]] = {}
    for binding in of_kind(text, "ClusterRoleBinding", "RoleBinding"):
        subjects = {(s["kind"], s["name"], s["namespace"]) for s in binding["subjects"]}
        if ("ServiceAccount", account, NAMESPACE) not in subjects:
            continue
        namespace = binding["metadata"].get("namespace")
        rules = roles[binding["roleRef"]["kind"], namespace, binding["roleRef"]["name"]]
        if namespace is None:
            everywhere |= {right for right, _ in rights(rules)}
        else:
            within.setdefault(namespace, set()).update(rights(rules))
    return everywhere, within
