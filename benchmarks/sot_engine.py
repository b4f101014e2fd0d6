"""The local engine: tokens a CPU second by how many answers it makes at once, and what it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.harness import (
    MODEL,
    THREADS,
    Options,
    Row,
    in_turns,
    median_interval,
    options,
    save,
    show,
)
from tersely.backends.local import LocalBackend
from tersely.contracts import Request
from tersely.prompt import Prompt, Segment
from tersely.weights import CausalLM, LMPrecision, causal_lm

BRANCHES = (1, 8, 16)
PRECISIONS: tuple[LMPrecision, ...] = ("bfloat16", "float32", "int8")
PAGED = ("bfloat16", "float32")
TARGET = 0.9
"""Of what prompts have in common, at least this share is not read again."""
HEAD = "You write a part of an answer. Be short, and stay with your own point. " * 7
POINTS = ("Sleep well", "Eat greens", "Walk daily", "Drink water", "See friends", "Rest often")

Work = Callable[[], object]


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    _one_thread()
    rows = speeds(given)
    show("tokens a CPU second, reading included", rows)
    reads = reuse()
    show("prompt tokens that six branches make the model read", reads)
    save("sot_engine", given, {"target_saved": TARGET, "speed": rows, "reuse": reads})


def speeds(given: Options) -> list[Row]:
    """Ours beside transformers' own, in turns, on the same prompts, weights and lengths.

    The prompts have nothing in common, so that nothing is saved by reading it once, and no token
    is guessed: `generate` makes one after the other.
    """
    tokens, turns = (8, 1) if given.quick else (32, 3)
    rows: list[Row] = []
    for precision in PRECISIONS[:1] if given.quick else PRECISIONS:
        lm = causal_lm(MODEL, precision=precision)
        backend = LocalBackend(model=MODEL, precision=precision, prefix_tokens=0, lookup=0)
        for branches in BRANCHES[:2] if given.quick else BRANCHES:
            requests = [_story(i, tokens) for i in range(branches)]
            prompts = [backend.encode(request) for request in requests]
            _checked(backend, requests)
            works: dict[str, Work] = {
                "tersely": partial(backend.complete, requests),
                "transformers generate": partial(_generate, lm, prompts, tokens),
            }
            if precision in PAGED:
                works["transformers continuous"] = partial(_paged, lm, prompts, tokens)
            rows += _compared(precision, branches, works, tokens, turns)
    return rows


def reuse() -> list[Row]:
    """What is read when six prompts begin alike, at once or one after another."""
    rows: list[Row] = []
    ways: dict[str, Callable[[LocalBackend, list[Request]], object]] = {
        "in one list": LocalBackend.complete,
        "six streams at once": lambda backend, asked: asyncio.run(_streams(backend, asked)),
        "one after another": lambda backend, asked: [backend.complete([one]) for one in asked],
    }
    for number, (way, run) in enumerate(ways.items()):
        backend = LocalBackend(model=MODEL)
        asked = [_part(f"Case {number}. {HEAD}", point) for point in POINTS]
        prompts = [backend.encode(request) for request in asked]
        with _reading(causal_lm(MODEL)) as read:
            run(backend, asked)
        shared = _shared(prompts)
        total, again = sum(map(len, prompts)), shared * (len(prompts) - 1)
        rows.append(
            {
                "asked": way,
                "prompt tokens": total,
                "shared": shared,
                "read": sum(read),
                "repeated, saved": (total - sum(read)) / again,
            }
        )
    return rows


def _compared(
    precision: str, branches: int, works: dict[str, Work], tokens: int, turns: int
) -> list[Row]:
    for work in works.values():
        work()
    costs = in_turns(works, dict.fromkeys(works, turns))
    ours = costs["tersely"]
    return [
        {
            "precision": precision,
            "branches": branches,
            "engine": name,
            "tokens/CPU s": median_interval([branches * tokens / cpu for cpu, _ in found]),
            "CPU by ours": median_interval(
                [cpu / own for (cpu, _), (own, _) in zip(found, ours, strict=True)]
            ),
        }
        for name, found in costs.items()
    ]


def _generate(lm: CausalLM, prompts: Sequence[Sequence[int]], tokens: int) -> None:
    """A batch by transformers, padded on the left."""
    import torch

    longest = max(map(len, prompts))
    rows = [[0] * (longest - len(prompt)) + [*prompt] for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    lm.model.generate(
        torch.tensor(rows),
        attention_mask=torch.tensor(mask),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )


def _paged(lm: CausalLM, prompts: Sequence[Sequence[int]], tokens: int) -> None:
    """Continuous batching by transformers, with a cache that is sized for the job."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    settings = ContinuousBatchingConfig(page_size=32, num_blocks=64, max_batch_tokens=1024)
    made: Any = GenerationConfig
    wishes = made(max_new_tokens=tokens, do_sample=False, eos_token_id=-1)
    try:
        lm.model.generate_batch(
            [[*prompt] for prompt in prompts],
            generation_config=wishes,
            continuous_batching_config=settings,
            warmup=False,
        )
    finally:
        lm.model.set_attn_implementation("sdpa")


async def _streams(backend: LocalBackend, asked: Sequence[Request]) -> None:
    async def read(request: Request) -> None:
        async for _ in backend.astream(request):
            pass

    await asyncio.gather(*map(read, asked))


@contextmanager
def _reading(lm: CausalLM) -> Iterator[list[int]]:
    """How many tokens each pass reads, padding included."""
    found: list[int] = []

    def note(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        found.append(given["input_ids"].numel())

    hook = lm.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield found
    finally:
        hook.remove()


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    columns = zip(*prompts, strict=False)
    return next(i for i, column in enumerate(columns) if len(set(column)) > 1)


def _part(head: str, point: str) -> Request:
    return Request(prompt=Prompt((Segment(text=f"{head}Your point: {point}"),)), max_tokens=1)


def _story(number: int, tokens: int) -> Request:
    """The beginning of a story; no two have more than two tokens in common."""
    text = f"{number + 2} ships left the harbour at dawn, and this is the long story of each:"
    return Request(prompt=Prompt((Segment(text=text),)), max_tokens=tokens, raw=True)


def _checked(backend: LocalBackend, requests: Sequence[Request]) -> None:
    """Raise ValueError unless every answer has all its tokens: the comparison counts on it."""
    made = [done.completion_tokens for done in backend.complete(requests)]
    if made != [request.max_tokens for request in requests]:
        raise ValueError(f"answers ended early, after {made} tokens")


def _one_thread() -> None:
    import torch

    torch.set_num_threads(THREADS)


if __name__ == "__main__":
    main()
