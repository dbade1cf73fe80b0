"""``gluster-csi controller`` whose sessions tell hosts no term: to see that the tests of the fence can fail."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from csi import app
from csi.core.errors import DriverError


def main() -> None:
    app.mandate_of = lambda settings, leadership: None  # type: ignore[assignment,return-value]
    settings = app.settings_for(app.Role.CONTROLLER, Path(sys.argv[-1]), os.environ)
    try:
        asyncio.run(app.run(app.Role.CONTROLLER, settings))
    except DriverError as error:
        sys.exit(f"gluster-csi: {error}")


if __name__ == "__main__":
    main()
