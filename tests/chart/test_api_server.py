"""The chart on a real API server: it takes every document, grants what is listed, and the policy writes the GID."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import yaml

from tests.chart import rights
from tests.chart.rendering import NAMESPACE, ROOT, SETS, Document, documents, of_kind, rendered, template
from tests.cluster.controlplane import ControlPlane

pytestmark = pytest.mark.cluster

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
LEASE = "gluster-csi-controller"
EVERYTHING = ("--set", "hosts.runner=kube", "--set", "server.enabled=true", "--set", "resizer.enabled=true")


class Api:
    """One connection as the administrator: a thousand questions in a second or two."""

    def __init__(self, plane: ControlPlane) -> None:
        context = ssl.create_default_context(cafile=str(plane.credentials.ca))
        self._connection = http.client.HTTPSConnection(urlsplit(plane.url).netloc, context=context, timeout=30)
        self._headers = {"Authorization": f"Bearer {plane.token}", "Content-Type": "application/json"}

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Document | None = None) -> Document:
        self._connection.request(method, path, json.dumps(body) if body else None, self._headers)
        answer = self._connection.getresponse()
        found: Document = json.loads(answer.read())
        assert answer.status < 300, found.get("message")
        return found

    def resources(self) -> Iterator[tuple[str, str, bool]]:
        """Every resource with its group, subresources too, and whether it lies in a namespace."""
        paths = ["/api/v1"]
        paths += [f"/apis/{group['preferredVersion']['groupVersion']}" for group in self.call("GET", "/apis")["groups"]]
        for path in paths:
            listed = self.call("GET", path)
            group = listed["groupVersion"].rpartition("/")[0]
            for resource in listed["resources"]:
                yield resource["name"], group, resource["namespaced"]

    def may(self, account: str, right: str, namespace: str, name: str = "") -> bool:
        verb, _, target = right.partition(" ")
        whole, _, part = target.partition("/")
        resource, _, group = whole.partition(".")
        attributes = {"verb": verb, "resource": resource, "group": group, "subresource": part, "name": name}
        spec = {
            "user": f"system:serviceaccount:{NAMESPACE}:gluster-csi-{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"],
            "resourceAttributes": attributes | {"namespace": namespace},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(self.call("POST", path, {"spec": spec})["status"]["allowed"])


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """With everything of the chart that needs no node."""
    with ControlPlane() as plane:
        plane.kubectl("create", "namespace", NAMESPACE)
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=template(*EVERYTHING))
        kinds = [f"crd/{file.stem}" for file in (ROOT / "deploy" / "crds").glob("*.yaml")]
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *kinds)
        yield plane


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[Api]:
    api = Api(plane)
    yield api
    api.close()


@pytest.mark.parametrize("name", SETS)
def test_it_is_taken(plane: ControlPlane, name: str) -> None:
    # Not served here: what the Prometheus operator brings, and the old version of the policy.
    left_out = {"ServiceMonitor", "VolumeSnapshotClass"}
    known = [d for d in documents(rendered(name)) if d["kind"] not in left_out and "beta" not in d["apiVersion"]]
    text = "---\n".join(yaml.safe_dump(document) for document in known)
    done = plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert done.stdout.count("(server dry run)") == len(known)


def test_the_kustomize_base_is_taken(plane: ControlPlane) -> None:
    built = plane.kubectl("kustomize", str(ROOT / "deploy" / "kustomize")).stdout
    chart = {(d["kind"], d["metadata"]["name"]) for d in documents(rendered("default"))}
    assert {(d["kind"], d["metadata"]["name"]) for d in documents(built)} == chart | {("Namespace", NAMESPACE)}
    plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=built)


def expected(account: str, right: str, namespace: str) -> bool:
    within = rights.WITHIN[account] if namespace == NAMESPACE else set()
    return right in rights.EVERYWHERE[account] | within


@pytest.mark.parametrize("account", sorted(rights.EVERYWHERE))
def test_each_account_may_what_is_on_the_list(api: Api, account: str) -> None:
    """Every verb on every resource that the API server has, in the release's namespace, in another one, and in none."""
    asked, wrong = 0, []
    for resource, group, namespaced in api.resources():
        name, _, part = resource.partition("/")
        target = ".".join(filter(None, (name, group))) + (f"/{part}" if part else "")
        for verb in VERBS:
            right = f"{verb} {target}"
            for namespace in (NAMESPACE, "default") if namespaced else ("",):
                asked += 1
                allowed = api.may(account, right, namespace)
                if allowed != expected(account, right, namespace) and not api.may("nobody", right, namespace):
                    wrong.append(f"{account} {'may' if allowed else 'may not'} {right} in {namespace or 'the cluster'}")
    assert wrong == []
    assert asked > 500


def test_the_lease_is_held_by_name(api: Api) -> None:
    for right in rights.NAMED_LEASE:
        assert api.may("controller", right, NAMESPACE, LEASE)
        assert not api.may("controller", right, NAMESPACE, "another")
        assert not api.may("controller", right, "default", LEASE)


# --- the policy ---------------------------------------------------------------------------------------------------


def volume(name: str, attributes: dict[str, str], driver: str = "csi.gluster.org", **annotations: str) -> str:
    source = {"driver": driver, "volumeHandle": name, "volumeAttributes": attributes}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "csi": source}
    noted = {"annotations": {f"pv.beta.kubernetes.io/{key}": value for key, value in annotations.items()}}
    return json.dumps(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, **noted}, "spec": spec}
    )


def gid_of(plane: ControlPlane, manifest: str) -> str | None:
    """As the answer to the create says, before anybody can have patched it."""
    made = json.loads(plane.kubectl("create", "-o", "json", "-f", "-", stdin=manifest).stdout)
    plane.kubectl("delete", "pv", made["metadata"]["name"], "--wait=false")
    gid: str | None = made["metadata"].get("annotations", {}).get("pv.beta.kubernetes.io/gid")
    return gid


def test_a_volume_gets_its_gid_in_the_call_that_creates_it(plane: ControlPlane) -> None:
    assert len(of_kind(rendered("default"), "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")) == 2
    deadline = time.monotonic() + 30
    # The API server takes a few seconds to take up a policy.
    tries = 0
    while gid_of(plane, volume(f"first-{tries}", {"gid": "2042"})) != "2042":
        tries += 1
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert gid_of(plane, volume("without", {"glusterVolume": "v"})) is None
    assert gid_of(plane, volume("anothers", {"gid": "2042"}, "another.example")) is None
    assert gid_of(plane, volume("by-hand", {"gid": "2042"}, gid="7")) == "7"
    assert gid_of(plane, volume("with-others", {"gid": "2043"}, note="x")) == "2043"
