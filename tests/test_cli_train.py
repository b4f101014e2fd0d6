"""`tersely train`: any trainer, rows that are checked by line, and work that can be stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from loopback import Loopback
from typer.testing import CliRunner, Result

from tersely import registry
from tersely.artefact import About, save
from tersely.contracts import Need, Request
from tersely.middleware.cli import app
from tersely.prompt import Prompt, Segment
from tersely.training import TrainerModel, Training

ROWS = '{"q": "one"}\n\n{"q": "two", "extra": 1.10}\n'


class Counting(TrainerModel):
    """Counts its rows."""

    name = "counting"
    columns = ("q",)
    other_columns = ("left", "right")

    times: int = 1
    words: tuple[str, ...] = ()
    stop: bool = False

    def train(self, training: Training, /) -> Path:
        for i in range(self.times):
            training.progress(i + 1, self.times, {"loss": 0.25})
        if self.stop:
            raise KeyboardInterrupt
        settings = self.model_dump(mode="json") | {"saw": [dict(row) for row in training.rows]}
        figures = {"loss": 0.25, "f1": 0.5}
        about = About(recipe="counted", settings=settings, figures=figures, rows=len(training.rows))
        return save(training.out, about)


class Asking(TrainerModel):
    """Asks for a word."""

    name = "asking"
    needs: ClassVar[frozenset[Need]] = frozenset({"llm"})
    columns = ("q",)

    def train(self, training: Training, /) -> Path:
        assert training.backend is not None
        said = training.backend.complete([Request(prompt=Prompt((Segment(text="Hello"),)))])
        about = About(recipe="asked", settings={"said": said[0].text})
        return save(training.out, about)


@pytest.fixture(autouse=True)
def _trainers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(registry.TRAINERS, "counting", "test_cli_train:Counting")
    monkeypatch.setitem(registry.TRAINERS, "asking", "test_cli_train:Asking")
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS)


def run(*arguments: str, name: str = "counting", data: str = "rows.jsonl") -> Result:
    return CliRunner().invoke(app, ["train", name, data, "--out", "made", *arguments])


def failed(result: Result) -> str:
    """What a failure said: one line, nothing on standard output."""
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert not Path("made").exists()
    return result.stderr


def about() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("made/tersely.json").read_text())
    return found


def test_the_folder_and_its_figures_are_told() -> None:
    done = run()
    assert (done.exit_code, done.stdout) == (0, "made\n")
    assert "for the stage counted from 2 rows: loss 0.25, f1 0.5" in done.stderr
    assert about()["settings"]["saw"] == [{"q": "one"}, {"q": "two", "extra": 1.1}]


def test_the_progress_tells_the_figures_of_the_moment() -> None:
    shown = run("--set", "times=3").stderr
    assert "3/3" in shown
    assert "loss 0.25" in shown


def test_quiet_says_nothing_and_json_is_all_that_is_said() -> None:
    assert run("--quiet").stderr == ""
    done = run("--json")
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert (told["trainer"], told["path"]) == ("counting", "made")
    assert told["about"]["figures"] == {"loss": 0.25, "f1": 0.5}


def test_settings_are_yaml_and_checked() -> None:
    assert run("--set", "times=2", "--set", "words=[a, 'b=c']").exit_code == 0
    assert about()["settings"]["times"] == 2
    assert about()["settings"]["words"] == ["a", "b=c"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("times=many", "times: .*'many'"),
        ("size=1", "size: .*not permitted"),
        ("times", "key=value, was 'times'"),
        ("words=[a", "is not YAML"),
    ],
)
def test_wrong_settings_are_told(setting: str, said: str) -> None:
    import re

    assert re.search(said, " ".join(failed(run("--set", setting)).split()))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}", "no q in it; a row for 'counting' holds q, or left and right"),
        ('{"left": 1}', "no q in it"),
        ("[1]", "a row is an object in braces"),
        ("{", "not JSON"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_wrong_row_is_told_with_its_line(line: str, said: str) -> None:
    Path("rows.jsonl").write_bytes((ROWS + line).encode(errors="surrogateescape"))
    told = " ".join(failed(run()).split())
    assert "rows.jsonl, line 4: " in told
    assert said in told


def test_a_row_may_hold_the_other_columns() -> None:
    Path("rows.jsonl").write_text('{"left": 1, "right": 2}\n{"q": 1}\n')
    assert run().exit_code == 0


def test_data_that_is_none_is_told() -> None:
    assert "not there" in failed(run(data="nowhere.jsonl"))
    Path("rows.jsonl").write_text("\n")
    assert "holds no rows" in failed(run())


def test_an_unknown_trainer_is_told_with_the_nearest() -> None:
    assert "nearest: counting" in failed(run(name="countin"))


def test_an_interrupt_says_that_the_same_command_goes_on() -> None:
    done = run("--set", "stop=true")
    assert (done.exit_code, done.stdout) == (130, "")
    assert "the same command goes on where it was" in done.stderr


def test_a_server_answers_where_one_is_asked(server: Loopback) -> None:
    done = run("--base-url", f"{server.url}/v1", "--model", "gpt-4o", name="asking")
    assert done.exit_code == 0
    assert about()["settings"]["said"] == "an answer"
    assert len(server.seen) == 1


def test_a_server_is_only_for_who_asks(server: Loopback) -> None:
    assert "--base-url needs --model" in failed(run("--base-url", server.url, name="asking"))
    assert "asks no model" in failed(run("--model", "gpt-4o"))


def test_trainers_are_listed_with_what_they_take() -> None:
    listed = CliRunner().invoke(app, ["trainers"]).stdout
    assert "rows hold: q, or left and right" in listed
    assert "times=1" in listed
    for command in ("trainers", "stages"):
        entries = json.loads(CliRunner().invoke(app, [command, "--json"]).stdout)
        found = {entry["name"]: entry for entry in entries if entry["type"] == "trainer"}
        assert set(found) == set(registry.TRAINERS)
        assert found["counting"]["summary"] == "Counts its rows."
        assert found["counting"]["columns"] == [["q"], ["left", "right"]]
        assert found["asking"]["needs"] == ["llm"]
        assert found["pruner"]["paper"].startswith("Pan et al. 2024")
        assert found["pruner"]["settings"]["steps"]["default"] == 500
        assert not any(entry["error"] for entry in found.values())
