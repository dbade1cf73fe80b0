"""``make crash``: our process ended at every point of what is done to volumes; nothing may leak, nothing may double.

First over simulated hosts, at every command and commit; then with ``kill -9`` on real GlusterFS hosts. CRASH_EVERY=N
tries every N-th point only of what changes and copies volumes. ``--api``: only the last, with the state on a real API
server.
"""

from __future__ import annotations

import logging
import sys
import time

from csi import log
from tests.crash import changing, copies, manifests, pools, real, simulated


def main() -> int:
    log.configure("critical", "text")
    failed = passed = 0
    # A crash ends tasks that nobody waits for.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    suites = (simulated.run, copies.run, changing.run, pools.run, manifests.run, real.run)
    for suite in (real.run_on_api_server,) if "--api" in sys.argv[1:] else suites:
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
    status = main()
    print(f"in {time.monotonic() - began:.0f} s", file=sys.stderr)
    sys.exit(status)
