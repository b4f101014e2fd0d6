"""What the llama.cpp backend is made of, without llama.cpp; with it, see `make engines`."""

from __future__ import annotations

import asyncio
import gc
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from backend_contract import asked, one
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_double import Double, playing, vector
from llamacpp_promises import LONG, POINTS, LlamaCppPromises, but, calls, soft

from tersely import registry
from tersely.backends import chat, choice, cpus, decode
from tersely.backends.decode import Answer
from tersely.backends.detokenize import Detokenizer, StopStrings
from tersely.backends.ledger import Ledger
from tersely.backends.llamacpp import LlamaCppBackend
from tersely.backends.llamacpp_batch import LlamaBatch
from tersely.backends.llamacpp_context import runs
from tersely.backends.llamacpp_weights import file_of, library
from tersely.backends.read import beginnings
from tersely.backends.ticket import Limits
from tersely.contracts import Request
from tersely.errors import BackendError, ConfigError, MissingExtra, ModelError
from tersely.prompt import Prompt, Segment

ASKED = Request(prompt=Prompt((Segment(text="Hello"),)), max_tokens=5)

# --- what is needed --------------------------------------------------------------------------


def test_without_the_package_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tersely.errors.find_spec", lambda package: None)
    library.cache_clear()
    backend = registry.backend("llamacpp")
    with pytest.raises(MissingExtra, match=r"llama_cpp .* pip install 'tersely\[llamacpp\]'"):
        backend.complete([ASKED])
    with pytest.raises(MissingExtra):
        next(iter(backend.stream(ASKED)))


def test_a_package_that_was_compiled_for_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise RuntimeError('no libllama.so')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "llama_cpp", raising=False)
    library.cache_clear()
    with pytest.raises(BackendError, match=r"can't be loaded: no libllama\.so"):
        LlamaCppBackend().complete([ASKED])


@pytest.mark.parametrize("wrong", [{"batch_size": 65}, {"threads": 0}, {"gpu_layers": -2}])
def test_settings_that_cant_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        registry.backend("llamacpp", **wrong)


def test_closing_what_was_never_opened_does_nothing() -> None:
    LlamaCppBackend(model="never").close()


