"""Files get another group through a mount of their volume on one of its hosts.

So it is right whatever the volume is like: a client of gluster changes every copy and every fragment, and what is
changed while a brick is away is healed. The work is the host's, and outlives the commands that ask how far it is
(``hosts/regroup.sh``).
"""

from __future__ import annotations

from csi.copyports import Regrouped
from csi.core.command import Command, Script
from csi.core.model import Gid, Host, Volume
from csi.ports import Runner

_WAIT = 2  # seconds that a look waits for the end
_LEASE = 2  # minutes that it goes on without a look
_TIMEOUT = 30.0  # seconds for a look


class FilesOnHosts:
    """``copyports.VolumeFiles``."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def regroup(self, host: Host, volume: Volume, old: Gid) -> Regrouped:
        words = (host.storage, volume.gluster_name, str(old), str(volume.gid), str(_WAIT), str(_LEASE))
        look = Command(("csi_regroup", _directory(volume), *words))
        (said,) = await self._runner.run(host, Script((look,), timeout=_TIMEOUT))
        count, how = said.stdout.split()
        return Regrouped(int(count), how == "done")

    async def leave(self, host: Host, volume: Volume) -> None:
        await self._runner.run(host, Script((Command(("csi_regroup_end", _directory(volume))),), timeout=_TIMEOUT))


def _directory(volume: Volume) -> str:
    return f"/run/gluster-csi.regroup.{volume.gluster_name}"
