"""A pytest plug-in: where CI is set, a skipped test is a failure, named. Nothing that CI shows green was left out."""

from __future__ import annotations

import os

import pytest

_SKIPPED = pytest.StashKey[list[str]]()


def _counts() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SKIPPED] = []


class _Collector:
    def __init__(self, skipped: list[str]) -> None:
        self._skipped = skipped

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._skipped.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(_Collector(session.config.stash[_SKIPPED]), "no-skips-collector")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _counts() and session.config.stash[_SKIPPED] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = config.stash[_SKIPPED]
    if _counts() and skipped:
        terminalreporter.section("skipped, and CI counts that as failed", red=True)
        for line in skipped:
            terminalreporter.line(line)
