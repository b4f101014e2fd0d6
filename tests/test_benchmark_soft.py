"""What the benchmark of soft prompts counts and compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # it belongs to no package

from benchmarks import soft_report, soft_speed
from benchmarks.soft_prompts import Fact, Fixed
from benchmarks.soft_quality import scores
from benchmarks.soft_speed import asked
from tersely.backends.local import LocalBackend
from tersely.backends.soft_input import places
from tersely.weights import CausalLM

TEXT = "Bags: one is free. Refunds take 5 days. Cancel within 24 hours, and be kind to everybody."
FIXED = Fixed(
    "rules", TEXT, ["Hello!"], ["How long?", "Who pays for it?"], [Fact("When?", "5 Days")]
)
ANSWERS = [[5, 6, 7], [8, 9]]


def read(backend: LocalBackend, lm: CausalLM, stands: Any) -> list[Any]:
    requests = [asked(FIXED, stands, turn, 4) for turn in FIXED.held]
    prompts = [backend.encode(request) for request in requests]
    return [*scores(lm, prompts, ANSWERS, places(requests[0], lm, backend.model))]


def test_answers_are_scored_as_if_read_at_once(backend: LocalBackend, lm: CausalLM) -> None:
    import torch

    found = read(backend, lm, TEXT)
    for turn, answer, one in zip(FIXED.held, ANSWERS, found, strict=True):
        row = [*backend.encode(asked(FIXED, TEXT, turn, 4)), *answer]
        with torch.inference_mode():
            whole = lm.model(torch.tensor([row])).logits[0].log_softmax(-1)
        assert torch.allclose(one, whole[-len(answer) - 1 : -1], atol=1e-4)


def test_what_says_the_same_is_no_other(backend: LocalBackend, lm: CausalLM) -> None:
    import torch

    embeds = backend.embed(TEXT)
    head = backend.encode(asked(FIXED, TEXT, "x", 4))
    rest = backend.encode(asked(FIXED, backend.prefix("x"), "x", 4))[len(backend.prefix("x")) :]
    begins = lm.tokenizer.decode(head[: -len(rest)])
    for stands in (embeds, backend.prefix(begins)):
        for one, other in zip(read(backend, lm, TEXT), read(backend, lm, stands), strict=True):
            assert torch.allclose(one, other, atol=1e-3)


def test_a_fact_is_found_in_any_case() -> None:
    (fact,) = FIXED.facts
    assert fact.given_by("After 5 days.") and not fact.given_by("After five days.")


def row(method: str, tokens: int, kl: list[float], agreement: list[float]) -> dict[str, Any]:
    told = {"prompt": "rules", "method": method, "tokens": tokens, "positions": 9}
    return {**told, "kl": kl, "agreement": agreement, "facts": [method != "none", False]}


ROWS = [
    row("full", 99, [0.0, 0.0], [1.0, 1.0]),
    row("none", 0, [2.0, 2.0], [0.1, 0.1]),
    row("truncated", 32, [1.0, 1.0], [0.5, 0.5]),
    row("extractive", 32, [0.8, 1.0], [0.4, 0.4]),
    row("truncated", 128, [0.5, 0.3], [0.7, 0.7]),
    row("kv", 32, [0.1, 0.17], [0.9, 0.7]),
]


def test_what_was_learned_is_held_to_the_best_texts() -> None:
    (target,) = soft_report.targets(ROWS)
    assert target["nearest text of 32"] == "extractive"
    assert target["likest text of 32"] == "truncated"
    assert target["KL by text of 32"][0] == pytest.approx(0.15)
    assert target["same token over text of 128"][0] == pytest.approx(0.1)
    assert [told.rpartition(": ")[2] for told in soft_report.verdicts(target)] == ["met"] * 4
    (other,) = soft_report.targets([*ROWS[:5], row("kv", 32, [0.3, 0.3], [0.6, 0.6])])
    assert [told.rpartition(": ")[2] for told in soft_report.verdicts(other)] == [
        "missed by 0.133",
        "met",
        "met",
        "missed by 0.100",
    ]


def test_facts_are_counted_that_the_full_prompt_gives() -> None:
    told = {line["method"]: line["facts"] for line in soft_report.summed(ROWS)}
    assert told["kv"] == "1 of 1, 1 of 2 in all"
    assert told["none"] == "0 of 1, 0 of 2 in all"


def test_speed_tells_what_is_met_and_what_is_missed() -> None:
    told = soft_speed.verdicts(
        {"first token by cold": (0.04, 0.03, 0.05), "decode by full": (0.3,)}
    )
    assert told == [
        "first token by cold 0.040, at most 0.07: met",
        "decode by full 0.300, at most 0.25: missed by 0.050",
    ]
