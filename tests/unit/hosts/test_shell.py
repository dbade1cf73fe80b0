"""The text that a shell is given, and the reading of its answer."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from subprocess import PIPE

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csi.core.command import Command, Result, Script
from csi.hosts.mandate import Mandate
from csi.hosts.shell import OUTPUT_LIMIT, Reply, compile_exec, compile_script, exec_marker, prelude, quote

NONCE = "0123456789abcdef0123456789abcdef"

# The shells that /bin/sh is on the systems that GlusterFS runs on.
SHELLS = {
    name: argv
    for name, argv in {"sh": ["/bin/sh"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}.items()
    if shutil.which(argv[0])
}

anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("'\"\\$`;\n"))
syntax = st.lists(st.sampled_from([*"'\"\\$`;&|<>(){}*?[]#~=!% \n\t\udcff\x81", "$(id)", "`id`", "-n", "if", "\r\n"]))
words = anything | syntax.map("".join)


def answer(script: Script, shell: list[str], before: str = prelude()) -> tuple[Result, ...]:
    """What a real shell says to the script."""
    text = before.encode() + compile_script(script, NONCE, first=True)
    done = subprocess.run(shell, input=text, capture_output=True, timeout=60, check=False)
    reply = Reply(NONCE)
    reply.feed(0, done.stdout)
    assert reply.feed(1, done.stderr), (done.stdout, done.stderr)
    return reply.results()


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_what_a_new_shell_says_by_itself_is_not_the_scripts(shell: list[str]) -> None:
    script = Script((Command(("echo", "out")), Command(("sh", "-c", "echo err >&2"))))
    greeting = "echo 'Last login: never'; printf 'no newline' >&2\n"
    assert answer(script, shell, greeting + prelude()) == (Result(0, "out\n"), Result(0, "", "err\n"))


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
@settings(max_examples=60, deadline=None)
@given(argv=st.lists(words, max_size=12), stdin=words, name=words.filter(bool))
def test_no_string_reaches_a_shell_as_syntax(shell: list[str], argv: list[str], stdin: str, name: str) -> None:
    verb = 'csi_test() { printf "<%s>" "$@"; }\n'
    script = Script(
        (
            Command(("printf", "<%s>", *argv)),
            Command(("/usr/bin/env", "printf", "<%s>", *argv)),
            Command(("csi_test", *argv)),
            Command(("cat",), stdin=stdin),
            Command(("true",), unless=("test", name, "=", name)),
            Command(("no/such/" + name.replace("/", "-"), *argv), ok=(126, 127)),
        )
    )
    builtin, program, function, fed, skipped, missing = answer(script, shell, prelude() + verb)
    expected = "".join(f"<{word}>" for word in argv) or "<>"
    assert builtin == program == function == Result(0, expected)
    assert fed == Result(0, stdin)
    assert skipped == Result(0, skipped=True)
    assert missing.stdout == ""


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_each_shell_keeps_to_the_rules(shell: list[str]) -> None:
    fails = ("sh", "-c", "echo out; echo err >&2; exit 7")
    assert answer(Script((Command(fails, ok=(7,)), Command(fails), Command(("echo", "never")))), shell) == (
        Result(7, "out\n", "err\n"),
        Result(7, "out\n", "err\n"),
    )
    (hello,) = answer(Script((Command(("csi_hello",)),)), shell)
    assert re.fullmatch(r"\d+ \d+ [0-9a-f-]{36}\n", hello.stdout)


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_the_last_command_may_fail_without_ending_the_shell(shell: list[str]) -> None:
    first = compile_script(Script((Command(("false",)),)), NONCE)
    second = compile_script(Script((Command(("echo", "alive")),)), NONCE[::-1])
    done = subprocess.run(
        shell, input=prelude().encode() + first + second, capture_output=True, timeout=60, check=False
    )
    reply = Reply(NONCE[::-1])
    for number, stream in enumerate((done.stdout, done.stderr)):
        _, _, later = stream.partition(exec_marker(NONCE))
        reply.feed(number, later)
    assert reply.done
    assert reply.results() == (Result(0, "alive\n"),)


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_a_script_that_arrives_in_part_does_nothing(shell: list[str]) -> None:
    """However far a broken connection let it come."""
    text = compile_script(Script((Command(("echo", "one")), Command(("echo", "two")))), NONCE)
    whole = text.rindex(b"done")
    for cut in range(0, whole, 7):
        done = subprocess.run(
            shell, input=prelude().encode() + text[:cut], capture_output=True, timeout=60, check=False
        )
        assert b"one" not in done.stdout


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_a_shell_becomes_a_program(shell: list[str]) -> None:
    text = prelude().encode() + compile_exec(("sh", "-c", 'echo "$1"; echo err >&2', "sh", "a 'b' $c"), NONCE)
    done = subprocess.run(shell, input=text, capture_output=True, timeout=60, check=False)
    assert done.stdout == exec_marker(NONCE) + b"a 'b' $c\nerr\n"


def test_the_functions_keep_to_the_rules_of_their_header() -> None:
    for name in ("session.sh", "verbs.sh", "copyverbs.sh", "lvm.sh", "lvmcopies.sh", "regroup.sh"):
        text = resources.files("csi.hosts").joinpath(name).read_text(encoding="utf-8")
        functions = re.findall(r"^([A-Za-z_]\w*) *\(\)", text, re.MULTILINE)
        assert functions
        assert all(function.startswith("csi_") for function in functions)
        assert len(set(functions)) == len(functions)
        # Each is told in a comment right above it.
        for function in functions:
            assert re.search(rf"^#.*\n{function} *\(\)", text, re.MULTILINE), function


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_every_shell_reads_the_functions(shell: list[str]) -> None:
    done = subprocess.run([*shell, "-n"], input=prelude().encode(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_quoted_words_are_always_in_quotes() -> None:
    assert [quote(word) for word in ("a", "", "a b", "it's")] == ["'a'", "''", "'a b'", "'it'\\''s'"]


@pytest.mark.parametrize(
    "command",
    [
        Command(()),
        Command(("",)),
        Command(("exit", "0")),
        Command(("true",), unless=("exec", "true")),
        Command(("echo", "a\0b")),
        Command(("cat",), stdin="a\0b"),
        Command(("echo", "\ud800")),
    ],
)
def test_what_cannot_be_said_to_a_shell_is_refused(command: Command) -> None:
    with pytest.raises(ValueError, match=r"command|NUL|surrogates"):
        compile_script(Script((command,)), NONCE)


# --- the answer -------------------------------------------------------------------------------


def mark(index: object, status: object) -> bytes:
    return f"{NONCE}:{index}:{status}\n".encode()


@given(
    outputs=st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 255)), max_size=5),
    cuts=st.lists(st.integers(1, 40), min_size=1),
    noise=st.binary(max_size=40),
)
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(
    outputs: list[tuple[bytes, bytes, int]], cuts: list[int], noise: bytes
) -> None:
    streams = []
    for said in ([out for out, _, _ in outputs], [err for _, err, _ in outputs]):
        body = b"".join(text + mark(index, outputs[index][2]) for index, text in enumerate(said))
        streams.append(noise + mark("begin", 0) + body + mark("end", 0))
    reply = Reply(NONCE)
    for number, stream in enumerate(streams):
        position, turn = 0, 0
        while position < len(stream):
            assert not reply.done
            piece = stream[position : position + cuts[turn % len(cuts)]]
            reply.feed(number, piece)
            position, turn = position + len(piece), turn + 1
    assert reply.done
    assert reply.results() == tuple(
        Result(status, out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "surrogateescape"))
        for out, err, status in outputs
    )


def test_output_beyond_the_limit_is_not_kept_in_memory() -> None:
    reply = Reply(NONCE, limit=1000)
    reply.feed(0, mark("begin", 0))
    for _ in range(50):
        reply.feed(0, b"x" * 1000)
    held = sum(len(stream.output) + len(stream.pending) for stream in reply._streams)
    assert held < 1100
    reply.feed(0, mark(0, 0) + mark("end", 0))
    reply.feed(1, mark("begin", 0) + mark(0, 0) + mark("end", 0))
    assert reply.results() == (Result(0, "x" * 1000 + "\n[49000 more bytes dropped]\n"),)
    assert OUTPUT_LIMIT == 1 << 20


def test_an_answer_tells_which_command_was_reached() -> None:
    reply = Reply(NONCE)
    seen = [reply.reached]
    for data in (mark("begin", 0), b"x" + mark(0, 0), b"y", mark(1, "skipped")):
        reply.feed(0, data)
        seen.append(reply.reached)
    assert seen == [0, 0, 1, 1, 2]


# --- terms (hosts/mandate.py); all else of them is in tests/contract/test_mandate.py ----------


class Host:
    """A host's terms, and shells that come to it. Each in a process group of its own, since groups are ended here."""

    def __init__(self, shell: list[str], directory: Path) -> None:
        self._shell = shell
        self._directory = directory
        self._open: list[subprocess.Popen[bytes]] = []

    def mandate(self, term: int) -> Mandate:
        at = self._directory
        return Mandate("i", term, f"holder-{term}", f"{at}/terms", f"{at}/sessions")

    def enter(self, term: int) -> tuple[subprocess.Popen[bytes], Result]:
        shell = subprocess.Popen(self._shell, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True, cwd="/")
        self._open.append(shell)
        assert shell.stdin is not None
        assert shell.stdout is not None
        assert shell.stderr is not None
        hello = Script((Command(("csi_hello", *self.mandate(term).words), ok=tuple(range(256))),))
        shell.stdin.write(prelude().encode() + compile_script(hello, NONCE))
        shell.stdin.flush()
        reply = Reply(NONCE)
        for stream, pipe in enumerate((shell.stdout, shell.stderr)):
            while not reply.feed(stream, line := pipe.readline()) and b":end:" not in line:
                assert line, "the shell ended"
        return shell, reply.results()[0]

    def close(self) -> None:
        for shell in self._open:
            shell.kill()
            shell.communicate()


@pytest.fixture(params=list(SHELLS.values()), ids=list(SHELLS))
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    host = Host(request.param, tmp_path)
    yield host
    host.close()


def test_each_shell_obeys_the_highest_term(host: Host) -> None:
    first, said = host.enter(3)
    assert (said.status, said.stderr) == (0, "")
    assert host.enter(3)[1].status == 0
    assert first.poll() is None
    assert host.enter(4)[1].status == 0
    assert first.wait(5) == -9
    for term in (3, 0):
        _, said = host.enter(term)
        assert (said.status, said.stdout, said.stderr) == (76, "", "4\n")


@pytest.mark.parametrize("text", ["", "\n", "x y\n", "-1 a\n"])
def test_each_shell_takes_what_is_no_term_for_none(host: Host, tmp_path: Path, text: str) -> None:
    (tmp_path / "terms").mkdir()
    (tmp_path / "terms/i").write_text(text)
    _, said = host.enter(1)
    assert (said.status, said.stderr) == (0, "")
    assert (tmp_path / "terms/i").read_text() == "1 holder-1\n"
