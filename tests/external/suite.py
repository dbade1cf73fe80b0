"""The suite as a program of Kubernetes: its list of specs, the images it asks for, and runs of it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.cluster.archive import HandMade, busybox_image
from tests.cluster.binaries import kubernetes
from tests.cluster.cluster import Cluster
from tests.external.specs import Spec, read
from tests.lab.system import LabError, environment

HERE = Path(__file__).parent
DEFINITION = HERE / "driver.yaml"
_LIST_SECONDS = 120
# What the storage specs start. All of it is a shell with the usual tools, and agnhost.
_IMAGES = ("busybox", "agnhost", "nginx", "glibc-dns-testing")


class Suite:
    """``directory``: where reports and output go."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self._cluster = cluster
        self._directory = directory
        self._program = kubernetes("e2e.test")

    def load_images(self) -> None:
        """Under the names that this release of the suite asks for."""
        shell = busybox_image()
        agnhost = {"/agnhost": Path(kubernetes("agnhost"))}
        for name in self._image_names():
            image: HandMade = dataclasses.replace(shell, name=name)
            if "/agnhost:" in name:
                image = dataclasses.replace(
                    image, programs=image.programs | agnhost, entry=("/agnhost",), command=("pause",)
                )
            self._cluster.import_image(image)

    def _image_names(self) -> list[str]:
        listed = _call([self._program, "--list-images"]).split()
        found = [name for name in listed if re.search(rf"/e2e-test-images/({'|'.join(_IMAGES)}):", name)]
        if missing := [kind for kind in _IMAGES if not any(f"/{kind}:" in name for name in found)]:
            raise LabError(f"the suite asks for no image of {', '.join(missing)}: it asks for {', '.join(listed)}")
        return found

    def names(self) -> list[str]:
        """Every spec that the suite has for the driver."""
        report = self._directory / "list.json"
        _call(
            [*self._command(), "--ginkgo.dry-run", "--ginkgo.focus=External.Storage", f"--ginkgo.json-report={report}"]
        )
        return [spec.name for spec in read(json.loads(report.read_text()))]

    def run(self, names: Sequence[str], processes: int, seconds: float) -> list[Spec]:
        """Run the specs, several at a time; one that has to be alone runs at the end."""
        if not names:  # without a focus it would run all that Kubernetes has
            raise LabError("no spec is chosen")
        report, output = self._directory / "report.json", self._directory / "output.log"
        selection = [f"--focus={re.escape(name)}$" for name in names]
        ginkgo = [kubernetes("ginkgo"), f"--procs={processes}", f"--json-report={report}", "--no-color", "-v"]
        argv = [*ginkgo, f"--timeout={seconds:.0f}s", *selection, self._program, "--", *self._flags()]
        with output.open("w") as file:
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False, env=environment())
        if not report.exists():
            raise LabError(f"the suite left no report; it says:\n{output.read_text()[-4000:]}")
        return read(json.loads(report.read_text()))

    def _command(self) -> list[str]:
        return [self._program, *self._flags()]

    def _flags(self) -> list[str]:
        return [
            f"--kubeconfig={self._cluster.kubeconfig}",
            f"--kubectl-path={kubernetes('kubectl')}",
            "--provider=skeleton",
            f"--storage.testdriver={DEFINITION}",
        ]


def _call(argv: Iterable[str]) -> str:
    words = list(argv)
    done = subprocess.run(words, text=True, capture_output=True, timeout=_LIST_SECONDS, check=False, env=environment())
    if done.returncode != 0:
        raise LabError(f"{' '.join(words[:3])} ...: exit {done.returncode}: {(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