def test_the_file_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="tersely models pull smollm2-gguf"):
        file_of("smollm2")
    folder = tmp_path / "models" / "smollm2-gguf"
    folder.mkdir(parents=True)
    with pytest.raises(ModelError, match="a folder with 0 of them"):
        file_of("smollm2")
    one = folder / "one.gguf"
    one.write_bytes(b"GGUF")
    assert file_of("smollm2") == file_of("smollm2-gguf") == one
    assert file_of(str(folder)) == file_of(str(one)) == one
    (folder / "two.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="a folder with 2 of them"):
        file_of(str(folder))
    for name in ("nothing.gguf", "minilm/none"):
        with pytest.raises(ModelError, match="is to be one GGUF file and is no file"):
            file_of(name)


# --- threads ---------------------------------------------------------------------------------


def test_threads_are_the_cores_that_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(cpus, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert cpus.threads() == 6
    quota = tmp_path / "cpu.max"
    for said, expected in [("max 100000", 6), ("250000 100000", 2), ("50000 100000", 1)]:
        quota.write_text(said)
        assert cpus.threads() == expected
    quota.unlink()
    for wished, expected in [("3", 3), ("0", 1), ("4,2", 6), ("99", 6)]:
        monkeypatch.setenv("OMP_NUM_THREADS", wished)
        assert cpus.threads() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert LlamaCppBackend().threads == cpus.threads() == 1


# --- chat templates --------------------------------------------------------------------------

TEMPLATES = [
    "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{{ bos_token }}{% for m in messages %}\n  {% if m.role == 'tool' %}{% continue %}{% endif %}\n"
    "[{{ m.role | upper }}] {{ m.content | trim }}{{ eos_token }}\n{% endfor %}",
    "{{ messages | tojson }}{% if add_generation_prompt %}{{ eos_token }}{% endif %}",
]

TALKS = [
    [("user", "Hello <b>é</b>")],
    [("system", "Be brief."), ("user", " x "), ("assistant", "The sea")],
    [("user", "Say The sea"), ("assistant", " The sea \n")],
]


@pytest.mark.parametrize("template", [*TEMPLATES, None], ids=["plain", "loops", "json", "smollm2"])
@pytest.mark.parametrize("talk", TALKS, ids=["asked", "begun", "spaced"])
def test_a_template_says_what_it_says_to_transformers(
    template: str | None, talk: list[tuple[str, str]], smollm2: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokenizer.chat_template = template or tokenizer.chat_template
    messages = [{"role": role, "content": text} for role, text in talk]
    goes_on = talk[-1][0] == "assistant" and template != TEMPLATES[2]
    expected = tokenizer.apply_chat_template(
        messages,
        add_generation_prompt=not goes_on,
        continue_final_message=goes_on,
        tokenize=False,
    )
    names = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    assert chat.filled(tokenizer.chat_template, messages, goes_on=goes_on, **names) == expected


@pytest.mark.parametrize(
    ("template", "fault"),
    [("{{ raise_exception('no') }}", "no"), ("only this", "leaves the begun answer out")],
)
def test_a_template_refuses(template: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        chat.filled(template, [{"role": "assistant", "content": "The sea"}], goes_on=True)


def test_a_template_can_do_no_harm_and_knows_the_date() -> None:
    with pytest.raises(Exception, match="unsafe"):
        chat.filled("{{ messages.__class__.__mro__ }}", [{"content": ""}], goes_on=False)
    assert len(chat.filled("{{ strftime_now('%Y') }}", [{"content": ""}], goes_on=False)) == 4


# --- choosing --------------------------------------------------------------------------------

scores = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=40)
requests = st.builds(
    Request,
    prompt=st.just(ASKED.prompt),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 4.0]),
    top_p=st.sampled_from([1.0, 0.9, 0.4, 0.01]),
    seed=st.integers(0, 99),
    logprobs=st.booleans(),
    alternatives=st.integers(0, 3),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
)


class Only:
    """A guide that lets some tokens pass; its mask may be longer than the scores."""

    def __init__(self, may: list[bool]) -> None:
        self.may = np.array(may)

    def bend(self, values: Any) -> Any:
        import torch

        return values.masked_fill(~torch.from_numpy(self.may)[: len(values)], -torch.inf)


def answer(request: Request, seen: set[int], guide: Any) -> Answer:
    made = Answer([], request, Detokenizer(str), StopStrings(), Random(request.seed), str)
    made.seen, made.guide = seen, guide
    return made


@given(rows=st.lists(st.tuples(scores, requests), min_size=1, max_size=3), data=st.data())
@settings(max_examples=40)
def test_numpy_chooses_as_torch_does(rows: list[tuple[list[float], Request]], data: Any) -> None:
    import torch

    for values, request in rows:
        if request.temperature and request.top_p == 1:
            request = replace(request, top_p=0.999)  # torch draws from sorted ones even of all
        seen = data.draw(st.sets(st.integers(0, len(values) + 3) | st.just(-(2**200))))
        may = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
        guide = Only([*may, True]) if any(may) and data.draw(st.booleans()) else None
        here, there = answer(request, seen, guide), answer(request, seen, guide)
        ((token, logprob, likeliest),) = choice.choose(np.array([values], np.float32), [here])
        one, (other,), (most,) = decode.choose(torch.tensor([values]), [there])
        if token != int(one):  # a roll between two, or two equal ones
            bent = choice.bent(np.array(values, np.float32), there)
            assert request.temperature or math.isclose(bent[token], bent[int(one)], abs_tol=1e-4)
            continue
        assert logprob == pytest.approx(other, abs=1e-4)
        assert [number for _, number in likeliest] == pytest.approx(
            [number for _, number in most], abs=1e-4
        )


def test_a_draw_falls_by_its_chances() -> None:
    values = np.log(np.array([0.5, 0.0, 0.3, 0.2, 0.0], np.float64) + 1e-300)
    for top_p in (1.0, 0.95):
        request = replace(ASKED, temperature=1.0, top_p=top_p)
        made = [choice.sample(values, request, roll / 1000) for roll in range(1000)]
        assert [made.count(token) for token in range(5)] == pytest.approx(
            [500, 0, 300, 200, 0], abs=2
        )
    kept = replace(ASKED, temperature=1.0, top_p=0.6)
    assert {choice.sample(values, kept, roll / 100) for roll in range(100)} == {0, 2}
    assert choice.drawn(np.array([0.3, 0.7, 0.0]), math.nextafter(1, 0)) == 1


def test_a_nucleus_wider_than_what_is_sorted_first() -> None:
    flat = np.zeros(5000)
    request = replace(ASKED, temperature=1.0, top_p=0.9)
    made = {choice.sample(flat, request, roll / 500) for roll in range(500)}
    assert max(made) < 4500
    assert len(made) > 450
    assert choice.highest(flat, 0).tolist() == []
    assert choice.highest(np.array([1.0, 3.0, 3.0, 2.0]), 2).tolist() == [1, 2]


# --- what was read ---------------------------------------------------------------------------

texts = st.lists(st.integers(0, 1), max_size=90)
prompts = st.lists(
    st.tuples(
        st.sampled_from([0, 20, 40, 60]), st.lists(st.integers(0, 1), min_size=1, max_size=50)
    ),
    min_size=1,
    max_size=5,
).map(lambda parts: [[7] * alike + own for alike, own in parts])


@given(plan=st.lists(st.tuples(texts, st.booleans()), max_size=12))
def test_cells_are_held_for_as_long_as_somebody_has_them(
    plan: list[tuple[list[int], bool]],
) -> None:
    ledger, there = Ledger(6), dict[int, list[tuple[int, int]]]()
    born = 0
    for tokens, drop in plan:
        if (drop or ledger.full) and there:
            gone = next(iter(there))
            ledger.drop(gone)
            del there[gone]
        upto, source = ledger.longest(tokens)
        assert upto == max((_alike(tokens, own) for own in there.values()), default=0)
        new = ledger.begin(source, upto)
        ledger.add(new, tokens[upto:])
        own = there[source][:upto] if source is not None else []
        there[new] = [*own, *((token, born + i) for i, token in enumerate(tokens[upto:]))]
        born += len(tokens)
        assert ledger.read(new) == tokens
        assert ledger.taken() == len({cell for row in there.values() for cell in row})
        assert ledger.taken([new]) == len(tokens)


def _alike(tokens: list[int], row: list[tuple[int, int]]) -> int:
    return next(
        (i for i, (one, (other, _)) in enumerate(zip(tokens, row, strict=False)) if one != other),
        min(len(tokens), len(row)),
    )


@given(known=prompts, asked=prompts)
def test_what_prompts_will_cost_is_what_they_cost(
    known: list[list[int]], asked: list[list[int]]
) -> None:
    ledger = Ledger(64)

    def learn(tokens: list[int], like: list[int]) -> int:
        upto, source = ledger.longest(like)
        new = ledger.begin(source, upto)
        ledger.add(new, tokens[upto:])
        return new

    for tokens in known:
        learn(tokens, tokens)
    before, told = ledger.taken(), ledger.costs(asked)
    assert ledger.costs(asked, []) >= told
    for begin in map(list, beginnings(asked)):
        learn(begin, begin)
    sources = [ledger.longest(prompt[:-1]) for prompt in asked]
    for prompt, (upto, source) in zip(asked, sources, strict=True):
        new = ledger.begin(source, upto)
        ledger.add(new, prompt[upto:])
    assert ledger.taken() - before == told


@given(odd=st.lists(st.booleans(), min_size=1, max_size=40), most=st.integers(1, 9))
def test_runs_are_of_one_sort_and_cover_all(odd: list[bool], most: int) -> None:
    found = [*runs(np.array(odd), most)]
    assert [place for begin, end in found for place in range(begin, end)] == [*range(len(odd))]
    assert all(len({*odd[begin:end]}) == 1 and end - begin <= most for begin, end in found)


# --- with a package that is played -------------------------------------------------------------


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    yield playing(monkeypatch)
    library.cache_clear()


@pytest.fixture
def answers(double: Double, tmp_path: Path) -> Iterator[LlamaCppBackend]:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    backend = LlamaCppBackend(model=str(tmp_path), threads=1)
    yield backend
    backend.close()
    gc.collect()
    assert not +double.alive, "all is freed"


@pytest.fixture(scope="module")
def table() -> Any:
    import torch

    return torch.tensor([vector(token) for token in range(256)])


class TestPlayed(LlamaCppPromises):
    pass


plans = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.sampled_from(["", "x", LONG[:60], LONG[:200], LONG[:60] + "y" * 90]),
        st.integers(1, 30),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=9,
)


