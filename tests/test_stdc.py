"""Cutting instructions by their syntax, and finding out what a definition can do without."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.artefact import page
from tersely.backends.scripted import ScriptedBackend
from tersely.compressors.definition import definition
from tersely.compressors.syntax import parsed
from tersely.contracts import Context, Request
from tersely.errors import BackendError, ConfigError, MissingExtra, ModelError
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt, Segment
from tersely.registry import stage, trainer
from tersely.tokens import counter
from tersely.training import Training

COUNT = counter("gpt-4o")
MODEL = "en_core_web_sm"

TASK = (
    "In this task, you are given a short passage about a person, who is usually a scientist. "
    "Write the name of the city where the person was born. "
    "Thank you very much for your patient help."
)
NEEDED = ("name", "city", "born")
"""The words without which the backend of these tests is wrong."""

LONG = (
    "When you read the review, which was written by a customer, decide carefully whether it is "
    "positive or negative. Answer in JSON with the key 'label', and do not explain the answer. "
    "If the review, a short text, is about food of any kind, ignore the nice pictures entirely."
)


def prompt_of(text: str, **more: Any) -> Prompt:
    system = Segment(text=text, role="system", kind="instruction", path=(0,), **more)
    asked = Segment(text="Marie was one.", kind="question", locked=True, turn=1, path=(1,))
    return Prompt((system, asked), question="Marie was one.")


def cut(text: str, ratio: float | None = None, /, **settings: Any) -> str:
    prompt = prompt_of(text)
    context = Context(count=COUNT)
    rest = context.tokens(prompt_of(""))
    if ratio is not None:
        context = context.within(rest + int((context.tokens(prompt) - rest) * ratio))
    made = stage("stdc", **settings)(prompt, context)
    assert context.limit is None or context.tokens(made) <= context.limit
    return made.segments[0].text


def holds_needed(request: Request) -> bool:
    words = request.prompt.segments[0].text.replace(".", " ").split()
    return all(word in words for word in NEEDED)


def answering(request: Request) -> str:
    return f"{request.prompt.question}!" if holds_needed(request) else "?"


ROWS = [{"input": f"passage {i}", "output": f"Passage {i}"} for i in range(10)]


def searched(out: Path, answer: Callable[[Request], Any] = answering, /, **settings: Any) -> Path:
    settings = {"definition": TASK} | settings
    work = Training(rows=ROWS, out=out, backend=ScriptedBackend(answer))
    return Path(trainer("definition", **settings).train(work))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("found"))


# --- syntax ---------------------------------------------------------------------------------


def constituents(text: str) -> list[str]:
    tree = parsed(text, MODEL)
    words = tree.units.texts
    return [" ".join(words[i] for i in part.tolist()) for part in tree.below()]


def test_a_comma_goes_with_what_it_sets_apart() -> None:
    found = constituents(TASK)
    assert "In this task ," in found
    assert ", who is usually a scientist" in found
    assert "( see above )" in constituents("Use the table ( see above ) for your answer.")


def test_facts_are_one_word() -> None:
    words = parsed(
        'Say "not at all" on 2024-03-01, or visit https://a.example/b c.', MODEL
    ).units.texts
    assert {'"not at all"', "2024-03-01", "https://a.example/b"} <= set(words)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from([*TASK.split(" "), "\n\n", "\ud800", "👨‍👩‍👧", "e\u0301,", "("])
    ).map(" ".join)
)
def test_every_text_is_trees(text: str) -> None:
    tree = parsed(text, MODEL)
    covered = "".join("".join(tree.units.texts).split())
    assert covered == "".join(text.split())
    depths = tree.depths()
    for i, head in enumerate(tree.heads.tolist()):
        assert depths[i] == (0 if head == i else depths[head] + 1)
    assert sum(len(tree.below()[i]) for i in np.flatnonzero(tree.roots).tolist()) == len(tree)


def test_a_model_that_is_not_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="'de_core_nowhere'"):
        Pipeline([stage("stdc", syntax="de_core_nowhere")])
    monkeypatch.setattr("tersely.compressors.syntax.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"tersely\[syntax\]"):
        Pipeline([stage("stdc")])


# --- untrained ------------------------------------------------------------------------------


def test_the_ladder_goes_from_clauses_to_words() -> None:
    """Each is gone before the next is touched."""
    text = (
        "Buy nice shoes. Look under chairs. Ask Ben, a poet. Find the town that people love. "
        "Paint the door if you can."
    )
    ladder = ["if you can", "that people love", ", a poet", "under chairs", "nice"]
    gone: list[int] = []
    for percent in range(100, 58, -2):
        left = cut(text, percent / 100)
        gone.append(sum(step not in left for step in ladder))
        assert [step in left for step in ladder] == sorted(step in left for step in ladder), left
    assert gone == sorted(gone)
    assert gone[0] == 0
    assert gone[-1] == len(ladder)


def test_heads_negations_and_the_output_format_go_last() -> None:
    left = cut(LONG, 0.6)
    for needed in ("decide", "Answer", "JSON", "'label'", "not explain", "positive or negative"):
        assert needed in left


def test_what_is_marked_stays() -> None:
    at = LONG.index("ich was written")
    prompt = prompt_of(LONG, spans=((at, at + 9),))
    context = Context(count=COUNT)
    made = stage("stdc")(prompt, context.within(context.tokens(prompt) // 2))
    assert "ich was w" in made.segments[0].text


@given(st.text(max_size=200), st.floats(0.1, 0.9))
def test_the_budget_holds_for_any_text(text: str, ratio: float) -> None:
    prompt = prompt_of(text)
    context = Context(count=COUNT)
    least = context.tokens(prompt_of("…"))
    context = context.within(max(least, int(context.tokens(prompt) * ratio)))
    assert context.tokens(stage("stdc")(prompt, context)) <= context.limit or len(text) < 3


def test_an_instruction_is_shortened_in_a_pipeline() -> None:
    request = {"messages": [{"role": "system", "content": LONG}, {"role": "user", "content": "Hi"}]}
    result = Pipeline(["stdc"], budget=0.6, model="gpt-4o").run(request)
    assert result.report.met
    assert result.output["messages"][0]["content"].startswith("decide")


# --- searched -------------------------------------------------------------------------------


def test_the_search_drops_what_is_useless_and_nothing_else(found: Path) -> None:
    known = definition(str(found))
    left = [word for word, kept in zip(units(known), known.kept.tolist(), strict=True) if kept]
    assert [word for word in left if word.isalpha()] == minimal(known)
    about = page(found, "stdc")
    assert about.figures["score_before"] == about.figures["score_after"] == 1
    assert about.figures["searched_after"] == 1
    assert about.figures["tokens_after"] < 0.4 * about.figures["tokens_before"]
    assert about.rows == 10
    assert sorted(path.name for path in found.iterdir()) == ["model.safetensors", "tersely.json"]


def units(known: Any) -> list[str]:
    return [known.text[start:end] for start, end in known.words.tolist()]


def minimal(known: Any) -> list[str]:
    """The needed words and those that they hang on: a head can't go without what hangs on it."""
    tree = parsed(known.text, MODEL)
    words = tree.units.texts
    wanted = {i for i, word in enumerate(words) if word in NEEDED}
    for i in list(wanted):
        while (above := int(tree.heads[i])) != i:
            wanted.add(above)
            i = above
    return [words[i] for i in sorted(wanted) if words[i].isalpha()]


