"""The store in custom resources: one resource per record, in the etcd behind the API server."""

from csi.store.kube.store import KubeStore

__all__ = ["KubeStore"]
