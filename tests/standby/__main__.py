"""``make faults``: a leader killed, paused, or cut off from the API, at each point of a creation, on real hosts.

Two controllers as processes, a real API server, the laboratory. One line for each trial, and what was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.controlplane import ControlPlane
from tests.custom_resources import install
from tests.lab import Lab
from tests.standby.faults import LabPair, matrix, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.standby", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="trials (default 20)")
    parser.add_argument("--pause", type=float, default=60.0, help="seconds that a paused leader stays so (default 60)")
    parser.add_argument("--instance", default="faults", help="of the laboratory (default faults)")
    options = parser.parse_args()
    lab = Lab(instance=options.instance)
    try:
        lab.up(pool=True)
        with ControlPlane() as plane, tempfile.TemporaryDirectory(prefix="gluster-csi-faults-") as directory:
            return asyncio.run(_all(lab, str(plane.kubeconfig), Path(directory), options.times, options.pause))
    finally:
        lab.down()


async def _all(lab: Lab, kubeconfig: str, directory: Path, times: int, pause: float) -> int:
    await install(kubeconfig)
    pair = LabPair(lab, directory, kubeconfig)
    bad = 0
    try:
        await pair.start()
        for number, case in enumerate(matrix(times, pause), 1):
            began = time.monotonic()
            outcome = await run(pair, case, f"pvc-{number}")
            verdict = "1 volume, 0 doubles, 0 late" if not outcome.problems else f"{len(outcome.problems)} PROBLEMS"
            print(
                f"{number:3d}  {case!s:42} takeover {outcome.takeover:4.1f} s, {outcome.open} open, "
                f"{outcome.ended} sessions ended: {verdict} ({time.monotonic() - began:.0f} s)",
                flush=True,
            )
            for remark in (*outcome.problems, *(f"slow to go: {what}" for what in outcome.slow)):
                print(f"     {remark}", flush=True)
            bad += bool(outcome.problems)
            lab.sweep()
    except BaseException:
        for controller in (pair.leader, pair.standby):
            print(f"--- {controller.name}\n{controller.log.read_text()[-6000:]}", file=sys.stderr)
        raise
    finally:
        await pair.stop()
    print(f"{times - bad} of {times} good")
    return 1 if bad else 0


if __name__ == "__main__":
    began = time.monotonic()
    status = main()
    print(f"in {time.monotonic() - began:.0f} s", file=sys.stderr)
    sys.exit(status)
