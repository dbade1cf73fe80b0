"""``python -m tests.external``: the external storage suite of Kubernetes.

No failure, no skip but those that skips.json gives a reason for, and nothing left behind.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.cluster import fixtures as clusters
from tests.cluster.cluster import Cluster
from tests.e2e.claims import attributes
from tests.e2e.installation import Installation
from tests.external import specs
from tests.external.specs import Reasons
from tests.external.suite import HERE, Suite
from tests.lab.pool import Lab
from tests.lab.sessions import remove_abandoned, session_instance

SKIPS = HERE / "skips.json"
# A spec waits most of its time: for pods, and for what must not happen.
PROCESSES = 4
_SECONDS = 3600


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    reasons = Reasons.read(SKIPS)
    remove_abandoned()
    clusters.remove_abandoned()
    lab, cluster = Lab(session_instance()), Cluster(session_instance())
    installation = Installation(cluster, lab)
    try:
        lab.up(pool=True)
        cluster.up()
        installation.load_images()
        installation.prepare()
        # The suite's classes bind at once; capacity is published for such ones only if that is asked for.
        capacity = {"provisioner": {"extraArgs": ["--capacity-for-immediate-binding"]}}
        installation.install(installation.values() | capacity)
        problems = _run(installation, reasons, options)
        installation.uninstall()
    finally:
        cluster.down()
        lab.down()
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.external", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", action="append", help="those that the pattern is found in")
    parser.add_argument("--without", metavar="PATTERN", action="append", default=[], help="... is not found in")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="specs at a time (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="where to leave reports, output and logs")
    return parser


def _run(installation: Installation, reasons: Reasons, options: argparse.Namespace) -> list[str]:
    directory: Path = options.keep or installation.cluster.directory / "external"
    directory.mkdir(parents=True, exist_ok=True)
    suite = Suite(installation.cluster, directory)
    suite.load_images()
    installation.cluster.apply(attributes("reading", volumeOptions="performance.readdir-ahead on"))
    names = suite.names()
    problems = specs.stale(names, reasons)
    started = specs.chosen(names, reasons, options.only or [""], options.without)
    began = time.monotonic()
    outcome = suite.run(started, options.processes, _SECONDS)
    problems += specs.judge(started, outcome, reasons)
    problems += [f"LEFT BEHIND {what}" for what in _left_behind(installation)]
    if problems:
        print(installation.describe())
    print("\n".join(specs.figures(names, started, outcome, reasons)))
    print(f"external storage suite: {len(problems)} problems, {(time.monotonic() - began) / 60:.1f} minutes")
    return problems


def _left_behind(installation: Installation) -> list[str]:
    left = installation.lab.leftovers()
    # These last: who asked for something is told before the record of the operation is removed.
    records = installation.cluster.kubectl("get", "pv,glustervolumes,glusteroperations", "--output=name").stdout
    return [*records.split(), *left]


if __name__ == "__main__":
    sys.exit(main())
