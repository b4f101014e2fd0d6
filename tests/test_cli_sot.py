"""`tersely ask --sot`: what is drawn on a terminal, what is piped, and what Ctrl-C leaves."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from points_server import JOINED, PLAIN, QUESTION, Provider
from rich.console import Console
from script_server import Server
from typer.testing import CliRunner

from tersely.account import PointTold
from tersely.middleware import cli_sot
from tersely.middleware.cli import app
from tersely.middleware.cli_sot import Board

TERSELY = str(Path(sys.executable).parent / "tersely")

POINTS = [
    PointTold(number=1, heading="Rest", text="It heals.", state="whole"),
    PointTold(number=2, heading="Calm", text="It soothes.", state="open"),
    PointTold(number=3, heading="Wits", text="It clears.", state="whole"),
]


@pytest.fixture
def server(provider: Provider) -> Server:
    return provider.server


def asking(server: Server, *more: str) -> list[str]:
    where = ["--base-url", server.url, "--model", "gpt-4o"]
    return ["ask", "--question", QUESTION, "--sot", "auto", *where, *more]


def run(*args: str) -> Any:
    return CliRunner().invoke(app, [*args], input="")


def drawn(board: Board, width: int, height: int = 30) -> list[str]:
    page = io.StringIO()
    console = Console(file=page, force_terminal=True, width=width, height=height, no_color=True)
    console.print(board)
    return page.getvalue().splitlines()


class TestBoard:
    def test_points_stand_side_by_side_where_there_is_room(self) -> None:
        board = Board()
        board.see(POINTS)
        wide, narrow = drawn(board, 120), drawn(board, 50)
        assert len(wide) == 3
        assert all(word in wide[0] for word in ("1. Rest", "2. Calm", "3. Wits"))
        assert all(word in wide[1] for word in ("It heals.", "It soothes.", "It clears."))
        assert len(narrow) == 9

    def test_the_end_of_a_long_point_is_seen(self) -> None:
        board = Board()
        long = " ".join(f"word{i}" for i in range(200))
        board.see([PointTold(number=1, heading="Rest", text=long, state="open")])
        lines = drawn(board, 60, height=12)
        assert len(lines) <= 12
        assert "word199" in "".join(lines)
        assert "word0 " not in "".join(lines)

    def test_before_there_are_points(self) -> None:
        board = Board()
        assert "are listed" in drawn(board, 80)[0]
        board.said.append("A plain answer.")
        assert "A plain answer." in drawn(board, 80)[0]

    def test_signs_that_steer_a_terminal_are_shown_and_not_obeyed(self) -> None:
        board = Board()
        board.see([PointTold(number=1, heading="\x1b]0;x\x07", text="a\x1b[2Jb")])
        assert "\x1b[2J" not in "".join(drawn(board, 80))
        assert "\x1b]0" not in "".join(drawn(board, 80))

    def test_what_is_kept(self) -> None:
        board = Board(said=["1. Rest: It heals.", "\n\n2. Calm: It "])
        board.see(POINTS)
        assert board.kept == "1. Rest: It heals.\n\n2. Calm: It\n\n3. Wits: It clears."
        assert Board(said=["A plain "]).kept == "A plain"


class TestAsk:
    def test_piped_the_answer_comes_in_its_order(self, server: Server) -> None:
        done = run(*asking(server))
        assert done.exit_code == 0
        assert done.stdout == JOINED + "\n"
        assert "4 of 4 points are whole; 5 calls" in done.stderr

    def test_json_has_the_account(self, provider: Provider, server: Server) -> None:
        done = run(*asking(server, "--json"))
        told = json.loads(done.stdout)["answers"]["compressed"]
        assert told["answer"] == JOINED
        tokens = ("prompt_tokens", "cached_tokens", "completion_tokens")
        assert tuple(told[name] for name in tokens) == provider.sums
        assert told["sot"]["route"] == "skeleton"
        assert [point["state"] for point in told["sot"]["points"]] == ["whole"] * 4
        assert done.stderr == ""

    def test_quiet_says_the_answer_only(self, server: Server) -> None:
        done = run(*asking(server, "--quiet"))
        assert (done.stdout, done.stderr) == (JOINED + "\n", "")

    def test_questions_that_do_not_suit(self, server: Server) -> None:
        args = asking(server)
        args[2] = "Write a poem on sleep."
        done = run(*args)
        assert done.stdout == PLAIN + "\n"
        assert "one piece" in done.stderr

    def test_off_is_the_plain_way(self, provider: Provider, server: Server) -> None:
        args = ["off" if word == "auto" else word for word in asking(server)]
        assert run(*args).stdout == PLAIN + "\n"
        assert provider.purposes == ["plain"]
        assert server.bodies[0]["max_tokens"] == 256

    def test_the_length_is_shared(self, server: Server) -> None:
        run(*asking(server))
        run(*asking(server, "--max-tokens", "40"))
        points = [body["max_tokens"] for body in server.bodies[1:5]]
        assert all(60 < tokens <= 1024 for tokens in points)
        assert server.bodies[5]["max_tokens"] == 40

    def test_beside_a_text_and_compared(self, server: Server, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("Sleep heals the body. " * 60)
        done = run("ask", str(tmp_path / "notes.txt"), "--compare", *asking(server)[1:])
        assert done.stdout.count(JOINED) == 2

    @pytest.mark.parametrize("more", [["--sot", "maybe"], ["--index", "x"]])
    def test_what_can_not_be(self, server: Server, more: list[str]) -> None:
        done = run(*asking(server, *more))
        assert done.exit_code == 1
        assert "sot" in done.stderr


def on_a_terminal(args: list[str], columns: int = 100) -> tuple[int, str]:
    """A command on a terminal of its own, and its process."""
    pid, place = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", COLUMNS=str(columns), LINES="40")
        os.execv(TERSELY, [TERSELY, *args])
    told = b""
    while True:
        try:
            piece = os.read(place, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        told += piece
    os.close(place)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), told.decode()


def test_a_terminal_shows_the_points_and_then_the_answer(server: Server) -> None:
    code, told = on_a_terminal(asking(server))
    assert code == 0
    drawing, _, rest = told.partition("\x1b[?25h")  # the cursor is back: nothing more is drawn
    lines = [line for line in drawing.splitlines() if "1. Better memory" in line]
    assert "2. Stronger immune defence" in lines[-1]
    assert JOINED.replace("\n", "\r\n") in rest
    assert "4 of 4 points are whole" in rest


def test_ctrl_c_keeps_what_is_finished(provider: Provider, server: Server) -> None:
    """The second point hangs, and the first is answered after the others."""
    others, end = threading.Barrier(3), threading.Event()

    def play(handler: Any, body: Any) -> None:
        asked = json.dumps(body)
        if "write point 2" in asked:
            end.wait(60)
            handler.close_connection = True
            return
        if "write point 1" in asked:
            others.wait(60)
            end.wait(0.5)
        provider(handler, body)
        if "write point 3" in asked or "write point 4" in asked:
            others.wait(60)

    server.play = play
    command = [TERSELY, *asking(server)]
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as done:
        assert done.stdout is not None
        first = done.stdout.read(len(JOINED.partition("\n")[0]))
        done.send_signal(signal.SIGINT)
        rest, told = done.communicate(timeout=60)
    end.set()
    assert done.returncode == 130
    points = JOINED.split("\n\n")
    assert first + rest == "\n\n".join([points[0], *points[2:]]) + "\n"
    assert "of 4 points are finished" in told


def test_ctrl_c_in_the_middle_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said is the finished points, in their order, each once."""
    from little_sot import Writer

    from tersely.contracts import Request
    from tersely.middleware.points import Points
    from tersely.prompt import Prompt, Segment

    said: list[str] = []
    asked = Segment(text=QUESTION, kind="question", locked=True)
    request = Request(prompt=Prompt((asked,), QUESTION, turns=1), max_tokens=600)
    real = cli_sot.stream

    def until_two(*args: Any) -> Any:
        for i, chunk in enumerate(real(*args)):
            if i == 2:
                raise KeyboardInterrupt
            yield chunk

    monkeypatch.setattr(cli_sot, "stream", until_two)
    answer, account = cli_sot.answered(
        Writer(), request, Points.of("auto"), said.append, draw=False
    )
    assert account is None
    assert answer["finish_reason"] == "cancelled"
    assert "".join(said) == answer["answer"] + "\n"
    for number in ("1", "2", "3", "4"):
        assert answer["answer"].count(f"number {number} ") <= 1