@given(plan=plans, drop=st.integers(0, 20), kept=st.sampled_from([0, 150, 5000]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_comes_and_goes_an_answer_is_the_same(
    answers: LlamaCppBackend, plan: list[tuple[int, str, int, int]], drop: int, kept: int
) -> None:
    """In 512 cells, of which the double takes care; who doesn't fit waits."""
    loaded = answers._batch().weights
    batch = LlamaBatch(loaded, rows=4, tokens=512, threads=1)
    limits = Limits(rows=4, read=300, held=None, kept=kept)
    requests = [
        asked(text, max_tokens=tokens, temperature=seed / 2, seed=seed)
        for _, text, tokens, seed in plan
    ]
    made = answers._answers(requests, loaded)
    late = [(when, one) for (when, *_), one in zip(plan, made, strict=True)]
    for moment in range(400):
        entering: list[Answer] = []
        while late and late[0][0] <= moment and batch.fits([*entering, late[0][1]], limits):
            entering.append(late.pop(0)[1])
        if entering:
            batch.enter(entering)
        elif batch.answers:
            batch.step()
        if moment == drop and batch.answers:
            batch.answers[0].dropped = True
            batch.leave()
        batch.forget(kept)
        assert batch.sequences.kept <= kept
    assert not late and not batch.answers
    whole = [one.completion("") for one in made if not one.dropped]
    alone = [answers.complete([one.request])[0] for one in made if not one.dropped]
    assert [one.text for one in whole] == [one.text for one in alone]
    batch.close()


def test_a_recurrent_model_reads_every_prompt_in_full(
    answers: LlamaCppBackend, double: Double
) -> None:
    double.recurrent = True
    answers = but(answers, batch_tokens=6000)
    with calls(answers) as read:
        done = answers.complete(POINTS)
    assert len(read[0]) == len(done) == 6
    assert read[0] == [len(answers.encode(request)) for request in POINTS]
    one(answers, POINTS[0])
    assert answers._batch().sequences.kept == 0


def test_models_that_cant_answer_or_take_vectors(
    answers: LlamaCppBackend, double: Double, table: Any
) -> None:
    double.turns = double.LLAMA_ROPE_TYPE_MROPE
    with pytest.raises(ConfigError, match="several positions"):
        one(answers, soft(answers, table, "x"))
    answers.close()
    double.encoder = True
    with pytest.raises(ModelError, match="encoder"):
        one(answers, asked())


def test_what_llama_cpp_says_of_a_failure_is_told(
    answers: LlamaCppBackend, double: Double, tmp_path: Path
) -> None:
    double.broken = -2
    with pytest.raises(BackendError, match=r"returned -2: no luck$"):
        one(answers, asked())
    with pytest.raises(BackendError, match=r"no memory for kv_tokens=2000000; .*: failed to"):
        one(but(answers, kv_tokens=2_000_000), asked())
    (tmp_path / "model.gguf").write_bytes(b"other")
    answers.close()
    gc.collect()
    with pytest.raises(ModelError, match=r"holds no model that llama\.cpp can load: bad magic$"):
        one(answers, asked())


def test_a_child_of_a_fork_frees_nothing_of_its_parent(
    answers: LlamaCppBackend, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(answers, asked())
    context = answers._batch().context
    monkeypatch.setattr("tersely.backends.llamacpp_weights.os.getpid", lambda: -1)
    context.close()
    monkeypatch.undo()
    assert double.alive["contexts"] == 1
    double.llama_free(context._pointer)


async def test_two_who_open_at_once_get_one_engine(
    answers: LlamaCppBackend, double: Double
) -> None:
    await asyncio.gather(*(answers.acomplete([asked(f"{i}")]) for i in range(5)))
    assert +double.alive == {"models": 1, "contexts": 1}


def test_long_names_of_tokens_and_long_texts(
    answers: LlamaCppBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tersely.backends.llamacpp_weights.LONGEST", 2)
    loaded = answers._batch().weights
    text = "Zürich <|assistant|> 👍🏽"
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.decode(loaded.encode(text), skip_special_tokens=True) == "Zürich  👍🏽"
