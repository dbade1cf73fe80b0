"""``gluster-csi controller`` over the test's hosts: ``python -m tests.standby.controller HOSTS_SOCKET CONFIG``."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from csi import app
from csi.core.errors import DriverError
from tests.standby.shared_hosts import FarRunner


def main() -> None:
    hosts, config = sys.argv[1:]
    # Under this name the program looks for its runner.
    vars(app)["LocalRunner"] = lambda mandate: FarRunner(hosts, mandate)
    settings = app.settings_for(app.Role.CONTROLLER, Path(config), os.environ)
    try:
        asyncio.run(app.run(app.Role.CONTROLLER, settings))
    except DriverError as error:
        sys.exit(f"gluster-csi: {error}")


if __name__ == "__main__":
    main()
