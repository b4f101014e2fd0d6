"""Every text by its form: who takes it apart, and what is behind that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_forms import SAMPLES

import tersely.compressors.auto as auto
from tersely.contracts import Context
from tersely.errors import MissingExtra
from tersely.middleware.pipeline import PIPELINES, Pipeline, pipeline_of
from tersely.prompt import Prompt, Segment
from tersely.registry import stage
from tersely.tokens import counter

CONTEXT = Context(count=counter("gpt-4o"))
WAYS = {form: str(one.name) for form, one in auto.FORMS.items()}


def output(text: str, turn: int = 1) -> Segment:
    return Segment(text=text, role="tool", kind="tool_output", turn=turn, path=(turn,))


def long(form: str) -> str:
    """A sample of a form that is long enough to lose something."""
    if form == "json":
        return str([{"id": i, "name": f"item {i}"} for i in range(60)]).replace("'", '"')
    if form == "html":
        return "<html><body>" + "<p>Some words of a page.</p>\n" * 60 + "</body></html>"
    if form == "code":
        return "".join(SAMPLES[form].replace("f(x)", f"f{i}(x)") for i in range(20))
    return SAMPLES[form] * 20


@pytest.mark.parametrize("form", sorted(WAYS))
@pytest.mark.parametrize("share", [0.8, 0.2])
def test_a_form_is_taken_apart_by_its_stage(form: str, share: float) -> None:
    prompt = Prompt((output(long(form)),), turns=1)
    context = CONTEXT.within(int(CONTEXT.tokens(prompt) * share))
    assert stage("auto")(prompt, context) == stage(WAYS[form])(prompt, context)


def test_texts_of_all_forms_lose_alike() -> None:
    texts = [long(form) for form in sorted(WAYS)]
    prompt = Prompt(tuple(map(output, texts, range(len(texts)))), turns=len(texts))
    context = CONTEXT.within(int(CONTEXT.tokens(prompt) * 0.6))
    made = stage("auto")(prompt, context)
    assert context.tokens(made) <= (context.limit or 0)
    shorter = [len(new.text) < len(text) for new, text in zip(made.segments, texts, strict=True)]
    assert sum(shorter) >= 8


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_: object) -> None:
        raise MissingExtra("selectolax", extra="structure")

    monkeypatch.setattr(type(auto.FORMS["html"]), "ready", lacking)
    for known in (auto._lacking, auto._stages):
        monkeypatch.setattr(auto, known.__name__, known.__wrapped__)
    page, rows = output(long("html")), output(long("json"), 2)
    prompt = Prompt((page, rows), turns=2)
    context = replace(CONTEXT, limit=int(CONTEXT.tokens(prompt) * 0.7), _said=[])
    made = stage("auto")(prompt, context)
    assert made.segments[0] == page and len(made.segments[1].text) < len(rows.text)
    assert context.said[0].startswith("auto leaves html alone: ")
    assert "pip install 'tersely[structure]'" in context.said[0]


def test_the_pipeline_goes_on_to_prose() -> None:
    prose = "The kettle is blue. Nobody knows why. " * 60 + "It holds 1.7 litres. "
    messages = [
        {"role": "user", "content": "How much does the kettle hold, and what is item 33?"},
        {"role": "assistant", "content": None, "tool_calls": [called("a"), called("b")]},
        {"role": "tool", "tool_call_id": "a", "content": prose},
        {"role": "tool", "tool_call_id": "b", "content": long("json")},
    ]
    result = pipeline_of("auto").run({"model": "gpt-4o", "messages": messages})
    texts = [message["content"] for message in result.output["messages"]]
    assert texts[0] == messages[0]["content"]
    assert "1.7 litres" in texts[2] and len(texts[2]) < len(prose) / 1.5
    assert '"item 33"' in texts[3] and len(texts[3]) < len(long("json")) / 1.5
    stages = {one.stage for one in result.report.decisions if one.action == "compressed"}
    assert stages == {"auto", "query"} and result.report.met


def test_bolder_is_one_word() -> None:
    assert {"auto", "bold", "default"} <= set(PIPELINES)
    careful, bold = (Pipeline(**PIPELINES[name]) for name in ("auto", "bold"))
    assert bold.budget.shares["json"] < careful.budget.shares["json"]
    assert bold.floor < careful.floor and set(careful.kinds) < set(bold.kinds)
    assert careful.budget.ms == bold.budget.ms == 50


def called(name: str) -> dict[str, object]:
    return {
        "id": name,
        "type": "function",
        "function": {"name": "look", "arguments": "{}"},
    }
