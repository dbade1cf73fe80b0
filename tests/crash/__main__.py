"""``make crash``: our process ended at every point of what is done to volumes; nothing may leak, nothing may double.

``simulated``: over simulated hosts, at every command and commit; ``real``: with ``kill -9`` on real GlusterFS hosts;
``api``: the same with the state on a real API server. The first two if nothing is said. CRASH_EVERY=N tries every N-th
point only of what changes and copies volumes.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence

from csi import log
from tests.crash import changing, copies, manifests, pools, real, simulated

SUITES = {
    "simulated": (simulated.run, copies.run, changing.run, pools.run, manifests.run),
    "real": (real.run,),
    "api": (real.run_on_api_server,),
}


def main(parts: Sequence[str]) -> int:
    log.configure("critical", "text")
    failed = passed = 0
    # A crash ends tasks that nobody waits for.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    for suite in [suite for part in parts for suite in SUITES[part]]:
        for name, points, problems in suite():
            for problem in problems[:20]:
                print(f"  {problem}")
            verdict = "0 leaks, 0 doubles" if not problems else f"{len(problems)} PROBLEMS"
            print(f"{points:5d} points  {name}: {verdict}", flush=True)
            if problems:
                failed += 1
            else:
                passed += points
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    began = time.monotonic()
    status = main(sys.argv[1:] or ("simulated", "real"))
    print(f"in {time.monotonic() - began:.0f} s", file=sys.stderr)
    sys.exit(status)
