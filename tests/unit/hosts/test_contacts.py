"""When hosts were last heard of, from the commands that go there anyway."""

from __future__ import annotations

from contextlib import suppress

import pytest

from csi.core.command import Command, Result, Script
from csi.core.errors import CommandFailed, CommandTimeout, DriverError, HostUnreachable, Unavailable
from csi.core.model import ClusterId, Host, HostId
from csi.hosts.contacts import Contact, Contacts, HeardRunner
from csi.ports import Channel

HOST = Host(HostId("1" * 32), ClusterId("c" * 32), "n1", "10.0.0.1", zone=1)
SCRIPT = Script((Command(("true",)),), timeout=1.0)


class Scripted:
    """A runner whose next call ends as it is told to."""

    def __init__(self) -> None:
        self.error: DriverError | None = None

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        if self.error is not None:
            raise self.error
        return ()

    async def open(self, host: Host, argv: object) -> Channel:
        if self.error is not None:
            raise self.error
        raise NotImplementedError

    async def close(self) -> None:
        pass


@pytest.fixture
def told() -> list[bool]:
    return []


async def test_only_a_change_is_told(told: list[bool]) -> None:
    contacts, scripted = Contacts(), Scripted()
    contacts.listen(lambda host, contact: told.append(contact.reached))
    runner = HeardRunner(scripted, contacts)
    assert contacts.of(HOST.id) is None
    for error in (None, None, HostUnreachable("n1", "refused"), HostUnreachable("n1", "timed out"), None):
        scripted.error = error
        with suppress(HostUnreachable):
            await runner.run(HOST, SCRIPT)
    assert told == [True, False, True]


@pytest.mark.parametrize(
    ("error", "contact"),
    [
        (HostUnreachable("n1", "refused"), Contact(False, "refused")),
        (CommandFailed("n1", ("false",), 1, ""), Contact(True)),
        # It was reached once, and may be gone by now; and a controller that may not act says nothing of its hosts.
        (CommandTimeout("n1", ("sleep",), 1.0), None),
        (Unavailable("another controller leads"), None),
    ],
)
async def test_what_an_error_says_of_the_host(error: DriverError, contact: Contact | None) -> None:
    contacts, scripted = Contacts(), Scripted()
    scripted.error = error
    with pytest.raises(type(error)):
        await HeardRunner(scripted, contacts).run(HOST, SCRIPT)
    assert contacts.of(HOST.id) == contact


async def test_a_channel_that_cannot_be_opened_counts_too() -> None:
    contacts, scripted = Contacts(), Scripted()
    scripted.error = HostUnreachable("n1", "refused")
    with pytest.raises(HostUnreachable):
        await HeardRunner(scripted, contacts).open(HOST, ("sh",))
    assert contacts.of(HOST.id) == Contact(False, "refused")
