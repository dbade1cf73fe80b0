"""Writes deploy/crds from the record types: ``python tools/crds.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from csi.store.kube.definitions import definitions

DIRECTORY = Path(__file__).parent.parent / "deploy" / "crds"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> dict[str, str]:
    """By file name."""
    note = "# Made by tools/crds.py from the record types; do not edit.\n"
    return {
        name: note + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)
        for name, document in definitions().items()
    }


def main() -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (DIRECTORY / name).write_text(text)


if __name__ == "__main__":
    main()
