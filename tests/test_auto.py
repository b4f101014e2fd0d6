"""Every text by its form: who takes it apart, and what is behind that."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from test_forms import SAMPLES

import tersely.compressors.auto as auto
from tersely.compressors.json_table import untabled
from tersely.compressors.json_tree import read
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


PROSE = "The kettle is blue. Nobody knows why. " * 60 + "It holds 1.7 litres. "


QUESTION = "How much does the kettle hold, and what is item 33?"


def asked() -> dict[str, object]:
    """A conversation with prose, JSON and a log from tools."""
    texts = {"a": PROSE, "b": long("json"), "c": long("log")}
    calls = [called(name) for name in texts]
    first = {"role": "user", "content": "Look."}
    assistant = {"role": "assistant", "content": None, "tool_calls": calls}
    given = [{"role": "tool", "tool_call_id": name, "content": texts[name]} for name in texts]
    last = {"role": "user", "content": QUESTION}
    return {"model": "gpt-4o", "messages": [first, assistant, *given, last]}


def unhurried(name: str) -> Pipeline:
    """A pipeline by name, without its bound on time: this machine may be a slow one."""
    pipeline = pipeline_of(name)
    return pipeline.but(budget=pipeline.budget.model_copy(update={"ms": None}))


def test_by_default_what_tools_said_loses_nothing_but_logs() -> None:
    request = asked()
    result = unhurried("auto").run(request)
    old, new = (
        [one["content"] for one in some["messages"]]
        for some in (request, result.output)  # type: ignore[index]
    )
    assert (new[:3], new[5]) == (old[:3], old[5]), "prose of a tool stays"
    rows = untabled(read(new[3]))
    assert rows == read(old[3]) and len(new[3]) < len(old[3]) / 1.5
    assert len(new[4]) < len(old[4]) / 1.8 and "job 19 is done" in new[4]
    assert result.report.met
    long_context = unhurried("auto").run({"context": PROSE, "question": QUESTION})
    context = long_context.output["context"]
    assert "1.7 litres" in context and len(context) < len(PROSE) / 1.8


def test_what_loses_nothing_is_done_within_the_budget() -> None:
    text = long("json")
    stages = [{"auto": {"lossless": True}}, {"truncate": {"kinds": ("json",)}}]
    result = Pipeline(stages, budget=10_000).run([text], model="gpt-4o")
    assert untabled(read(result.output[0])) == read(text)
    assert result.report.saved > 0 and result.report.met


def test_bolder_is_one_word() -> None:
    request = asked()
    careful, bold = (unhurried(name).run(request) for name in ("auto", "bold"))
    assert bold.report.saved > careful.report.saved * 1.3
    texts = [one["content"] for one in bold.output["messages"]]
    assert "1.7 litres" in texts[2] and '"item 33"' in texts[3]
    assert pipeline_of("default") == pipeline_of("auto")
    assert {"auto", "bold", "default"} == set(PIPELINES)


def called(name: str) -> dict[str, object]:
    return {
        "id": name,
        "type": "function",
        "function": {"name": "look", "arguments": "{}"},
    }


Rows = list[tuple[str, str, int]]
"""An id, what there is to say, and a number."""

SHAPES: dict[str, Callable[[Rows], str]] = {
    "json": lambda rows: json.dumps([{"id": a, "says": b, "took": c} for a, b, c in rows]),
    "keyed": lambda rows: json.dumps({a: {"says": b, "took": c} for a, b, c in rows}),
    "within": lambda rows: json.dumps({"n": len(rows), "rows": [list(row) for row in rows]}),
    "lines": lambda rows: "\n".join(
        json.dumps({"id": a, "says": b, "took": c}) for a, b, c in rows
    ),
    "csv": lambda rows: "id,says,took\n" + "\n".join(f"{a},{b},{c}" for a, b, c in rows),
    "markdown": lambda rows: (
        "| id | says | took |\n|---|---|---|\n"
        + "\n".join(f"| {a} | {b} | {c} |" for a, b, c in rows)
    ),
    "log": lambda rows: "\n".join(
        f"2026-11-23 10:{i // 60:02d}:{i % 60:02d} INFO {a} {b} took {c} ms"
        for i, (a, b, c) in enumerate(rows)
    ),
    "hits": lambda rows: "\n".join(
        f"src/{i % 7}.py:{i + 1}:{a} = says({b!r}, {c})" for i, (a, b, c) in enumerate(rows)
    ),
    "prose": lambda rows: "\n".join(f"Of {a} it is said that {b} within {c}." for a, b, c in rows),
    "cut off": lambda rows: json.dumps([{"id": a, "says": b} for a, b, _ in rows])[:-30],
}
NUMBERED = ("json", "keyed", "lines", "csv", "markdown")
"""Shapes in which a number can be told from the others of its column."""


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_asked_for_what_failed_and_what_is_odd_stays(shape: str) -> None:
    rows: Rows = [(f"ORD-{7000 + i * 7}", "all went well", 20 + i * 3 % 17) for i in range(240)]
    rows[71] = ("ORD-7497", "it failed for want of room", 24)
    rows[133] = ("ORD-7931", "all went well", 99_125)
    call = {"name": "look", "arguments": json.dumps({"first": "ORD-8281"})}
    after = {"name": "pay", "arguments": json.dumps({"order": "ORD-7693"})}
    said = [
        {"role": "user", "content": "What became of ORD-8603?"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "1", "content": SHAPES[shape](rows)},
        {"role": "assistant", "tool_calls": [{"id": "2", "type": "function", "function": after}]},
        {"role": "tool", "tool_call_id": "2", "content": "paid"},
        {"role": "user", "content": "And now?"},
    ]
    shares = {"shares": PIPELINES["bold"]["budget"]["shares"]}  # and no limit to its time
    result = pipeline_of("bold").but(budget=shares).run({"model": "gpt-4o", "messages": said})
    kept = result.output["messages"][2]["content"]
    assert len(kept) < 0.5 * len(said[2]["content"])
    for one in ("ORD-8603", "ORD-8281", "ORD-7693", "ORD-7497"):
        assert one in kept, one
    assert shape not in NUMBERED or "99125" in kept
