"""The command lines of a cluster's processes. Pure text: who starts them, and where, is said elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.cluster.binaries import debian, kubernetes
from tests.cluster.credentials import Credentials, key_of

SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where etcd and the API server listen: addresses, and TCP ports of their own."""

    address: str
    api: int
    etcd: int
    etcd_peers: int

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.api}"

    @property
    def etcd_url(self) -> str:
        return f"http://127.0.0.1:{self.etcd}"


def etcd(endpoints: Endpoints, data: Path) -> list[str]:
    peers = f"http://127.0.0.1:{endpoints.etcd_peers}"
    return [
        kubernetes("etcd"),
        *("--name=tests", f"--data-dir={data}", f"--initial-cluster=tests={peers}"),
        *(f"--listen-client-urls={endpoints.etcd_url}", f"--advertise-client-urls={endpoints.etcd_url}"),
        *(f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}"),
    ]


def api_server(endpoints: Endpoints, credentials: Credentials) -> list[str]:
    return [
        kubernetes("kube-apiserver"),
        f"--etcd-servers={endpoints.etcd_url}",
        *(f"--bind-address={endpoints.address}", f"--secure-port={endpoints.api}"),
        f"--advertise-address={endpoints.address}",
        # The endpoints of the service "kubernetes" can't be on loopback.
        f"--endpoint-reconciler-type={'none' if endpoints.address.startswith('127.') else 'lease'}",
        *(f"--tls-cert-file={credentials.server}", f"--tls-private-key-file={key_of(credentials.server)}"),
        f"--kubelet-client-certificate={credentials.kubelet_client}",
        f"--kubelet-client-key={key_of(credentials.kubelet_client)}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--client-ca-file={credentials.ca}",
        f"--token-auth-file={credentials.tokens}",
        f"--service-account-key-file={credentials.accounts_key}",
        f"--service-account-signing-key-file={credentials.accounts_key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICES}",
        *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true"),
    ]


def controller_manager(credentials: Credentials) -> list[str]:
    return [
        kubernetes("kube-controller-manager"),
        f"--kubeconfig={credentials.kubeconfig('controller-manager')}",
        *("--leader-elect=false", "--bind-address=127.0.0.1", "--use-service-account-credentials=true"),
        f"--root-ca-file={credentials.ca}",
        f"--service-account-private-key-file={credentials.accounts_key}",
    ]


def scheduler(credentials: Credentials) -> list[str]:
    return [
        kubernetes("kube-scheduler"),
        f"--kubeconfig={credentials.kubeconfig('scheduler')}",
        *("--leader-elect=false", "--bind-address=127.0.0.1"),
    ]


def containerd(config: Path) -> list[str]:
    return [debian("containerd", "containerd"), f"--config={config}"]


def kubelet(config: Path, credentials: Credentials, name: str, address: str) -> list[str]:
    return [
        kubernetes("kubelet"),
        *(f"--config={config}", f"--kubeconfig={credentials.kubeconfig('kubelet')}"),
        *(f"--hostname-override={name}", f"--node-ip={address}"),
    ]
