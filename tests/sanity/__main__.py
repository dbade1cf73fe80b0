"""csi-sanity against ``gluster-csi serve`` on a real pool: no failure, no skip but those listed with a reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Driver
from tests.lab.fixtures import usual
from tests.lab.sessions import remove_abandoned, session_instance
from tests.lab.system import SLOWNESS

HERE = Path(__file__).parent
BINARY = HERE.parent.parent / ".tools" / "bin" / "csi-sanity"
SKIPS = HERE / "skips.json"


def run_suite(driver: Driver, work: Path, options: Sequence[str]) -> list[dict[str, str]]:
    """Every spec with its full name and state. ``options``: more of them for csi-sanity, as --ginkgo.focus=REGEX."""
    report, mutable = work / "report.json", work / "mutable.yaml"
    mutable.write_text("profile: db-workload\nvolumeOptions: performance.io-cache off, client.event-threads 4\n")
    subprocess.run(
        [
            str(BINARY),
            f"--csi.endpoint={driver.socket}",
            f"--csi.mountdir={work / 'mount'}",
            f"--csi.stagingdir={work / 'staging'}",
            f"--csi.testvolumesize={1 << 30}",
            f"--csi.testvolumemutableparameters={mutable}",
            f"--ginkgo.json-report={report}",
            "--ginkgo.no-color",
            "--ginkgo.succinct",
            *options,
        ],
        check=False,
        timeout=900 * SLOWNESS,
    )
    specs = []
    for spec in json.loads(report.read_text())[0]["SpecReports"]:
        if spec["LeafNodeType"] == "It":
            name = " / ".join([*spec["ContainerHierarchyTexts"], spec["LeafNodeText"]])
            specs.append({"name": name, "state": spec["State"], "why": (spec.get("Failure") or {}).get("Message", "")})
    return specs


def judge(specs: list[dict[str, str]], *, whole: bool) -> list[str]:
    """What is wrong with the outcome. ``whole``: nobody chose some of the specs."""
    expected: dict[str, str] = json.loads(SKIPS.read_text())
    problems = [
        f"FAILED {spec['name']}: {spec['why']}"
        for spec in specs
        if spec["state"] not in ("passed", "skipped", "pending")
    ]
    if not whole:
        return problems
    left_out = {spec["name"]: spec["why"] for spec in specs if spec["state"] in ("skipped", "pending")}
    problems += [f"NEW SKIP {name}: {why}" for name, why in left_out.items() if name not in expected]
    problems += [
        f"LISTED AS SKIPPED, BUT RAN {name}: take it out of {SKIPS.name}" for name in expected if name not in left_out
    ]
    return problems


def tell(text: str, problems: Sequence[str]) -> None:
    """The problems, and last what the driver's log says of the volumes that they name: who cuts it keeps the end."""
    print(text[-20000:], *problems, sep="\n")
    lines = text.splitlines()
    for volume in sorted(set(re.findall(r"vol_([0-9a-f]{32})", "\n".join(problems)))):
        # By request: what was done for it says the call that asked for it, and not always the volume.
        calls = {call for line in lines if volume in line for call in re.findall(r'"request": "(\w+)"', line)}
        print(f"--- of volume {volume}:")
        print(*(line for line in lines if volume in line or any(call in line for call in calls)), sep="\n")


def main(options: Sequence[str] = ()) -> int:
    with tempfile.TemporaryDirectory(prefix="gluster-csi-sanity-") as temporary:
        work = Path(temporary)
        remove_abandoned()
        lab = usual(session_instance())
        try:
            lab.up()
            driver = Driver(lab, work / "driver")
            try:
                driver.start()
                with driver.client() as client:
                    # While a pool has one, no other volume pays the two seconds in which the self-heal daemon starts.
                    base = client.create("base", GIB)
                    specs = run_suite(driver, work, options)
                    client.delete(base.volume_id)
                    known = client.controller.ListVolumes(pb.ListVolumesRequest(), timeout=60).entries
            finally:
                driver.stop()
            problems = judge(specs, whole=not options)
            problems += [f"STILL KNOWN to the driver: vol_{entry.volume.volume_id}" for entry in known]
            problems += [f"LEFT BEHIND {what}" for what in lab.leftovers()]
            if problems:
                tell(driver.log.read_text(), problems)
        finally:
            lab.down()
    states = Counter(spec["state"] for spec in specs)
    print(
        f"csi-sanity: {len(problems)} problems; left out for a listed reason: {states['skipped'] + states['pending']}"
    )
    print(f"{states['passed']} passed, {len(problems)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
