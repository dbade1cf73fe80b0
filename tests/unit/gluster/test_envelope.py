"""Every answer that was recorded from the real tool means what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from csi.core.errors import Busy, GlusterFailed, HostUnreachable, InUse, Unavailable
from csi.gluster import envelope
from csi.gluster.envelope import Answer, Meaning

RECORDED = Path(__file__).parents[2] / "recorded" / "gluster"

MEANINGS = {
    "no-daemon": Meaning.NO_DAEMON,
    "peer-probe-itself": Meaning.DONE,
    "peer-probe-known": Meaning.DONE,
    "peer-probe-nowhere": Meaning.DISCONNECTED,
    "peer-probe-of-another": Meaning.HELD,
    "peer-status": Meaning.DONE,
    "peer-status-one-down": Meaning.DONE,
    "request-timed-out": Meaning.SILENT,
    "volume-add-brick": Meaning.DONE,
    "volume-add-brick-absent": Meaning.REFUSED,
    "volume-add-brick-again": Meaning.REFUSED,
    "volume-add-brick-count": Meaning.REFUSED,
    "volume-add-brick-while-rebalance": Meaning.REBALANCING,
    "volume-create": Meaning.DONE,
    "volume-create-brick-of-another": Meaning.REFUSED,
    "volume-create-count": Meaning.REFUSED,
    "volume-create-exists": Meaning.EXISTS,
    "volume-create-marked": Meaning.MARKED,
    "volume-create-no-directory": Meaning.REFUSED,
    "volume-create-no-quorum": Meaning.DONE,
    "volume-create-not-a-peer": Meaning.JOINING,
    "volume-create-one-server": Meaning.REFUSED,
    "volume-create-peer-down": Meaning.AWAY,
    "volume-create-root": Meaning.REFUSED,
    "volume-create-staging-marked": Meaning.MARKED,
    "volume-create-staging-no-directory": Meaning.REFUSED,
    "volume-create-syntax": Meaning.REFUSED,
    "volume-delete": Meaning.DONE,
    "volume-delete-absent": Meaning.ABSENT,
    "volume-delete-peer-down": Meaning.AWAY,
    "volume-delete-partly": Meaning.PARTLY,
    "volume-delete-started": Meaning.REFUSED,
    "volume-heal": Meaning.DONE,
    "volume-heal-info-summary": Meaning.DONE,
    "volume-heal-info-summary-one-down": Meaning.DONE,
    "volume-heal-info-summary-pending": Meaning.DONE,
    "volume-info": Meaning.DONE,
    "volume-info-after-add-brick": Meaning.DONE,
    "volume-info-absent": Meaning.ABSENT,
    "volume-info-all": Meaning.DONE,
    "volume-info-all-empty": Meaning.DONE,
    "volume-list": Meaning.DONE,
    "volume-list-empty": Meaning.DONE,
    "volume-rebalance-one-set": Meaning.ONE_SET,
    "volume-rebalance-start": Meaning.DONE,
    "volume-rebalance-start-again": Meaning.REBALANCING,
    "volume-rebalance-status-done": Meaning.DONE,
    "volume-rebalance-status-in-progress": Meaning.DONE,
    "volume-rebalance-status-none": Meaning.STOPPED,
    "volume-rebalance-status-running": Meaning.REBALANCING,
    "volume-set": Meaning.DONE,
    "volume-set-absent": Meaning.ABSENT,
    "volume-set-locked": Meaning.LOCKED,
    "volume-set-no-quorum": Meaning.AWAY,
    "volume-set-unknown": Meaning.REFUSED,
    "volume-set-wrong-value": Meaning.REFUSED,
    "volume-start": Meaning.DONE,
    "volume-start-absent": Meaning.ABSENT,
    "volume-start-started": Meaning.STARTED,
    "volume-start-partly": Meaning.STARTED,
    "volume-start-uncommitted": Meaning.UNCOMMITTED,
    "volume-start-uncommitted-peer": Meaning.UNCOMMITTED,
    "volume-status-absent": Meaning.ABSENT,
    "volume-status-not-started": Meaning.STOPPED,
    "volume-status-partly": Meaning.PARTLY,
    "volume-status-one-down": Meaning.DONE,
    "volume-status-rebalance": Meaning.DONE,
    "volume-status-peer-down": Meaning.DONE,
    "volume-stop": Meaning.DONE,
    "volume-stop-while-rebalance": Meaning.REBALANCING,
    "volume-stop-no-quorum": Meaning.AWAY,
    "volume-stop-not-started": Meaning.STOPPED,
    "volume-stop-partly": Meaning.PARTLY,
}


def recorded(label: str) -> Answer:
    """What GlusterFS 10.3 said. Plain text came with status 1, but for one."""
    (path,) = RECORDED.glob(f"10.3-{label}.*")
    command = " ".join(label.split("-")[:2])
    answer = envelope.read(
        "h", f"{command} x", path.read_bytes(), int(path.suffix == ".txt" and label != "volume-heal")
    )
    assert answer is not None
    return answer


def test_every_recording_has_its_row() -> None:
    assert {path.stem.removeprefix("10.3-") for path in RECORDED.iterdir()} == MEANINGS.keys()


@pytest.mark.parametrize("label", MEANINGS)
def test_recordings(label: str) -> None:
    assert recorded(label).meaning is MEANINGS[label]


@pytest.mark.parametrize(
    ("command", "text", "meaning"),
    [
        ("volume set v", "Another transaction could be in progress. Please try again after some time.", Meaning.LOCKED),
        ("volume set v", "Locking failed on 192.0.2.12. Please check log file for details.", Meaning.LOCKED),
        (
            "volume delete v",
            "Staging failed on 192.0.2.13. Error: Some of the peers are down\nStaging failed on 192.0.2.12. Error: "
            "Some of the peers are down",
            Meaning.AWAY,
        ),
        ("volume set v", "Server quorum not met. Rejecting operation.", Meaning.AWAY),
        (
            "volume delete v",
            "Cannot delete Volume v ,as it has 2 snapshots. To delete the volume, first delete all the snapshots "
            "under it.",
            Meaning.HELD,
        ),
        # What a peer says of itself is not what glusterd says of the pool.
        ("volume start v", "Staging failed on 192.0.2.12. Error: Volume v does not exist", Meaning.REFUSED),
        # A part of such a text in the middle of another one means nothing.
        ("volume set v", "option : user.Volume x does not exist does not exist", Meaning.REFUSED),
    ],
)
def test_texts_of_the_binary(command: str, text: str, meaning: Meaning) -> None:
    refusal = f"<opRet>-1</opRet><opErrno>30800</opErrno><opErrstr>{text}</opErrstr>"
    said = f"<?xml version='1.0'?><cliOutput>{refusal}</cliOutput>"
    answer = envelope.read("h", command, said)
    assert answer is not None
    assert answer.meaning is meaning


def test_numbers_of_a_probe_are_not_those_of_other_commands() -> None:
    said = "<?xml version='1.0'?><cliOutput><opRet>-1</opRet><opErrno>107</opErrno><opErrstr>odd</opErrstr></cliOutput>"
    answer = envelope.read("h", "volume start x", said)
    assert answer is not None
    assert answer.meaning is Meaning.REFUSED


@pytest.mark.parametrize(
    ("label", "error"),
    [
        ("volume-set-locked", Busy),
        ("volume-delete-peer-down", Unavailable),
        ("volume-create-not-a-peer", Unavailable),
        ("peer-probe-nowhere", Unavailable),
        ("request-timed-out", Unavailable),
        ("peer-probe-of-another", InUse),
        ("no-daemon", HostUnreachable),
        ("volume-set-unknown", GlusterFailed),
    ],
)
def test_errors(label: str, error: type[Exception]) -> None:
    answer = recorded(label)
    made = answer.error()
    assert type(made) is error
    assert answer.text in str(made)


def test_a_refusal_keeps_number_and_text() -> None:
    error = recorded("volume-set-wrong-value").error()
    assert isinstance(error, GlusterFailed)
    assert (error.errno, error.text) == (30800, 'invalid number format "abc" in option "cache-size"')


def test_done_is_the_document_or_the_error() -> None:
    assert recorded("volume-list").done().findtext("volList/count") == "3"
    with pytest.raises(Unavailable):
        recorded("volume-delete-peer-down").done()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"Welcome to gluster prompt, type 'help' to see the available commands.\n",
        b"<?xml version='1.0'?>\n<cliOutput>\n  <opRet>0</opRet>\n",
        b"<?xml version='1.0'?><cliOutput></cliOutput>",
        b"<?xml version='1.0'?><cliOutput><opRet>zero</opRet></cliOutput>",
        b"<?xml version='1.0'?><cliOutput><opRet>0</opRet></cliOutput><cliOutput><opRet>0</opRet></cliOutput>",
    ],
)
def test_what_is_no_answer(said: bytes) -> None:
    assert envelope.read("h", "volume info x", said) is None