def test_the_stage_puts_what_was_found_in_place(found: Path) -> None:
    left = cut(TASK, definition=str(found))
    assert all(word in left for word in NEEDED)
    assert "Thank you" not in left
    around = f"Be kind.\n\n{TASK}\n\nUse <b>HTML</b>. {TASK}"
    made = cut(around, definition=str(found))
    assert made == f"Be kind.\n\n{left}\n\nUse <b>HTML</b>. {left}"
    assert cut(made, definition=str(found)) == made


def test_another_text_is_left_alone(found: Path) -> None:
    for text in (TASK.replace("city", "town"), TASK[:-1], "x", LONG):
        assert cut(text, definition=str(found)) == text
    request = [{"role": "system", "content": LONG}, {"role": "user", "content": "Hi"}]
    made = Pipeline([stage("stdc", definition=str(found))], model="gpt-4o").run(request)
    assert made.output == request
    assert "no text holds the definition" in made.report.notes[0]


def test_no_space_is_left_before_a_mark(found: Path) -> None:
    assert cut(TASK, 0.9).count("city. Thank") == 1
    assert cut(TASK, definition=str(found)).endswith("born.")


def test_a_kept_span_in_the_definition_stays(found: Path) -> None:
    at = TASK.index("patient")
    made = stage("stdc", definition=str(found))(
        prompt_of(TASK, spans=((at + 1, at + 4),)), Context(count=COUNT)
    )
    assert "ati" in made.segments[0].text


def test_a_tighter_budget_goes_beyond_only_when_asked(found: Path) -> None:
    context = Context(count=COUNT)
    short = cut(TASK, definition=str(found))
    limit = context.tokens(prompt_of(short)) - 3
    prompt = prompt_of(TASK)
    keeps = stage("stdc", definition=str(found))
    goes = stage("stdc", definition=str(found), beyond=True)
    assert keeps(prompt, context.within(limit)).segments[0].text == short
    made = goes(prompt, context.within(limit))
    assert context.tokens(made) <= limit
    assert made.segments[0].text != short
    assert goes(prompt, context).segments[0].text == short


