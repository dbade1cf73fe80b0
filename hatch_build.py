"""Generates ``csi/api`` from ``proto/`` whenever a wheel is built or the project is installed.

The stubs are never committed: they would drift from the contract, and nobody reviews generated code.
``mypy-protobuf`` writes the ``.pyi`` files because protoc's own leave the gRPC side untyped.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTO = Path("proto")
TARGET = Path("csi/api")
INIT = '"""Generated from ``proto/`` at build; see ``hatch_build.py``."""\n'


def generate(root: Path) -> None:
    """Write the stubs of every file under ``proto/``. A running program never sees half of them."""
    with tempfile.TemporaryDirectory(prefix=".stubs-", dir=root) as temporary:
        made = Path(temporary) / TARGET
        made.mkdir(parents=True)
        _compile(root / PROTO, Path(temporary))
        (made / "__init__.py").write_text(INIT)
        target = root / TARGET
        target.mkdir(exist_ok=True)
        for stub in made.iterdir():
            stub.replace(target / stub.name)


def _compile(proto: Path, out: Path) -> None:
    # Here, not above: hatchling loads this file for an sdist too, where protoc has no work.
    from grpc_tools import protoc  # noqa: PLC0415

    sources = sorted(str(path.relative_to(proto)) for path in proto.rglob("*.proto"))
    # protoc looks for its plug-ins on PATH, where those of a virtual environment need not be.
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={proto}",
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            # Concrete: a service of ours need not write down the methods that it leaves unimplemented.
            f"--mypy_grpc_out=quiet,generate_concrete_servicer_stubs:{out}",
            *sources,
        ]
    )
    if status:
        raise RuntimeError(f"protoc failed with status {status} on {', '.join(sources)}")


class StubsHook(BuildHookInterface[Any]):
    """Runs before each build of a wheel, an editable one included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate(Path(self.root))
