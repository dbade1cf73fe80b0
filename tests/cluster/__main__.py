"""``python -m tests.cluster``: Kubernetes by hand."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.cluster.binaries import kubernetes
from tests.cluster.cluster import PROCESSES, Cluster
from tests.lab.pool import Lab
from tests.lab.system import LabError


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        return _act(options)
    except LabError as wrong:
        print(f"cluster: {wrong}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="Kubernetes on this machine.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        *("--instance", "--id"),
        default=os.environ.get("CLUSTER_INSTANCE", "a"),
        help="which cluster: several run side by side (default: $CLUSTER_INSTANCE, or a)",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", parents=[common], help="bring it up")
    up.add_argument("--lab", metavar="INSTANCE", help="plug it into this lab (python -m tests.lab up)")
    for verb, text in {
        "down": "remove everything of this cluster, also after a crash",
        "status": "what runs, and where",
        "shell": "a shell on the node",
    }.items():
        verbs.add_parser(verb, parents=[common], help=text)
    for verb, text in {"stop": "end", "start": "start", "restart": "end and start"}.items():
        one = verbs.add_parser(verb, parents=[common], help=f"{text} one process of Kubernetes")
        one.add_argument("process", choices=PROCESSES)
    control = verbs.add_parser("kubectl", parents=[common], help="kubectl as the administrator: kubectl WORD...")
    control.add_argument("words", nargs=argparse.REMAINDER)
    return parser


def _act(options: argparse.Namespace) -> int:
    cluster = Cluster(options.instance)
    match options.verb:
        case "up":
            began = time.monotonic()
            cluster.up()
            if options.lab:
                cluster.plug_into(Lab(options.lab))
            print(f"up in {time.monotonic() - began:.1f} s")
            return _status(cluster)
        case "down":
            cluster.down()
        case "status":
            return _status(cluster)
        case "shell":
            return cluster.node.shell()
        case "kubectl":
            program = kubernetes("kubectl")
            os.execv(program, [program, f"--kubeconfig={cluster.kubeconfig}", *options.words])
        case verb:
            getattr(cluster, verb)(options.process)
    return 0


def _status(cluster: Cluster) -> int:
    if not cluster.is_up:
        print(f"cluster {cluster.instance} is not up")
        return 3
    print(f"cluster {cluster.instance}: {cluster.url}, logs in {cluster.directory}/logs")
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    for process in PROCESSES:
        pid = cluster.node.pid(process)
        print(f"  {process:24}{f'process {pid}' if pid else 'ended'}")
    print(cluster.kubectl("get", "nodes,pods", "--all-namespaces", check=False).stdout, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
