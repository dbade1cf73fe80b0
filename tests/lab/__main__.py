"""``python -m tests.lab``: the laboratory by hand."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from tests.lab import vm
from tests.lab.pool import MOST_HOSTS, Lab
from tests.lab.system import LabError


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        return _act(options)
    except LabError as wrong:
        print(f"lab: {wrong}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="GlusterFS hosts on this machine.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        *("--instance", "--id"),
        default=os.environ.get("LAB_INSTANCE", "a"),
        help="which lab: several run side by side (default: $LAB_INSTANCE, or a)",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", parents=[common], help="bring all hosts up")
    up.add_argument("--hosts", type=int, default=3, help=f"how many, up to {MOST_HOSTS} (default 3)")
    up.add_argument("--devices", type=int, default=2, help="per host (default 2)")
    up.add_argument("--blocks", type=int, default=0, help="block devices for LVM per host (default 0)")
    up.add_argument("--device-size", default="20G", help="of each, sparse (default 20G)")
    up.add_argument("--zones", type=int, help="spread the hosts over so many (default: one per host)")
    up.add_argument("--pool", action="store_true", help="probe the hosts, so that they are peers")
    for verb, text in {
        "down": "remove everything of this lab, also after a crash",
        "status": "what runs, and where",
        "topology": "print the pool as a Heketi topology file",
    }.items():
        verbs.add_parser(verb, parents=[common], help=text)
    for verb, text in {
        "shell": "a shell on the host",
        "reboot": "power cut and start",
        "kill": "power off, in silence",
        "start": "power on",
        "cut": "pull the network cable",
        "mend": "plug it in again",
    }.items():
        verbs.add_parser(verb, parents=[common], help=text).add_argument("host", help="name, number or address")
    run = verbs.add_parser("run", parents=[common], help="run a command on the host: run HOST -- CMD ARG...")
    run.add_argument("host", help="name, number or address")
    run.add_argument("command", nargs=argparse.REMAINDER)
    guest = verbs.add_parser("vm", help="run a command in a virtual machine that has LVM: vm -- CMD ARG...")
    guest.add_argument("--seconds", type=float, default=vm.SECONDS, help="end it after that (default %(default)g)")
    guest.add_argument("--memory", default=vm.MEMORY, help="of the guest, at the most (default %(default)s)")
    guest.add_argument("command", nargs=argparse.REMAINDER)
    return parser


def _act(options: argparse.Namespace) -> int:
    if options.verb == "up":
        return _up(options)
    if options.verb == "vm":
        return vm.run(_command(options, "vm"), options.seconds, options.memory)
    lab = Lab(options.instance)
    match options.verb:
        case "down":
            lab.down()
        case "status":
            return _status(lab)
        case "topology":
            if not lab.hosts:
                raise LabError(f"lab {lab.instance} is not up")
            print(json.dumps(lab.topology(), indent=2))
        case "shell":
            return lab.shell(options.host)
        case "run":
            return _run(lab, options)
        case verb:
            getattr(lab, verb)(options.host)
    return 0


def _up(options: argparse.Namespace) -> int:
    began = time.monotonic()
    lab = Lab(
        options.instance,
        hosts=options.hosts,
        devices=options.devices,
        blocks=options.blocks,
        device_size=options.device_size,
        zones=options.zones,
    )
    lab.up(pool=options.pool)
    print(f"up in {time.monotonic() - began:.1f} s")
    return _status(lab)


def _status(lab: Lab) -> int:
    if not lab.hosts:
        print(f"lab {lab.instance} is not up")
        return 3
    print(f"lab {lab.instance}: {lab.directory}, this machine is {lab.gateway}")
    print(f"ssh -i {lab.key_file} -o UserKnownHostsFile={lab.known_hosts} -p {lab.hosts[0].ssh_port} root@ADDRESS")
    for host in lab.hosts:
        init = lab.init_pid(host)
        state = f"init {init}" if init else "powered off"
        if init and lab.is_cut(host):
            state += ", cut off"
        print(f"  {host.name}  {host.address}  zone {host.zone}  {' '.join((*host.devices, *host.blocks))}  {state}")
    return 0


def _run(lab: Lab, options: argparse.Namespace) -> int:
    done = lab.run(options.host, _command(options, "run HOST"), check=False, timeout=3600)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _command(options: argparse.Namespace, after: str) -> list[str]:
    command: list[str] = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise LabError(f"{after}: a command is missing after it")
    return command


if __name__ == "__main__":
    sys.exit(main())