def test_beyond_goes_what_cost_least(tmp_path: Path) -> None:
    """Without the place the answers are half right, without the name wrong."""
    task = "Write the name. Mention the place. Thank you."

    def answer(request: Request) -> str:
        text = request.prompt.segments[0].text
        if "name" not in text:
            return "?"
        return "one two" if "place" in text else "one"

    rows = [{"input": str(i), "output": "one two"} for i in range(3)]
    learner = trainer("definition", definition=task, score="rouge_l", held=0)
    folder = str(learner.train(Training(rows=rows, out=tmp_path, backend=ScriptedBackend(answer))))
    whole = cut(task, definition=folder)
    assert "name" in whole
    assert "place" in whole
    context = Context(count=COUNT)
    prompt = prompt_of(task)
    tight = context.within(context.tokens(prompt_of(whole)) - 3)
    made = stage("stdc", definition=folder, beyond=True)(prompt, tight).segments[0].text
    assert "name" in made
    assert "place" not in made


def test_tolerance_and_share(tmp_path: Path) -> None:
    nothing = page(searched(tmp_path / "a", share=0.99), "stdc").figures
    everything = page(searched(tmp_path / "b", tolerance=1.0), "stdc").figures
    assert nothing["tokens_after"] > everything["tokens_after"] >= 1
    assert everything["tokens_after"] <= 3
    assert everything["searched_after"] == 0
    with pytest.raises(ConfigError, match="scores 0"):
        searched(tmp_path / "c", lambda request: "?")


def test_a_stopped_search_goes_on_and_asks_nothing_twice(found: Path, tmp_path: Path) -> None:
    asked: list[str] = []
    stops = [5, 30, 60]

    def answer(request: Request) -> str | Exception:
        if stops and len(asked) >= stops[0]:
            del stops[0]
            return BackendError("the line is dead")
        asked.append(json.dumps([s.text for s in request.prompt.segments]))
        return answering(request)

    for _ in range(3):
        with pytest.raises(BackendError):
            searched(tmp_path, answer, batch=2)
    again = searched(tmp_path, answer, batch=2)
    assert stops == []
    # a batch that failed was not answered as a whole: at most one of its questions comes again
    assert len(asked) - len(set(asked)) <= 3
    one, other = (Path(f, "model.safetensors").read_bytes() for f in (again, found))
    assert one == other


def test_unfinished_work_of_another_definition_is_not_mixed_in(tmp_path: Path) -> None:
    dead = ScriptedBackend([BackendError("dead")])
    with pytest.raises(BackendError):
        trainer("definition", definition=TASK).train(
            Training(rows=ROWS, out=tmp_path, backend=dead)
        )
    with pytest.raises(ConfigError, match="unfinished work"):
        searched(tmp_path, definition="Write the city.")


def test_a_definition_may_be_a_file(found: Path, tmp_path: Path) -> None:
    file = tmp_path / "task.txt"
    file.write_text(f"{TASK}\n")
    assert definition(str(searched(tmp_path / "out", definition=str(file)))).text == TASK
    with pytest.raises(ConfigError, match="nowhere"):
        searched(tmp_path / "no", definition=str(tmp_path / "nowhere.txt"))
    with pytest.raises(ConfigError, match="empty"):
        searched(tmp_path / "no", definition="  ")


def test_progress_tells_score_and_tokens(tmp_path: Path) -> None:
    seen: list[tuple[int, int, Mapping[str, float]]] = []
    work = Training(
        rows=ROWS,
        out=tmp_path,
        backend=ScriptedBackend(answering),
        progress=lambda *told: seen.append(told),
    )
    trainer("definition", definition=TASK).train(work)
    tokens = [figures["tokens"] for _, _, figures in seen]
    assert tokens == sorted(tokens, reverse=True)
    assert tokens[0] == COUNT(TASK) > tokens[-1]
    assert [done for done, _, _ in seen] == list(range(seen[0][1] + 1))


def test_a_changed_artefact_is_refused(found: Path, tmp_path: Path) -> None:
    told = json.loads((found / "tersely.json").read_text())
    told["settings"]["definition"] += " Please."
    (tmp_path / "tersely.json").write_text(json.dumps(told))
    (tmp_path / "model.safetensors").write_bytes((found / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="train it again"):
        cut(TASK, definition=str(tmp_path))
    with pytest.raises(ModelError, match="tersely train"):
        Pipeline([stage("stdc", definition=str(tmp_path / "none"))])
