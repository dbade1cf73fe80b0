"""The images that we ship, built from their Dockerfiles; ``python -m tests.e2e.builds``: ahead of their use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import csi
from tests.cluster import images

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Build:
    """``context``: the directory of the Dockerfile."""

    context: Path
    name: str

    def make(self, archive: Path | None = None) -> None:
        images.build(self.context, self.name, {"VERSION": csi.__version__}, archive)


DRIVER = Build(ROOT, f"localhost/gluster-csi:{csi.__version__}")
SERVER = Build(ROOT / "deploy/server", f"localhost/gluster-csi-server:{csi.__version__}")


def main() -> None:
    for build in (DRIVER, SERVER):
        began = time.monotonic()
        build.make()
        print(f"{build.name}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
