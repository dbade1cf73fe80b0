"""The command ``gluster-csi``: start a service, load a topology."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from csi import __version__
from csi.core.errors import ConfigInvalid, DriverError

_config = click.option(
    "--config",
    "config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file. Every setting can also be given as an environment variable GLUSTER_CSI_<TABLE>__<NAME>.",
)


@click.group()
@click.version_option(__version__, prog_name="gluster-csi")
def main() -> None:
    """Volumes on plain GlusterFS for Kubernetes and anything else that speaks CSI."""


@contextmanager
def _told() -> Iterator[None]:
    """What went wrong is told in one line each, and is the status of the command: 2 for the configuration, else 1."""
    try:
        yield
    except ConfigInvalid as error:
        for problem in error.problems:
            click.echo(f"gluster-csi: configuration: {problem}", err=True)
        sys.exit(2)
    except DriverError as error:
        click.echo(f"gluster-csi: {error}", err=True)
        sys.exit(1)


def _run(role: str, config: Path | None) -> None:
    # Imported here: `--help` and `--version` need none of it.
    from csi import app  # noqa: PLC0415

    with _told():
        asyncio.run(app.run(app.Role(role), app.settings_for(app.Role(role), config, os.environ)))


@main.command()
@_config
def serve(config: Path | None) -> None:
    """Controller and node in one process, with embedded state."""
    _run("serve", config)


@main.command()
@_config
def controller(config: Path | None) -> None:
    """The Identity and Controller services."""
    _run("controller", config)


@main.command()
@_config
def node(config: Path | None) -> None:
    """The Identity and Node services, on each machine that mounts volumes."""
    _run("node", config)


@main.command()
@_config
@click.option("--serve", "serving", is_flag=True, hidden=True, help="Be the daemon, not its supervisor.")
def mounts(config: Path | None, serving: bool) -> None:
    """The daemon that holds the GlusterFS clients of a node, so that they outlive its CSI service."""
    from csi import config as configuration  # noqa: PLC0415
    from csi.mountd import init  # noqa: PLC0415

    # The first process stays small: it does without the modules that serve.
    with _told():
        settings = configuration.load(config, os.environ)
        settings.check("mounts")
        if not serving:
            again = ["--config", str(config)] if config else []
            sys.exit(init.supervise([sys.executable, "-m", "csi", "mounts", "--serve", *again]))
        init.end_with_parent()
        from csi import holder  # noqa: PLC0415

        asyncio.run(holder.run(settings))


@main.group()
def topology() -> None:
    """Clusters, hosts and devices."""


@topology.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_config
def load(file: Path, config: Path | None) -> None:
    """Load FILE (Heketi's topology JSON); doing it again is harmless.

    A running driver is asked to do it; without one the state file is opened.
    """
    from csi import app, errands  # noqa: PLC0415

    async def show() -> bool:
        failed = False
        async for progress in errands.load_topology(app.settings_for(app.Role.CONTROLLER, config, os.environ), file):
            click.echo(("ERROR " if progress.failed else "") + progress.line)
            failed |= progress.failed
        return failed

    with _told():
        failed = asyncio.run(show())
    sys.exit(1 if failed else 0)


@main.group()
def state() -> None:
    """The records of the driver: its backup, and the way from one kind of store to another."""


@state.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_config
def export_state(file: Path, config: Path | None) -> None:
    """Write all records to FILE, one JSON document per line.

    An SQLite state must not be in use; custom resources may be.
    """
    from csi import app, errands  # noqa: PLC0415

    count = _done(lambda: errands.export_state(app.settings_for(app.Role.CONTROLLER, config, os.environ), file))
    click.echo(f"{count} records written to {file}")


@state.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_config
def import_state(file: Path, config: Path | None) -> None:
    """Put the records of FILE into a state that is empty. No controller may be running."""
    from csi import app, errands  # noqa: PLC0415

    count = _done(lambda: errands.import_state(app.settings_for(app.Role.CONTROLLER, config, os.environ), file))
    click.echo(f"{count} records read from {file}")


@main.group()
def gid() -> None:
    """The groups of volumes."""


@gid.command()
@_config
def check(config: Path | None) -> None:
    """Look for PersistentVolumes without the annotation that gives pods their group, and pods without the group."""
    from csi import app, errands  # noqa: PLC0415

    async def show() -> int:
        found = await errands.check_groups(app.settings_for(app.Role.NODE, config, os.environ))
        for finding in found:
            click.echo(f"{finding.subject}: {finding.problem}")
        return len(found)

    count = _done(show)
    click.echo(f"{count} problems" if count else "all volumes have their annotation, all pods their groups")
    sys.exit(1 if count else 0)


def _done(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    with _told():
        return asyncio.run(work())
