"""Whole demonstrations, as many as the question needs; and learning how many that is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.artefact import page
from tersely.backends.scripted import ScriptedBackend
from tersely.compressors.controller import controller
from tersely.contracts import Context, Request
from tersely.errors import BackendError, ConfigError, ModelError
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt, Segment
from tersely.registry import stage, trainer
from tersely.tokens import counter
from tersely.training import Training

ANIMALS = ("otter", "heron", "lynx", "vole", "adder", "finch", "shrew", "perch", "marten")
SHOTS = [
    f"Q: Where does the {a} live?\nA: The {a} lives in place {i}." for i, a in enumerate(ANIMALS)
]
COUNT = counter("gpt-4o")
LADDER = (0, 1, 2, 4, 8)


def prompt_of(shots: Sequence[str], question: str, **more: Any) -> Prompt:
    return Prompt(
        (
            Segment(text="\n\n".join(shots), kind="example", path=(0,), **more),
            Segment(text=question, kind="question", locked=True, path=(1,)),
        ),
        question=question,
    )


def kept(made: Prompt) -> list[str]:
    return made.segments[0].text.split("\n\n")


def limited(prompt: Prompt, shots: int) -> Context:
    """Room for so many of the demonstrations."""
    context = Context(count=COUNT)
    return context.within(context.tokens(prompt_of(SHOTS[:shots], prompt.question)) + 1)


@pytest.mark.parametrize(("choose", "wanted"), [("first", [0, 1, 2]), ("lexical", [4, 5, 8])])
def test_whole_demonstrations_fill_the_budget_in_their_order(
    choose: str, wanted: list[int]
) -> None:
    prompt = prompt_of(SHOTS, "What of the marten, the finch and the adder?")
    made = stage("dynaicl", choose=choose)(prompt, limited(prompt, 3))
    assert kept(made) == [SHOTS[i] for i in wanted]


@pytest.mark.model
def test_the_nearest_by_the_encoder_are_kept() -> None:
    shots = [
        *SHOTS[:3],
        "Q: What is 7 times 8?\nA: 56.",
        *SHOTS[3:6],
        "Q: What is 5 plus 6?\nA: 11.",
    ]
    prompt = prompt_of(shots, "How much is nine multiplied by three?")
    made = stage("dynaicl", most=2)(prompt, Context(count=COUNT))
    assert kept(made) == [shots[3], shots[7]]


WORDS = st.sampled_from(["one", "two,", "three\nfour", "5", "naïve", "東京", "🎉"])


@given(
    texts=st.lists(st.lists(WORDS, min_size=1).map(" ".join), min_size=1, max_size=8),
    ratio=st.floats(0.05, 0.95),
    most=st.none() | st.integers(0, 4),
)
def test_no_demonstration_is_cut_and_no_budget_missed(
    texts: list[str], ratio: float, most: int | None
) -> None:
    prompt = prompt_of(texts, "Which two are naïve?")
    context = Context(count=COUNT)
    least = context.tokens(prompt_of(["…"], prompt.question))
    context = context.within(max(int(context.tokens(prompt) * ratio), least))
    made = stage("dynaicl", choose="lexical", most=most)(prompt, context)
    assert context.tokens(made) <= (context.limit or 0) or made == prompt
    left = iter(texts)
    parts = kept(made)
    assert parts == ["…"] or all(part in left for part in parts)
    if most is not None and made != prompt and parts != ["…"]:
        assert len(parts) <= max(most, 1)


def test_a_number_of_its_own_holds_without_a_budget_and_below_one() -> None:
    prompt = prompt_of(SHOTS, "What of the heron and the vole?")
    three = stage("dynaicl", choose="lexical", most=2)
    assert kept(three(prompt, Context(count=COUNT))) == [SHOTS[1], SHOTS[3]]
    assert kept(three(prompt, limited(prompt, 5))) == [SHOTS[1], SHOTS[3]]
    assert kept(three(prompt, limited(prompt, 1))) == [SHOTS[1]]


def test_what_is_marked_keeps_its_demonstration() -> None:
    at = len("\n\n".join(SHOTS[:7])) + 10
    prompt = prompt_of(SHOTS, "What of the heron?", spans=((at, at + 4),))
    made = stage("dynaicl", choose="lexical", most=2)(prompt, Context(count=COUNT))
    assert kept(made) == [SHOTS[1], SHOTS[7]]


def test_a_code_block_belongs_to_its_demonstration() -> None:
    code = "Q: Sort it.\n```python\nx = sorted(x)\n\nprint(x)\n```"
    prompt = prompt_of([*SHOTS[:2], code], "How do I sort it?")
    made = stage("dynaicl", choose="lexical", most=1)(prompt, Context(count=COUNT))
    assert made.segments[0].text == code


def test_in_a_pipeline() -> None:
    pipeline = Pipeline([stage("dynaicl", choose="lexical")], budget=0.4, model="gpt-4o")
    result = pipeline.run("\n\n".join(SHOTS), question="What of the lynx?")
    assert result.report.met
    assert set(result.output.split("\n\n")) < set(SHOTS)
    assert SHOTS[2] in result.output


# --- learning -------------------------------------------------------------------------------


def needs(question: str) -> int:
    """The truth to be found: long questions need 4 demonstrations, short ones none."""
    return 4 if len(question) > 60 else 0


def answering(request: Request) -> str:
    text = request.prompt.text
    shown = len(re.findall("A: The", text))
    return "It is the otter." if shown >= needs(request.prompt.question) else "I don't know."


def rows(many: int = 24) -> list[dict[str, Any]]:
    long = "and tell us what you know about how it came to be there in the first place, please"
    made = []
    for i in range(many):
        question = f"Who is number {i % 7}{' ' + long if i % 2 else ''}?"
        made.append(
            {"question": question + " " * (i // 14), "answer": "otter", "demonstrations": SHOTS}
        )
    return made


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sentence encoder of random weights."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-encoder")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        SHOTS, vocab_size=300, special_tokens=["<pad>"], show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, pad_token="<pad>", model_max_length=64
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


def learner(encoder: str, **settings: Any) -> Any:
    return trainer("shots", encoder=encoder, choose="first", steps=120, held=0.25, **settings)


@pytest.fixture(scope="module")
def taught(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("taught")
    backend = ScriptedBackend(answering)
    return Path(learner(tiny_encoder).train(Training(rows=rows(), out=out, backend=backend)))


def test_the_controller_learns_what_the_backend_needs(taught: Path) -> None:
    made = controller(str(taught))
    asked = [
        "Who is number 9?",
        "Who is number 9 " + "of those that were told of before " * 3 + "?",
    ]
    assert made.counts(asked, 0.5) == [0, 4]
    about = page(taught, "dynaicl")
    assert about.rows == 24
    assert about.figures["accuracy"] == 1
    assert about.figures["accuracy_always_same"] < 1
    assert about.figures["score"] == about.figures["score_all"] == 1
    assert 0 < about.figures["shots"] < 4
    assert sorted(path.name for path in taught.iterdir()) == ["model.safetensors", "tersely.json"]


def test_the_stage_keeps_as_many_as_the_controller_says(taught: Path) -> None:
    told = stage("dynaicl", controller=str(taught), choose="first")
    short = prompt_of(SHOTS, "Who is number 8?")
    long = prompt_of(SHOTS, "Who is number 8 " + "of those that were told of before " * 3 + "?")
    context = Context(count=COUNT)
    assert kept(told(short, context)) == ["…"]
    assert kept(told(long, context)) == SHOTS[:4]
    assert kept(told(long, limited(long, 6))) == SHOTS[:4]
    assert kept(told(long, limited(long, 2))) == SHOTS[:2]
    assert told(long, limited(long, 9)) == long
    assert told(told(long, context), context) == told(long, context)


def test_who_wants_to_be_surer_gets_no_fewer(taught: Path) -> None:
    made = controller(str(taught))
    asked = [row["question"] for row in rows()]
    counts = [made.counts(asked, sure) for sure in (0.01, 0.5, 0.999999)]
    assert all(a <= b <= c for a, b, c in zip(*counts, strict=True))
    assert counts[0] != counts[2]


class Stops(Exception):
    """Stands for whatever stops a run."""


def test_a_stopped_run_goes_on_and_asks_nothing_twice(
    tiny_encoder: str, taught: Path, tmp_path: Path
) -> None:
    asked: list[str] = []
    stops = [7, 30]

    def answer(request: Request) -> str | Exception:
        if stops and len(asked) >= stops[0]:
            del stops[0]
            return BackendError("the line is dead")
        asked.append(request.prompt.text)
        return answering(request)

    training = Training(rows=rows(), out=tmp_path, backend=ScriptedBackend(answer))
    for _ in range(2):
        with pytest.raises(BackendError):
            learner(tiny_encoder, batch=1).train(training)
    assert stops == []

    def stop(done: int, total: int, figures: Mapping[str, float]) -> None:
        if "loss" in figures and done > total - 40:
            raise Stops

    with pytest.raises(Stops):
        learner(tiny_encoder, batch=1).train(
            Training(rows=rows(), out=tmp_path, backend=training.backend, progress=stop)
        )
    before = len(asked)
    folder = learner(tiny_encoder, batch=1).train(training)
    assert len(set(asked)) == len(asked)
    assert len(asked) - before <= 6  # only the held-out figures were left
    assert controller(str(folder)).counts([row["question"] for row in rows()], 0.5) == [
        needs(row["question"]) for row in rows()
    ]
    one, other = (Path(f, "model.safetensors").read_bytes() for f in (folder, taught))
    assert one == other


def test_a_torn_line_of_answers_is_asked_again(tmp_path: Path) -> None:
    from tersely.compressors.asking import Answers

    file = tmp_path / "answers.jsonl"
    backend = ScriptedBackend(lambda request: request.prompt.text.upper())
    requests = [Request(prompt=Prompt((Segment(text=text),))) for text in ("a\u2028", "b", "c")]
    assert Answers(backend, file, 2).to(requests[:2]) == ["A\u2028", "B"]
    file.write_text(file.read_text()[:-4])
    assert Answers(backend, file, 2).to(requests) == ["A\u2028", "B", "C"]
    assert Answers(ScriptedBackend([]), file, 2).to(requests) == ["A\u2028", "B", "C"]


def test_progress_climbs_to_its_end(tiny_encoder: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    work = Training(
        rows=rows(8),
        out=tmp_path,
        backend=ScriptedBackend(answering),
        progress=lambda done, total, figures: seen.append((done, total)),
    )
    learner(tiny_encoder).train(work)
    assert {total for _, total in seen} == {8 * len(LADDER) + 120}
    done = [at for at, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][1]


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("row 2: demonstrations", {1: {"question": "q", "answer": "a", "demonstrations": "x"}}),
        ("row 1: question", {0: {"answer": "a", "demonstrations": []}}),
    ],
)
def test_a_bad_row_is_named(
    said: str, change: dict[int, Any], tiny_encoder: str, tmp_path: Path
) -> None:
    data = [change.get(i, row) for i, row in enumerate(rows(4))]
    with pytest.raises(ConfigError, match=said):
        learner(tiny_encoder).train(
            Training(rows=data, out=tmp_path, backend=ScriptedBackend(answering))
        )


def test_what_cannot_be_learnt_is_told(tiny_encoder: str, tmp_path: Path) -> None:
    mute = ScriptedBackend(lambda request: "no idea")
    with pytest.raises(ConfigError, match="right on none"):
        learner(tiny_encoder).train(Training(rows=rows(4), out=tmp_path / "a", backend=mute))
    with pytest.raises(ConfigError, match="needs a backend"):
        learner(tiny_encoder).train(Training(rows=rows(4), out=tmp_path / "b"))
    with pytest.raises(ConfigError, match="2 rows or more"):
        learner(tiny_encoder).train(Training(rows=rows(1), out=tmp_path / "c", backend=mute))
    with pytest.raises(ConfigError, match="other settings"):
        learner(tiny_encoder, hidden=3).train(
            Training(rows=rows(4), out=tmp_path / "a", backend=mute)
        )


@pytest.mark.parametrize("ladder", [(0,), (1, 1), (2, 1), (-1, 2)])
def test_a_ladder_climbs(ladder: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"shots.*ladder"):
        trainer("shots", ladder=ladder)


def test_a_controller_that_is_none_is_told_when_the_pipeline_is_built(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tersely train"):
        Pipeline([stage("dynaicl", controller=str(tmp_path), choose="first")])
