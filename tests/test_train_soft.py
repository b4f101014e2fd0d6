"""A text is learned as vectors: from its own turns or yours, the same however often stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.compressors import soft_course, soft_distil, soft_fidelity, soft_turns
from tersely.compressors.soft_reading import Rendering, begun, length, logits, spoken
from tersely.compressors.soft_start import chunks, keys_and_values, turned, vectors
from tersely.errors import ConfigError
from tersely.registry import trainer
from tersely.soft import KVPrefix, SoftPrompt
from tersely.soft_artefact import SoftArtefact
from tersely.training import Fit, Training, silent
from tersely.weights import CausalLM, causal_lm

TEXT = "The quick brown fox jumps over the lazy dog. It jumps 12 times a day. Ein Tag in Limmat."
ROWS = [{"question": f"How often is {name} there?"} for name in ("fox", "dog", "day", "Tag", "12")]
SMALL = {"tokens": 6, "steps": 6, "batch": 2, "every": 2, "answer_tokens": 4, "turns": 8, "held": 2}


@pytest.fixture(scope="session")
def exact(tiny_llama: Path) -> CausalLM:
    return causal_lm(str(tiny_llama), precision="float32")


def trained(model: Path, out: Path, progress: Any = silent, **given: Any) -> SoftArtefact:
    rows = given.pop("rows", ROWS)
    made = trainer("soft", text=given.pop("text", TEXT), model=str(model), **SMALL | given)
    return SoftArtefact.load(made.train(Training(rows=rows, out=out, progress=progress)))


# reading


def test_the_text_stands_where_the_template_puts_it(exact: CausalLM) -> None:
    system, user = Rendering(exact, "system"), Rendering(exact, "user")
    whole = exact.tokenizer.decode(system.head("Be kind.") + system.rest("Hello?"))
    assert whole == "<|system|>Be kind.<|end|><|user|>Hello?<|end|><|assistant|>"
    whole = exact.tokenizer.decode(user.head("Be kind.") + user.rest("Hello?"))
    assert whole == "<|user|>Be kind.\n\nHello?<|end|><|assistant|>"
    assert exact.tokenizer.decode(user.before) == "<|user|>"


def test_rows_that_go_on_from_a_beginning_are_read_as_a_whole(exact: CausalLM) -> None:
    import torch

    head = exact.tokenizer.encode("The quick brown fox")
    rows = [exact.tokenizer.encode(one) for one in (" jumps over", " is a lazy dog, 12 times")]
    with torch.no_grad():
        start = begun(exact, head)
        for row, found in zip(rows, logits(exact, start, rows), strict=True):
            whole = exact.model(torch.tensor([[*head, *row]])).logits[0, len(head) :]
            torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


def test_many_answers_side_by_side_are_those_of_each_alone(exact: CausalLM) -> None:
    import torch

    rendering = Rendering(exact, "system")
    with torch.no_grad():
        start = begun(exact, rendering.head(TEXT))
    rests = [rendering.rest(str(row["question"])) for row in ROWS]
    together = list(spoken(exact, start, rests, most=6))
    assert together == [next(spoken(exact, start, [rest], most=6)) for rest in rests]
    warm = [list(spoken(exact, start, rests, most=6, temperature=1.0, seed=s)) for s in (1, 1, 2)]
    assert warm[0] == warm[1] != warm[2]


# where it starts


@given(count=st.integers(1, 40), more=st.integers(1, 300))
def test_chunks_are_all_of_the_text_in_order(count: int, more: int) -> None:
    parts = chunks(count, count + more)
    assert len(parts) == count and all(parts)
    assert [place for part in parts for place in part] == list(range(count + more))


def test_keys_are_turned_and_turned_back(exact: CausalLM) -> None:
    import torch

    with torch.no_grad():
        keys, _ = begun(exact, exact.tokenizer.encode(TEXT))[0]
        back = turned(exact, keys, torch.arange(keys.shape[2]), back=True)
        again = turned(exact, back, torch.arange(keys.shape[2]))
        shifted = turned(exact, keys, torch.full((keys.shape[2],), 3))
        later = turned(exact, back, torch.arange(keys.shape[2]) + 3)
    torch.testing.assert_close(again, keys, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shifted, later, rtol=1e-4, atol=1e-4)


def test_a_start_that_matches_attention_is_nearest(smollm2: Path) -> None:
    import torch

    lm = causal_lm("smollm2")
    rendering = Rendering(lm, "system")
    rows = [rendering.rest(q) for q in ("Is it blue?", "What does it hold?", "Who made it?")]
    kettle = "The kettle is blue. It holds 1.7 litres. It was made by Mrs Meier in Bern. " * 3
    with torch.no_grad():
        full = begun(lm, rendering.head(kettle))
        lessons = list(soft_distil.taught(lm, full, rows, kept=64, batch=3))
        far = {}
        for how in ("matched", "averaged", "first"):
            parts = keys_and_values(lm, full, 8, how, rows)  # type: ignore[arg-type]
            assert {part.shape[2] for part in parts} == {8}
            far[how] = soft_distil.Student.new(lm, parts).far([lessons])
    assert far["matched"] < min(far["averaged"], far["first"])


def test_vectors_start_from_the_tokens_that_are_looked_at(exact: CausalLM) -> None:
    import torch

    rendering = Rendering(exact, "system")
    ids = exact.tokenizer.encode(TEXT)
    with torch.no_grad():
        full = begun(exact, rendering.head(TEXT))
        made = vectors(exact, ids, full, 5, "matched", [rendering.rest("fox?")])
        table = exact.model.get_input_embeddings().weight
    own = [int((table == one).all(1).nonzero()[0]) for one in made]
    places = iter(ids)
    assert all(one in places for one in own), "tokens of the text, in its order"
    assert vectors(exact, ids, full, 5, "first", []).equal(table[ids[:5]])
    assert vectors(exact, ids, full, 5, "averaged", []).shape == made.shape


# turns


def test_turns_are_made_from_the_text(exact: CausalLM) -> None:
    rendering = Rendering(exact, "system")
    made = soft_turns.self_study(rendering, TEXT, 9, seed=1)
    assert made == soft_turns.self_study(rendering, TEXT, 9, seed=1)
    assert len({*made}) == len(made) == 9
    assert any("It jumps 12 times a day." in turn for turn in made)


@pytest.mark.parametrize(
    ("said", "turn"),
    [
        ('Question: "Is it blue, then?"\nAnswer: Yes.', "Is it blue, then?"),
        ("Here is a question:\n\n1) What does it hold?", "What does it hold?"),
        ("\n\n", ""),
        ("Yes.", ""),
        ("word " * 99, ""),
    ],
)
def test_what_of_an_answer_is_a_turn(said: str, turn: str) -> None:
    assert soft_turns.usable(said) == turn


@given(st.text(max_size=400))
def test_pieces_hold_all_words(text: str) -> None:
    assert "".join("".join(soft_turns.pieces(text)).split()) == "".join(text.split())


# training


@pytest.mark.parametrize("form", ["kv", "embeds"])
def test_it_comes_nearer_and_tells_all(tiny_llama: Path, tmp_path: Path, form: str) -> None:
    made = trained(tiny_llama, tmp_path, form=form, steps=20, rate=0.05)
    about, kind = made.about, KVPrefix if form == "kv" else SoftPrompt
    assert isinstance(made.soft, kind) and len(made.soft) == about.tokens == 6
    assert about.text_tokens > 6 and about.steps and about.seconds > 0 < about.read_seconds
    fidelity = about.fidelity
    assert fidelity and fidelity.turns == 1 and fidelity.positions <= 4
    assert fidelity.asked == 2 and fidelity.baselines["truncated"].tokens == 6
    made.check(str(tiny_llama))
    assert not (tmp_path / "checkpoint").exists()


def test_stopped_work_ends_as_if_it_had_not_been(tiny_llama: Path, tmp_path: Path) -> None:
    whole = trained(tiny_llama, tmp_path / "whole")

    def stopping(at: int, total: int) -> Any:
        def progress(done: int, of: int, figures: Mapping[str, float]) -> None:
            if (done, of) == (at, total):
                raise KeyboardInterrupt

        return progress

    for at in ((2, 6), (3, 6), (5, 6)):
        with pytest.raises(KeyboardInterrupt):
            trained(tiny_llama, tmp_path / "parts", stopping(*at))
    parts = trained(tiny_llama, tmp_path / "parts")
    assert parts.soft == whole.soft
    assert parts.about.fidelity == whole.about.fidelity


def test_without_rows_the_model_makes_all_turns(tiny_llama: Path, tmp_path: Path) -> None:
    made = trained(tiny_llama, tmp_path, rows=[], role="user", start="averaged")
    assert made.about.rows == 8 and made.about.role == "user"


def test_given_answers_are_taken(exact: CausalLM, tiny_llama: Path, tmp_path: Path) -> None:
    rows = [row | {"answer": "12 times a day"} for row in ROWS]
    made = trained(tiny_llama, tmp_path, rows=rows, turns=5, answer_tokens=3)
    assert made.about.fidelity and made.about.fidelity.positions == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"text": " "}, "no text to learn"),
        ({"rows": [], "turns": 2}, "training takes at least 4 turns, were 2"),
        ({"tokens": 99}, "99 are not fewer"),
        ({"facts": ("13 times",)}, "'13 times' does not stand in the text"),
        ({"text": TEXT * 9}, "a prompt of .* tokens, and the model reads 256"),
        ({"rows": [{"question": "x " * 300}] * 4}, "leaves .* for a turn, and this one has"),
        ({"rows": [{"question": ""}]}, "row 1: question"),
    ],
)
def test_what_can_not_be_learned(
    tiny_llama: Path, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        trained(tiny_llama, tmp_path, **given)


def test_a_model_with_a_window_is_refused(tiny_windowed: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a window or a state of its own"):
        trained(tiny_windowed, tmp_path)


# what is held out


@given(count=st.integers(4, 60), given_=st.integers(0, 60), held=st.integers(1, 20))
def test_turns_are_parted(count: int, given_: int, held: int) -> None:
    given_ = min(given_, count)
    turns = [soft_fidelity.Turn((i,), (0,)) for i in range(count)]
    learned, watched, last = soft_course.parted(turns, given_, held, seed=3)
    assert sorted(one.rest[0] for part in (learned, watched, last) for one in part) == [
        *range(count)
    ]
    assert len(watched) == len(last) <= held and len(learned) >= count / 2
    if given_ >= soft_course.FEWEST:
        assert all(one.rest[0] < given_ for one in (*watched, *last)), "the user's"


def test_facts_are_asked_for_behind_what_leads_to_them(exact: CausalLM) -> None:
    rendering = Rendering(exact, "system")
    (cloze,) = soft_fidelity.clozes_of(rendering, TEXT, ["12 times"])
    row, fact = cloze.row[: -cloze.size], cloze.row[-cloze.size :]
    assert "12 times" in exact.tokenizer.decode(fact)
    assert exact.tokenizer.decode(row).rstrip().endswith("over the lazy dog. It jumps")
    found = [one.fact for one in soft_fidelity.clozes_of(rendering, TEXT, [])]
    assert "12" in found and "Limmat" in found


def test_the_full_text_is_nearest_to_itself(exact: CausalLM) -> None:
    import torch

    rendering = Rendering(exact, "system")
    with torch.no_grad():
        full, cut = begun(exact, rendering.head(TEXT)), begun(exact, rendering.head("The"))
    rests = [tuple(rendering.rest(str(row["question"]))) for row in ROWS]
    turns = [soft_fidelity.Turn(r, tuple(next(spoken(exact, full, [r], most=3)))) for r in rests]
    clozes = soft_fidelity.clozes_of(rendering, TEXT, [])
    found = soft_fidelity.figures(
        rendering, {"full": full, "same": full, "cut": cut}, turns, clozes, batch=2, seed=1
    )
    assert {*found} == {"same", "cut"}
    same, other = found["same"], found["cut"]
    assert abs(same.kl.mean) < 1e-6 and same.agreement.mean == 1 and not same.lost
    assert other.kl.low <= other.kl.mean <= other.kl.high and other.kl.mean > 0.01
    assert (same.tokens, other.tokens) == (length(full), length(cut))


# the loop


def fitted(held: Any = None, **options: Any) -> tuple[float, list[float], list[float]]:
    """A number that goes from 0 to 3; where it ended, the losses, and what was told of the held."""
    import torch

    module = torch.nn.ParameterDict({"x": torch.nn.Parameter(torch.zeros(1))})
    told: list[float] = []
    losses = Fit(
        module=module,
        loss=lambda step: (module["x"] - 3).square().sum(),
        held=None if held is None else lambda: held(module["x"].item()),
        progress=lambda done, total, figures: told.append(figures.get("held", 0)),
        **options,
    ).run()
    return module["x"].item(), losses, told


def test_the_best_state_is_kept_and_no_more_is_done() -> None:
    settings = {"steps": 100, "rate": 0.25, "every": 1, "patience": 3}
    number, losses, told = fitted(lambda x: abs(x - 1), **settings)
    assert len(losses) == len(told) == 7, "three steps beyond the best"
    assert number == pytest.approx(1, abs=0.15)
    assert min(told) == pytest.approx(abs(number - 1))


def test_what_was_best_before_training_stays() -> None:
    assert fitted(lambda x: x, steps=4, every=2)[0] == 0


def test_the_rate_follows_the_schedule() -> None:
    ends = [fitted(steps=1, rate=0.1, schedule=lambda step, h=h: h)[0] for h in (1.0, 0.5)]
    assert ends == pytest.approx([0.1, 0.05], rel=1e-3)
