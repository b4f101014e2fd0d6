"""What many rows of a batch job begin with: found, weighed, learned once, and used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_watch import forget
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import tersely
import tersely.soft_artefact as soft_artefact
from tersely.backends.local import LocalBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Completion, Request
from tersely.errors import ConfigError
from tersely.middleware import batch_heads
from tersely.middleware.batch import batch
from tersely.middleware.batch_heads import Beginning, Heads, beginning
from tersely.middleware.batch_sample import estimate
from tersely.middleware.batch_soft import headed
from tersely.middleware.batch_summary import BatchSummary
from tersely.middleware.batch_worth import Pace, SharedHead, told_of
from tersely.middleware.cli import app
from tersely.middleware.row_shapes import AnthropicBatch, Messages, OpenAIBatch, Part, Text
from tersely.prompt import Prompt, Segment, messages_of
from tersely.soft_artefact import SoftArtefact, text_hash
from tersely.weights import CausalLM

PLAIN = tersely.Pipeline("none")
RULES = "The quick brown fox jumps over the lazy dog, 12 times a day."
SHOTS = f"{RULES}\n\nEin Tag in Limmat: the fox is quick."
SMALL = {
    "tokens": 4,
    "steps": 2,
    "batch": 2,
    "every": 2,
    "answer_tokens": 3,
    "turns": 6,
    "held": 1,
}
"""As little as a text can be learned by."""


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lm: CausalLM) -> Iterator[Path]:
    monkeypatch.setattr(soft_artefact, "shelf", lambda: tmp_path / "shelf")
    yield tmp_path / "shelf"
    forget(lm)


def texts(*said: str) -> Part:
    return Text(("text",)).part({"text": [*said] if len(said) > 1 else said[0]})


def chat(asked: str, system: str = RULES) -> dict[str, Any]:
    said = [{"role": "system", "content": system}, {"role": "user", "content": asked}]
    return {"messages": said}


# what rows begin with


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (texts("a\n\nb"), ("user", "a\n\nb")),
        (texts("a", "b"), ("user", "a\n\nb")),
        (Messages().part(chat("b", "a")), ("system", "a")),
        (Messages().part({"system": "a", "messages": []}), ("system", "a")),
        (
            Messages().part(
                {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}]}
            ),
            ("user", "a\n\na"),
        ),
        (
            Messages().part({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            ("user", ""),
        ),
        (
            OpenAIBatch().part(
                {"url": "/v1/responses", "body": {"input": "b", "instructions": "a"}}
            ),
            ("system", "a"),
        ),
        (OpenAIBatch().part({"url": "/v1/responses", "body": {"input": "b"}}), ("user", "b")),
        (
            AnthropicBatch().part(
                {"params": {"system": [{"type": "text", "text": "a"}], "messages": []}}
            ),
            ("system", "a"),
        ),
        (Part(request=[{"role": "developer", "content": "a"}]), ("system", "a")),
        (Part(request=[]), ("user", "")),
    ],
)
def test_where_a_request_begins(part: Part, found: tuple[str, str]) -> None:
    assert beginning(part) == found


def counted(parts: list[Part], least: int = 5) -> list[tuple[Beginning, int]]:
    heads = Heads(least=least)
    for part in parts:
        heads.add(part)
    return heads.shared()


def test_shared_beginnings_are_counted() -> None:
    parts = [texts(f"{SHOTS}\n\nquestion {i}\n\nmore") for i in range(5)]
    parts += [Messages().part(chat(str(i))) for i in range(3)]
    parts += [texts(f"nothing in common {i}\n\nbut words") for i in range(9)]
    assert counted(parts) == [(Beginning("user", SHOTS), 5), (Beginning("system", RULES), 3)]


def test_of_nested_beginnings_that_counts_which_spares_most() -> None:
    many = [texts(f"{RULES}\n\nquestion {i}") for i in range(9)]
    few = [texts(f"{SHOTS}\n\nquestion {i}") for i in range(2)]
    assert counted(many + few) == [(Beginning("user", RULES), 11)]
    assert counted(few * 9 + many[:1]) == [(Beginning("user", SHOTS), 18)]


def test_a_text_that_nothing_follows_is_no_beginning() -> None:
    assert counted([texts(RULES)] * 3) == []
    assert counted([texts(f"{RULES}\n\n")] * 3) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_heads, "WINDOW", 50)
    heads = Heads(least=5)
    most = 0
    for i in range(3000):
        heads.add(texts(f"{RULES}\n\nquestion {i}") if i % 10 == 0 else texts(f"{i} {SHOTS}"))
        most = max(most, len(heads._seen))
    assert most < 500
    ((head, rows),) = heads.shared()
    assert head == Beginning("user", RULES)
    assert 240 <= rows <= 300


def test_what_there_is_no_room_for_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = Heads(least=5)
    heads._room = 10
    for i in range(3):
        heads.add(texts(f"{RULES}\n\nquestion {i}"))
    assert heads.shared() == []


PARAGRAPHS = st.lists(st.sampled_from(["aaaa", "bbbb", "c d", "e", ""]), min_size=1, max_size=4)


@settings(max_examples=60)
@given(st.lists(PARAGRAPHS, max_size=8))
def test_every_count_is_right(rows: list[list[str]]) -> None:
    said = ["\n\n".join(row) for row in rows]
    for head, count in counted([texts(one) for one in said], least=1):
        begun = [one for one in said if one.startswith(f"{head.text}\n\n")]
        assert len([one for one in begun if one[len(head.text) :].strip()]) == count > 1


# what it is worth


def test_when_it_pays() -> None:
    pace = Pace()
    assert 48 <= pace.rows_cold <= 70
    assert 296 <= pace.rows_cached(100) <= 500
    assert pace.rows_cached(16) > pace.rows_cached(256)
    heads = Heads(least=5)
    told: dict[int, str] = {}
    for i in range(500):
        heads.add(Messages().part(chat(str(i))))
        if i + 1 in (20, 100, 500):
            told[i + 1] = told_of(heads, "gpt-4o", answer=100)[0].pays
    assert told == {20: "never", 100: "anew", 500: "always"}


def test_what_it_costs_read_anew_and_from_a_cache() -> None:
    heads = Heads(least=5)
    for i in range(10):
        heads.add(Messages().part(chat(str(i), "long " * 2000)))
        heads.add(texts(f"{RULES}\n\nquestion {i}"))
    long, short = told_of(heads, "gpt-4o")
    assert long.rows == 10
    assert long.dollars_cold == pytest.approx(10 * long.tokens * 2.5 / 1e6)
    assert long.dollars_cached == pytest.approx(long.tokens * 2.5 / 1e6 * (1 + 9 * 0.5))
    assert short.dollars_cached == short.dollars_cold  # too short for a provider's cache
    assert long.sha256 == text_hash("long " * 2000)
    assert "10 rows begin with the same" in long.message


def test_the_pace_of_what_was_learned_here_counts(shelf: Path, backend: LocalBackend) -> None:
    learn(backend, shelf / "rules", seconds=10.0, read_seconds=1.0)
    pace = Pace.of(backend.model)
    saved = pace.train
    assert "on the shelf" in pace.source
    assert saved == pytest.approx(10.0 / (20 - 4))
    assert pace.read == pytest.approx(1 / 20)
    assert Pace.of("another") == Pace()


def learn(backend: LocalBackend, folder: Path, **told: Any) -> SoftArtefact:
    """An artefact of the rules, as if it had been learned."""
    from tersely.artefact import tokenizer_hash, weights_hash
    from tersely.soft_artefact import SoftAbout

    model = Path(backend.model)
    about = SoftAbout(
        form="kv",
        role="system",
        model=backend.model,
        model_sha256=weights_hash(model),
        tokenizer_sha256=tokenizer_hash(model),
        text_sha256=text_hash(RULES),
        **{"text_tokens": 20, "tokens": 4} | told,
    )
    layers = [(k[:, :4], v[:, :4]) for k, v in backend.prefix(RULES).layers]
    made = SoftArtefact(about, type(backend.prefix(RULES))(layers, model=backend.model), RULES)
    made.save(folder)
    return made


# where it stands


def test_a_beginning_becomes_a_part_of_its_own_and_nothing_else_changes() -> None:
    heads = [Beginning("user", SHOTS), Beginning("user", RULES), Beginning("system", RULES)]
    asked = (f"{SHOTS}\n\nWho?", f"{RULES}\n\nWho?", f"{RULES} Who?", "Who?", SHOTS)
    parts = [2, 2, 1, 1, 2]
    for text, count in zip(asked, parts, strict=True):
        prompt = Prompt((Segment(text=text, kind="question"),), turns=1)
        made = headed(prompt, heads)
        assert messages_of(made) == messages_of(prompt)
        assert len(made.segments) == count
    system = Prompt(
        (
            Segment(text=RULES[:9], role="system", path=(0,)),
            Segment(text=RULES[9:], role="system", path=(0,)),
            Segment(text="Who?", turn=1, path=(1,)),
        ),
        turns=2,
    )
    made = headed(system, heads)
    assert [one.text for one in made.segments] == [RULES, "Who?"]
    assert messages_of(made) == messages_of(system)
    assert headed(Prompt(()), heads) == Prompt(())


# the job


def run(folder: Path, rows: list[Any], who: Any, **more: Any) -> BatchSummary:
    source = folder / "in.jsonl"
    data = "".join(json.dumps(row) + "\n" for row in rows)
    if not source.exists() or source.read_text() != data:
        source.write_text(data)
    return batch(source, folder / "out.jsonl", pipeline=PLAIN, generate=who, **more)


def wishes(backend: Any, folder: Path, **more: Any) -> dict[str, Any]:
    soft = {"folder": folder / "soft", "least": 5, "rows": 4, "unfit": True, "settings": SMALL}
    return {"backend": backend, "max_tokens": 3, "soft": soft | more}


def test_what_pays_is_learned_once_and_used(tmp_path: Path, backend: LocalBackend) -> None:
    rows = [chat(f"How often is {i} there?") for i in range(6)]
    asked = [f"{SHOTS}\n\nWho is {i}?" for i in range(5)]
    rows += [{"messages": [{"role": "user", "content": one}]} for one in (*asked, "A day?")]
    summary = run(tmp_path, rows, wishes(backend, tmp_path), limit=4)
    assert (summary.answered, summary.softened, summary.failed) == (4, 4, 0)
    (made,) = (tmp_path / "soft").iterdir()
    system = SoftArtefact.load(made)
    assert (system.text, system.about.role, system.about.settings["tokens"]) == (RULES, "system", 4)
    before = (made / "tersely.json").stat().st_mtime_ns
    summary = run(tmp_path, rows, wishes(backend, tmp_path))
    assert (summary.answered, summary.softened) == (12, 11)
    assert (made / "tersely.json").stat().st_mtime_ns == before
    (user,) = {*(tmp_path / "soft").iterdir()} - {made}
    assert SoftArtefact.load(user).text == SHOTS
    assert SoftArtefact.load(user).about.role == "user"
    assert any("learned in" in note for note in summary.notes)
    assert "11 with a soft prompt" in summary.message
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    full = len(backend.encode(asking(RULES)))
    assert answers[0]["tersely_answer"]["prompt_tokens"] < full


def asking(system: str) -> Request:
    segments = (Segment(text=system, role="system"), Segment(text="How often is 0 there?", turn=1))
    return Request(prompt=Prompt(segments, turns=2), max_tokens=3)


def test_what_does_not_pay_is_told_and_left(tmp_path: Path, backend: LocalBackend) -> None:
    rows = [chat(str(i)) for i in range(5)]
    summary = run(tmp_path, rows, wishes(backend, tmp_path, rows=None))
    assert (summary.answered, summary.softened) == (5, 0)
    assert not (tmp_path / "soft").exists()
    (note,) = summary.notes
    assert "5 rows begin with the same" in note
    assert "does not pay" in note


def test_what_lies_on_the_shelf_is_found_by_its_text(
    tmp_path: Path, backend: LocalBackend, shelf: Path
) -> None:
    learn(backend, shelf / "rules")
    summary = run(tmp_path, [chat("A day?")] * 3, wishes(backend, tmp_path, rows=99))
    assert summary.softened == 3
    assert "learned in" in summary.notes[0]


def test_what_can_not_be_learned_is_told_and_the_rows_are_answered(
    tmp_path: Path, backend: LocalBackend
) -> None:
    rows = [chat("A day?", f"{RULES} " * 5)] * 4
    few = {"settings": {**SMALL, "tokens": 9999}}
    summary = run(tmp_path, rows, wishes(backend, tmp_path, **few))
    assert (summary.rows, summary.softened) == (4, 0)
    assert "can't be learned" in summary.notes[0]
    with pytest.raises(ConfigError, match="nonsense"):
        wrong = wishes(backend, tmp_path, settings={"nonsense": 1})
        run(tmp_path, rows, wrong, resume=False)


def test_what_is_not_faithful_is_not_used(
    tmp_path: Path, backend: LocalBackend, shelf: Path
) -> None:
    learn(backend, shelf / "rules")
    summary = run(tmp_path, [chat("A day?")] * 3, wishes(backend, tmp_path, unfit=False))
    assert (summary.answered, summary.softened) == (3, 0)
    assert "not faithful enough" in summary.notes[0]


def test_a_backend_that_takes_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes no soft input"):
        run(tmp_path, [chat("a")], wishes(ScriptedBackend(["a"]), tmp_path))
    with pytest.raises(ConfigError, match="soft"):
        run(tmp_path, [chat("a")], wishes(ScriptedBackend(["a"]), tmp_path, rows=0))


def test_reports_and_estimates_tell_of_it(tmp_path: Path) -> None:
    rows = [chat(f"question {i}", RULES * 20) for i in range(9)]
    who = ScriptedBackend([Completion(text="a")] * 9)
    pages = [tmp_path / "report.json", tmp_path / "report.html"]
    run(tmp_path, rows, who, report=pages)
    (told,) = json.loads(pages[0].read_text())["heads"]
    assert (told["rows"], told["role"], told["pays"]) == (9, "system", "never")
    assert SharedHead.model_validate({k: v for k, v in told.items() if k != "pays"}).rows == 9
    assert "What rows begin with" in pages[1].read_text()
    said = estimate(tmp_path / "in.jsonl", tmp_path / "other.jsonl", pipeline=PLAIN)
    assert [one.rows for one in said.heads] == [9]
    assert "9 rows begin with the same" in said.message


def test_by_command(tmp_path: Path, backend: LocalBackend, shelf: Path) -> None:
    learn(backend, shelf / "rules")
    (tmp_path / "in.jsonl").write_text((json.dumps(chat("A day?", RULES)) + "\n") * 2)
    call = ["batch", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl")]
    call += ["--stage", "none", "--max-tokens", "3", "--soft", str(tmp_path / "soft")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 1
    assert "--generate" in done.stderr
    done = CliRunner().invoke(app, [*call, "--generate", backend.model])
    assert done.exit_code == 0, done.stderr
    assert "2 answers" in done.stderr
