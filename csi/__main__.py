"""``python -m csi`` is ``gluster-csi``."""

from csi.cli import main

main(prog_name="gluster-csi")
