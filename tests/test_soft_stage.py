"""What was learned of a text, in its place: the stage, and a backend that is asked with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from engine_watch import forget
from little_sot import Run, Writer, asking
from little_sot import arun as arun_plan
from little_sot import run as run_plan
from typer.testing import CliRunner

import tersely.soft_artefact as soft_artefact
from tersely import registry
from tersely.artefact import tokenizer_hash, weights_hash
from tersely.backends.http import HttpBackend
from tersely.backends.local import LocalBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Context, Request, StageModel
from tersely.errors import ConfigError, UnknownName
from tersely.fidelity import Fidelity, Interval
from tersely.middleware.cli import app
from tersely.middleware.cli_serve import Served
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.softened import Softened
from tersely.prompt import Kind, Prompt, Segment
from tersely.report import Decision
from tersely.soft import KVPrefix, SoftPrompt
from tersely.soft_artefact import SoftAbout, SoftArtefact, text_hash
from tersely.sot.plan_sot import Sot
from tersely.tokens import counter
from tersely.weights import CausalLM

POLICY = "Bags: one is free.\nCancel within 24 hours.\nRefunds take 5 days.\nBe kind.\n"
ASKED = "How long do refunds take?"
FIT = Interval(mean=0.01, low=0.0, high=0.02)
SURE = Interval(mean=0.98, low=0.9, high=1.0)
WHOLE = Fidelity(tokens=9, kl=FIT, agreement=SURE, turns=5, positions=99)
POOR = WHOLE.model_copy(update={"kl": Interval(mean=0.7, low=0.6, high=0.8)})


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lm: CausalLM) -> Iterator[Path]:
    monkeypatch.setattr(soft_artefact, "shelf", lambda: tmp_path / "shelf")
    yield tmp_path / "shelf"
    forget(lm)


def chat(system: str = POLICY, asked: str = ASKED) -> Prompt:
    return Prompt(
        (
            Segment(text=system, role="system", kind="instruction", path=(0,)),
            Segment(text=asked, kind="question", turn=1, path=(1,)),
        ),
        question=asked,
        turns=2,
    )


def learned(
    backend: LocalBackend, folder: Path, soft: KVPrefix | SoftPrompt, **told: Any
) -> SoftArtefact:
    """An artefact that is as faithful as reading the text, on the shelf."""
    model = Path(backend.model)
    settings: dict[str, Any] = {
        "form": "kv" if isinstance(soft, KVPrefix) else "embeds",
        "role": "system",
        "model": backend.model,
        "model_sha256": weights_hash(model),
        "tokenizer_sha256": tokenizer_hash(model),
        "text_sha256": text_hash(POLICY),
        "text_tokens": len(soft),
        "tokens": len(soft),
        "fidelity": WHOLE,
    }
    made = SoftArtefact(SoftAbout(**settings | told), soft, POLICY)
    made.save(folder)
    return made


def beginning(backend: LocalBackend) -> KVPrefix:
    """Fewer keys and values than the policy has tokens."""
    return backend.prefix("Be kind.")


def softened(prompt: Prompt, soft: KVPrefix | SoftPrompt) -> Prompt:
    """The prompt as it should become."""
    return prompt.with_segments({0: prompt.segments[0].softened(soft, "learned")})


@pytest.fixture
def kv(backend: LocalBackend, shelf: Path) -> SoftArtefact:
    return learned(backend, shelf / "policy", beginning(backend))


def run(backend: Any, prompt: Prompt, **settings: Any) -> tuple[Prompt, list[Decision]]:
    pipeline = Pipeline([registry.stage("soft", **settings)], backend=backend, strict=True)
    result = pipeline.run(prompt, model=backend.model)
    return result.output, [one for one in result.report.decisions if one.stage == "soft"]


def test_it_stands_in_the_texts_place(backend: LocalBackend, kv: SoftArtefact) -> None:
    prompt = chat()
    made, (decision,) = run(backend, prompt)
    assert prompt == chat(), "the caller's prompt is not changed"
    system, asked = made.segments
    assert (system.soft, system.text, asked) == (kv.soft, POLICY, prompt.segments[1])
    assert decision.action == "compressed" and decision.after == len(kv.soft)
    assert "keys and values of 'policy' stand for it (KL 0.01, agreement 98%)" in decision.reason
    one, other = (Request(prompt=some, max_tokens=12) for some in (made, softened(prompt, kv.soft)))
    assert backend.complete([one]) == backend.complete([other])


def test_vectors_stand_anywhere(backend: LocalBackend, shelf: Path) -> None:
    learned(backend, shelf / "policy", backend.embed(POLICY))
    rules = Segment(text="You answer.", role="system", path=(0, "a"), locked=True)
    prompt = replace(chat(), segments=(rules, *chat().segments))
    made, _ = run(backend, prompt)
    assert [one.soft is not None for one in made.segments] == [False, True, False]
    plain, soft = (Request(prompt=one, max_tokens=12) for one in (prompt, made))
    assert backend.complete([soft])[0].text == backend.complete([plain])[0].text


def test_a_servers_weights_are_looked_at_where_they_lie_here_too(
    backend: LocalBackend, shelf: Path
) -> None:
    vectors = backend.embed("Be kind.")
    able = frozenset({"embeds"})
    server = HttpBackend(base_url="http://s/v1", model="served", engine="sglang", can=able)
    knowing = server.model_copy(update={"weights": backend.model})
    learned(backend, shelf / "policy", vectors)
    _, (decision,) = run(server.model_copy(update={"engine": "vllm"}), chat())
    assert "not for 'served'" in decision.reason
    made, _ = run(knowing, chat())
    assert made.segments[0].soft == SoftPrompt(vectors.vectors, "served")
    learned(backend, shelf / "policy", vectors, model_sha256="0" * 64)
    _, (decision,) = run(knowing, chat())
    assert "other weights" in decision.reason


REASONS: dict[str, tuple[Prompt, dict[str, Any], str]] = {
    "changed": (chat(POLICY.replace("5 days", "6 days")), {}, "changed since it was learned (75"),
    "other role": (
        replace(chat(), segments=(replace(chat().segments[0], role="user"),)),
        {},
        "learned as a text of the system, and is one of the user",
    ),
    "not first": (
        replace(chat(), segments=(Segment(text="Hi.", path=(9,), locked=True), *chat().segments)),
        {},
        "another text is before",
    ),
    "unfit": (chat(), {"fidelity": POOR}, "KL 0.700 is 0.400 over 0.300, the threshold"),
    "unmeasured": (chat(), {"fidelity": None}, "its fidelity was not measured"),
    "other weights": (chat(), {"model_sha256": "0" * 64}, "other weights"),
    "other tokenizer": (chat(), {"tokenizer_sha256": "0" * 64}, "another tokenizer"),
}


@pytest.mark.parametrize("why", REASONS)
def test_the_text_stays_and_the_report_tells_why(
    backend: LocalBackend, shelf: Path, why: str
) -> None:
    prompt, told, reason = REASONS[why]
    learned(backend, shelf / "policy", beginning(backend), **told)
    made, (decision,) = run(backend, prompt)
    assert made == prompt
    assert decision.action == "unchanged" and decision.before == decision.after
    assert decision.reason.startswith("policy: ") and reason in decision.reason
    if why in ("unfit", "unmeasured"):
        made, _ = run(backend, prompt, unfit=True)
        assert made.segments[0].soft is not None


def test_other_texts_are_none_of_its_business(backend: LocalBackend, kv: SoftArtefact) -> None:
    prompt = chat("Answer in rhymes, and never tell a number that you don't know for sure.")
    made, decisions = run(backend, prompt)
    assert made == prompt and decisions == []
    assert not registry.stage("soft").takes(prompt.segments[0])  # type: ignore[attr-defined]


def test_a_shape_that_can_not_carry_it_has_the_text(
    backend: LocalBackend, kv: SoftArtefact
) -> None:
    messages = [{"role": "system", "content": POLICY}, {"role": "user", "content": ASKED}]
    pipeline = Pipeline(["soft"], backend=backend)
    result = pipeline.run(messages, model=backend.model)
    assert result.output == messages and result.report.saved == 0
    assert any("this request can't carry it" in one.reason for one in result.report.decisions)
    for _ in range(2):  # what was sent before as text may stand there as well
        result = pipeline.run(messages, model=backend.model, soft=True)
        assert result.output == messages
        assert result.prompt.segments[0].soft == kv.soft
        assert result.report.after < result.report.before


def test_a_longer_conversation_goes_on_with_it(backend: LocalBackend, kv: SoftArtefact) -> None:
    pipeline = Pipeline(["soft"], backend=backend)
    prompt = chat()
    for turn in (2, 3):
        assert pipeline.run(prompt).prompt.segments[0].soft == kv.soft
        more = Segment(text="Why?", turn=turn, path=(turn,))
        prompt = replace(prompt, segments=(*prompt.segments, more), turns=turn + 1)


def test_it_goes_with_pruning(backend: LocalBackend, kv: SoftArtefact) -> None:
    long = "The kettle is blue. " * 30 + "Refunds take 5 days. " + "It is not old. " * 30
    middle = Segment(text=long, kind="context", turn=1, path=(1, "a"))
    prompt = replace(chat(), segments=(chat().segments[0], middle, chat().segments[1]))
    pipeline = Pipeline(
        ["soft", {"query": {"encoder": ""}}], budget={"shares": {"context": 0.2}}, backend=backend
    )
    result = pipeline.run(prompt, model=backend.model)
    system, context, _ = result.output.segments
    assert system.soft == kv.soft and "Refunds take 5 days." in context.text
    assert len(context.text) < len(long) / 3 and result.report.met
    plain = Request(prompt=result.prompt, max_tokens=3)
    assert backend.complete([plain])[0].prompt_tokens == len(backend.encode(plain))
    nested = Pipeline([pipeline], backend=backend).run(prompt, model=backend.model)
    assert nested.output.segments[0].soft == kv.soft


async def test_whatever_asks_is_spared_the_text(backend: LocalBackend, kv: SoftArtefact) -> None:
    told: list[Decision] = []
    spared = Softened.by(backend, ["policy"], tell=told.append)
    prompts = [chat(), chat("Be brief."), chat(asked="Is a bag free?")]
    requests = [Request(prompt=prompt, max_tokens=9) for prompt in prompts]
    prompts = [softened(prompts[0], kv.soft), prompts[1], softened(prompts[2], kv.soft)]
    expected = backend.complete([Request(prompt=prompt, max_tokens=9) for prompt in prompts])
    assert spared.complete(requests) == expected
    assert [one.path for one in told] == ["[0]", "[0]"]
    assert await spared.acomplete(requests) == expected
    for request, done in zip(requests, expected, strict=True):
        assert "".join(chunk.text for chunk in spared.stream(request)) == done.text
        chunks = [chunk async for chunk in spared.astream(request)]
        assert "".join(chunk.text for chunk in chunks) == done.text
    assert spared.model == backend.model and "kv_prefix" in spared.capabilities
    begun = Request(prompt=chat(), kv_prefix=beginning(backend), raw=True, max_tokens=3)
    assert spared.complete([begun]) == backend.complete([begun])


def test_what_can_not_be_is_told_at_once(backend: LocalBackend, kv: SoftArtefact) -> None:
    with pytest.raises(UnknownName, match="no soft prompt named 'polcy'; nearest: policy"):
        Softened.by(backend, ["polcy"])
    with pytest.raises(ConfigError, match="ScriptedBackend takes no soft input"):
        Softened.by(ScriptedBackend(["yes"]), ["policy"])
    with pytest.raises(ConfigError, match="soft needs a backend with kv_prefix or embeds"):
        Pipeline(["soft"], backend=ScriptedBackend(["yes"]))
    with pytest.raises(UnknownName, match="no soft prompt named 'other'"):
        Pipeline([{"soft": {"artefacts": ["other"]}}], backend=backend)
    stage = registry.stage("soft")
    alone = Context(count=counter("gpt-4o"), soft=True)
    assert stage(chat(), alone).segments[0].reason == "policy: the backend has no kv_prefix"


def test_a_command_asks_and_serves_with_it(
    backend: LocalBackend, kv: SoftArtefact, tmp_path: Path
) -> None:
    messages = [{"role": "system", "content": POLICY}, {"role": "user", "content": ASKED}]
    file = tmp_path / "chat.json"
    file.write_text(json.dumps({"messages": messages}), encoding="utf-8")
    options = ["--model", backend.model, "--soft", "policy", "--max-tokens", "3"]
    done = CliRunner().invoke(app, ["ask", str(file), *options])
    assert done.exit_code == 0, done.stderr
    assert "messages[0].content: " in done.stderr and "of 'policy' stand for it" in done.stderr
    answered = CliRunner().invoke(app, ["ask", str(file), *options, "--json", "--quiet"])
    tokens = json.loads(answered.stdout)["answers"]["compressed"]["prompt_tokens"]
    assert tokens == len(backend.encode(Request(prompt=softened(chat(), kv.soft))))
    served = Served(model=backend.model, soft=["policy"]).opened()
    assert isinstance(served, Softened)
    unknown = CliRunner().invoke(app, ["ask", str(file), *options[:3], "polcy"])
    assert unknown.exit_code == 1 and "nearest: policy" in unknown.stderr


@cache
def short() -> KVPrefix:
    import torch

    return KVPrefix([(torch.ones(1, 2, 3),) * 2])


class Standing(StageModel):
    """Soft input for the policy, whoever asks."""

    name: ClassVar[str] = "standing"
    kinds: tuple[Kind, ...] = ("instruction",)

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        return prompt.with_segments(
            {
                i: prompt.segments[i].softened(short(), "learned")
                for i in prompt.open
                if prompt.segments[i].text == POLICY
            }
        )


@pytest.mark.parametrize("go", [run_plan, arun_plan])
def test_points_side_by_side_are_spared_the_text(go: Run) -> None:
    writer = Writer(capabilities=("kv_prefix",))
    policy = Segment(text=POLICY, role="system", kind="instruction", locked=True)
    asked = asking().prompt.segments[0]
    prompt = Prompt((policy, replace(asked, turn=1)), asked.text, turns=2)
    request = Request(prompt=prompt, max_tokens=400)
    answer = go(Sot(gate="force"), Softened(writer, Standing()), request)
    assert [point.state for point in answer.account.points] == ["whole"] * 4
    assert len(writer.requests) == 5, "the skeleton and four points"
    assert {one.prompt.segments[0].soft for one in writer.requests} == {short()}
    assert request.prompt.segments[0] == policy
