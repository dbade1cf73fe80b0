"""The files that containerd, its network plug-ins and the kubelet read."""

from __future__ import annotations

import json

from tests.cluster.credentials import Credentials
from tests.cluster.network import POD_SUBNET

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "localhost/pause:tests"


def containerd() -> str:
    # restrict_oom_score_adj: a negative score needs CAP_SYS_RESOURCE, and without it no container starts at all.
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


def pod_network() -> str:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_SUBNET}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/run/cni",
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}, indent=1)


def kubelet(credentials: Credentials) -> str:
    never = {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"}
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"x509": {"clientCAFile": str(credentials.ca)}},
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "oomScoreAdj": 0,
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",  # the default is below /usr, which is read-only
            # An image that is removed can't be pulled again, and the machine's disk is not the node's alone.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": never,
            # Tests wait for what the kubelet does.
            "syncFrequency": "10s",
            "volumeStatsAggPeriod": "10s",
        },
        indent=1,
    )
