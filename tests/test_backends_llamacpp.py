"""What the llama.cpp backend is made of, without llama.cpp; with it, see `make engines`."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely import registry
from tersely.backends import chat, choice, cpus, decode
from tersely.backends.decode import Answer
from tersely.backends.detokenize import Detokenizer, StopStrings
from tersely.backends.ledger import Ledger
from tersely.backends.llamacpp import LlamaCppBackend
from tersely.backends.llamacpp_context import runs
from tersely.backends.llamacpp_weights import file_of, library
from tersely.backends.read import beginnings
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
@settings(max_examples=60)
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
