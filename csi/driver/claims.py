"""The PersistentVolumeClaim behind a CreateVolume, where the external provisioner tells of it.

It does with ``--extra-create-metadata``; the UID of the claim is in the volume's name (``--volume-name-prefix pvc``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from csi.api import csi_pb2 as pb

_NAME = re.compile(r"[a-z0-9-]+?-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)
_KEY = "csi.storage.k8s.io/pvc/"


@dataclass(frozen=True, slots=True)
class Claim:
    namespace: str
    name: str
    uid: str


def claim_of(request: pb.CreateVolumeRequest) -> Claim | None:
    namespace, name = request.parameters.get(f"{_KEY}namespace", ""), request.parameters.get(f"{_KEY}name", "")
    uid = _NAME.fullmatch(request.name)
    return Claim(namespace, name, uid[1]) if namespace and name and uid else None
