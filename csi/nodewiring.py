"""The node's services, wired. The controller's are in ``app.py``."""

from __future__ import annotations

from pathlib import Path

from csi import log
from csi.config import Settings
from csi.driver.registration import Registration
from csi.groups.publishing import GroupExplainer
from csi.kubernetes.api import Api
from csi.kubernetes.events import Events
from csi.kubernetes.pods import PodNotices
from csi.mountports import Clients
from csi.mounts.detached import DetachedClients
from csi.mounts.glusterfs import GlusterMounter
from csi.mounts.probe import Probes
from csi.mounts.remote import RemoteClients
from csi.mounts.servers import ServersFile
from csi.mounts.staged import StagedFiles
from csi.nodeports import Notices, Publications, ServerLists
from csi.service.publish import Publisher
from csi.store.kube.servers import KubeServerLists


def publisher_of(settings: Settings, api: Api | None, events: Events | None) -> tuple[Publisher, Publications | None]:
    """Without an API server the servers are those of the volume, and notices go to the log."""
    node = settings.node
    probes = Probes(node.stat_timeout)
    clients: Clients = (
        RemoteClients(node.mounts_socket, probes, node.mount_timeout)
        if node.mounts_socket
        else DetachedClients(node.log_dir, probes, node.mount_timeout)
    )
    known = ServersFile(node.servers_cache, settings.node_id)
    servers: ServerLists = known
    notices: Notices = log.LoggedNotices()
    publications: Publications | None = None
    if api is not None and events is not None:
        servers = KubeServerLists(api, known)
        notices = PodNotices(api, events, settings.node_id)
        publications = GroupExplainer(api, notices)
    publisher = Publisher(
        GlusterMounter(clients, probes), servers=servers, staged=StagedFiles(node.staged_dir), notices=notices
    )
    return publisher, publications


def registration_of(settings: Settings, directory: Path) -> Registration:
    endpoint = settings.node.kubelet_socket or settings.endpoint.removeprefix("unix://")
    return Registration(directory, settings.driver_name, str(endpoint))
