"""A batch job, and the scoring in it, beside the forward pass of the model and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.batch_scoring_rows import (
    BLOCK,
    Asked,
    Job,
    Ways,
    joined,
)
from benchmarks.harness import (
    MODEL,
    Cost,
    Options,
    Row,
    forget,
    in_turns,
    show,
    times,
)
from benchmarks.pruning_peers import checkpoint


def scoring(folder: Path, given: Options, classifier: Path) -> list[Row]:
    """The job's work and its scoring, beside the bare model."""
    random = checkpoint(folder, layers=2 if given.quick else 12)
    assert given.data is not None
    asked = joined(given.data, (1 if given.quick else 3) * BLOCK)
    blocks = [asked[at : at + BLOCK] for at in range(0, len(asked), BLOCK)]
    cases = {
        "llmlingua2, MiniLM": ("llmlingua2", str(classifier)),
        "llmlingua2, mBERT's size": ("llmlingua2", str(random)),
        "selective_context, SmolLM2-135M": ("selective_context", MODEL),
    }
    rows: list[Row] = []
    for name, (stage, model) in cases.items():
        rows += _beside(folder, name, {stage: {"model": model}}, blocks)
        show(name, rows[-2:])
    return rows


def _beside(folder: Path, name: str, stage: Any, blocks: Sequence[Sequence[Asked]]) -> list[Row]:
    """A stage on every block, each way once a block."""
    ((recipe, settings),) = stage.items()
    read = _classified if recipe == "llmlingua2" else _read
    costs: dict[str, list[Cost]] = {}
    tokens = 0
    for i, block in enumerate([blocks[0][:4], *blocks]):  # the first loads the models
        job = Job(folder, stage, block)
        score, bares, size = read([one.text for one in block], settings["model"])
        ways: Ways = {"job": job, "scoring": score, **bares}
        if i % 2:
            ways = dict(reversed(ways.items()))
        spent = in_turns(ways, dict.fromkeys(ways, 1))
        if i:
            tokens += size
            for way in spent:
                costs.setdefault(way, []).extend(spent[way])
    each = list(zip(*(costs[way] for way in BARE), strict=True))
    bare = [(min(cpu for cpu, _ in some), min(wall for _, wall in some)) for some in each]
    return [
        {
            "model": name,
            "way": way,
            "blocks": len(blocks),
            "tokens": tokens,
            "tokens/s (wall)": tokens / sum(wall for _, wall in costs[way]),
            "tokens/s (CPU)": tokens / sum(cpu for cpu, _ in costs[way]),
            "bare tokens/s (CPU)": tokens / sum(cpu for cpu, _ in bare),
            "of the bare model's pace (CPU)": times(bare, costs[way], 0),
            "of the bare model's pace (wall)": times(bare, costs[way], 1),
            **{f"of its pace {one} (CPU)": times(costs[one], costs[way], 0) for one in BARE},
        }
        for way in ("scoring", "job")
    ]


Reading = tuple[Callable[[], Any], Ways, int]
"""The scoring of some texts, the bare model over their windows, and how many tokens they have."""

BARE: dict[str, tuple[int, float]] = {
    "one by one": (0, 1.0),
    "filled up": (4096, 9.0),
    "of like length": (4096, 1.07),
}
"""How windows are batched: the tokens of a batch, and how much longer one may be than another."""


def _classified(texts: Sequence[str], name: str) -> Reading:
    import torch

    from tersely.compressors.chances import around, chances_of, padded, tokens_of, windows
    from tersely.weights import token_classifier

    classifier = token_classifier(name)
    before, after = around(classifier)
    inputs = []
    for text in texts:
        tokens = tokens_of(text, classifier)
        for start, end in windows(text, tokens, classifier.max_length - len(before) - len(after)):
            inputs.append(np.concatenate((before, tokens.ids[start:end], after)))

    def bare(how: str) -> None:
        with torch.inference_mode():
            for ids, mask in batches[how]:
                classifier.model(input_ids=ids, attention_mask=mask)

    batches = {
        how: [padded(batch, classifier) for batch in _batched(inputs, *BARE[how])] for how in BARE
    }

    def score() -> None:
        forget()
        chances_of(texts, name, _context())

    return score, {how: partial(bare, how) for how in BARE}, sum(map(len, inputs))


def _read(texts: Sequence[str], name: str) -> Reading:
    import torch

    from tersely.compressors.self_information import opening, surprise, windows
    from tersely.weights import causal_lm, encode

    lm = causal_lm(name)
    first = np.array([opening(lm)])
    cut = [w for i, text in enumerate(texts) for w in windows(i, encode(text, lm)[0], first, lm)]
    inputs = [window.ids for window in cut]

    def filled(batch: Sequence[Any]) -> Any:
        rows = np.zeros((len(batch), max(map(len, batch))), np.int64)
        for row, one in zip(rows, batch, strict=True):
            row[: len(one)] = one
        return torch.from_numpy(rows)  # filled up at the end, where causal attention does not look

    def bare(how: str) -> None:
        with torch.inference_mode():
            for ids in batches[how]:
                lm.model(ids, use_cache=False)

    batches = {how: [filled(some) for some in _batched(inputs, *BARE[how])] for how in BARE}

    def score() -> None:
        forget()
        surprise(texts, name, _context())

    return score, {how: partial(bare, how) for how in BARE}, sum(map(len, inputs))


def _batched(inputs: Sequence[Any], most: int, longer: float) -> Iterator[list[Any]]:
    """Inputs in batches, those of like length together, as many as fit."""
    batch: list[Any] = []
    for one in sorted(inputs, key=len):
        full = (len(batch) + 1) * len(one) > most
        if batch and (full or len(one) > longer * len(batch[0])):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _context() -> Any:
    from tersely.contracts import Context
    from tersely.tokens import counter

    return Context(count=counter(MODEL))
