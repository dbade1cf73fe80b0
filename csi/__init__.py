"""gluster-csi: volumes on plain GlusterFS for anything that speaks CSI."""

__version__ = "0.1.0"
