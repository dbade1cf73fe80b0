"""Where the kubelet has pods mount volumes: ``.../pods/UID/volumes/kubernetes.io~csi/PV/mount``."""

from __future__ import annotations

import re

_TARGET = re.compile(r".*/pods/([0-9a-fA-F-]{8,64})/volumes/[^/]+/[^/]+(?:/.*)?", re.ASCII)


def pod_of(target: str) -> str:
    """The UID of the pod; empty for a path that is none of the kubelet's."""
    found = _TARGET.fullmatch(target)
    return found[1] if found else ""
