"""`tersely soft`: learn, measure, list, show and remove; a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tersely.middleware.cli import app
from tersely.soft_artefact import SoftArtefact, listed

POLICY = "Bags: one of 23 kg is free. Cancel within 24 hours for a refund. Ask Mrs Meier in Bern.\n"
TURNS = "".join(f'{{"question": "May I take {n} bags?"}}\n' for n in range(6))
SMALL = ("turns=6", "batch=2", "answer_tokens=3", "every=1", "held=2")


@pytest.fixture(autouse=True)
def _desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, smollm2: Path) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("policy.md").write_text(POLICY)
    Path("turns.jsonl").write_text(TURNS)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["soft", *arguments])


def train(model: Path, *arguments: str, tokens: int = 5) -> Result:
    settings = [word for one in SMALL for word in ("--set", one)]
    named = ("--model", str(model), "--tokens", str(tokens), "--turns", "turns.jsonl")
    return run("train", "--prompt", "policy.md", *named, "--steps", "2", *settings, *arguments)


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def failed(result: Result) -> str:
    """What a failure said last; nothing on standard output."""
    assert (result.exit_code, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_a_text_is_learned_shown_listed_and_removed(tiny_llama: Path, tmp_path: Path) -> None:
    done = train(tiny_llama)
    folder = tmp_path / "home" / "soft" / "policy"
    assert (done.exit_code, done.stdout) == (0, f"{folder}\n")
    assert "tokens as 5, kv, for" in done.stderr and "pays back after" in done.stderr
    about = SoftArtefact.load(folder).about
    assert about.fidelity and {"truncated", "pruned", "untrained"} == {*about.fidelity.baselines}
    assert told(run("list", "--json"))[0]["name"] == "policy"
    assert "policy" in run("list").stdout and str(folder) in run("show", "policy").stdout
    Path("other.md").write_text("The kettle holds 1.7 litres, and is blue.")
    other = run("train", "--prompt", "other.md", "--name", "policy")
    assert "learned from another text: take another name" in failed(other)
    shown = told(run("show", "policy", "--json"))
    assert shown["about"]["passed"] == about.passed
    assert told(run("rm", "policy", "--json")) == {"name": "policy", "path": str(folder)}
    assert listed() == {} and told(run("list", "--json")) == []
    assert "no soft prompt named 'policy'" in failed(run("show", "policy"))
    assert "no soft prompt named 'policy'" in failed(run("rm", "policy"))


def test_what_is_damaged_is_listed_as_such(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "soft" / "torn"
    folder.mkdir(parents=True)
    (folder / "tersely.json").write_text("{")
    assert "is damaged" in run("list").stdout
    (row,) = told(run("list", "--json"))
    assert (row["name"], row["what"], row["about"]) == ("torn", "damaged", None)
    assert "is damaged" in failed(run("show", "torn"))
    assert run("rm", "torn").exit_code == 0 and not folder.exists()


def test_fidelity_is_measured_and_drawn_against_tokens(tiny_llama: Path) -> None:
    for tokens, name in ((5, "five"), (8, "eight")):
        made = told(train(tiny_llama, "--json", "--out", name, tokens=tokens))
        assert (made["path"], made["about"]["tokens"]) == (name, tokens)
    done = run("eval", "five", "eight", "--tokens", "4,8", "--turns", "turns.jsonl", "--json")
    figures = told(done)["figures"]
    assert {size: {*beside} for size, beside in figures.items()} == {
        "4": {"truncated", "pruned", "untrained"},
        "5": {"truncated", "pruned", "untrained", "five"},
        "8": {"truncated", "pruned", "untrained", "eight"},
    }
    known = SoftArtefact.load("five").about.fidelity
    assert known and figures["5"]["five"]["kl"] == known.kl.model_dump(), "held out as in training"


def test_a_plot_is_drawn(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    train(tiny_llama, "--out", "made")
    for plot in ("made.png", "made.svg"):
        done = run("eval", "made", "--plot", plot)
        assert done.exit_code == 0, done.output
        assert "truncated" in done.stdout and f"drawn into {plot}" in done.stderr
        assert Path(plot).stat().st_size > 1000
    assert "a .png or .svg file, was 'made.gif'" in failed(
        run("eval", "made", "--plot", "made.gif")
    )
    assert "can't write" in failed(run("eval", "made", "--plot", "no/folder.png"))


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import tersely.errors

    monkeypatch.setattr(tersely.errors, "missing", lambda package: package == "matplotlib")
    assert "pip install 'tersely[plot]'" in failed(run("eval", "made", "--plot", "made.png"))


def test_what_is_not_of_one_text_is_not_compared(tiny_llama: Path) -> None:
    train(tiny_llama, "--out", "one")
    train(tiny_llama, "--out", "other", "--role", "user")
    assert "one, other are of different texts" in failed(run("eval", "one", "other"))
    assert "--tokens takes numbers" in failed(run("eval", "one", "--tokens", "8;16"))


def test_listed_facts_are_asked_for(tiny_llama: Path) -> None:
    Path("facts.txt").write_text("23 kg\n\n24 hours\n")
    about = told(train(tiny_llama, "--json", "--facts", "facts.txt"))["about"]
    assert (about["settings"]["facts"], about["fidelity"]["asked"]) == (["23 kg", "24 hours"], 2)
    Path("facts.txt").write_text("99 kg\n")
    assert "'99 kg' does not stand in the text" in failed(
        train(tiny_llama, "--facts", "facts.txt", "--out", "x")
    )


def test_what_can_not_be(tiny_llama: Path) -> None:
    assert "leave one out" in failed(train(tiny_llama, "--name", "a", "--out", "b"))
    assert "a name is of up to 64" in failed(train(tiny_llama, "--name", "a/b"))
    assert "form: " in failed(train(tiny_llama, "--form", "gist"))
    assert "900 are not fewer" in failed(train(tiny_llama, tokens=900))
    Path("policy.md").write_text(" \n")
    assert "no text to learn" in failed(train(tiny_llama))


def test_a_stopped_run_goes_on(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tersely import training

    whole = told(train(tiny_llama, "--json", "--out", "whole"))["about"]

    def stopped(self: training.Checkpoints, tensors: Any, state: Any) -> None:
        save(self, tensors, state)
        if "losses" in state:
            raise KeyboardInterrupt

    save = training.Checkpoints.save
    with monkeypatch.context() as patched:
        patched.setattr(training.Checkpoints, "save", stopped)
        done = train(tiny_llama, "--out", "parts")
        assert done.exit_code == 130
        assert "the same command goes on where it was" in done.stderr
    parts = told(train(tiny_llama, "--json", "--out", "parts"))["about"]
    assert parts["fidelity"] == whole["fidelity"]
    assert SoftArtefact.load("parts").soft == SoftArtefact.load("whole").soft
