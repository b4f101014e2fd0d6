"""What a batch job makes of a model's speed: its scoring beside the bare model, and beside a loop.

`scoring` is the job's work on blocks of rows, and the scoring pass in it, each beside the model's
own forward pass over the same windows, and nothing else: in whichever batches it is fastest (one
window at a time, windows of like length filled up to the longest of them, or only those that need
little filling up). `loop` is rows a second beside a plain loop over `llmlingua.compress_prompt` on
the same weights, and what is kept of the answers. All ways take their turn on every block, so that
all meet the same machine; a figure is the median of ratios, block by block, with its 95 % interval.

The classifier of the loop is trained here, a few minutes, on passages that are not measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.harness import (
    MODEL,
    Cost,
    Options,
    Row,
    forget,
    in_turns,
    mean_interval,
    options,
    read_lines,
    save,
    show,
    times,
)
from benchmarks.pruning_peers import NAMED, PeerFailed, checkpoint, llmlingua2, peers
from benchmarks.pruning_sets import holds

THREADS = 2
BLOCK = 16
"""Rows of a block: fewer than a job takes by itself, so that there are more blocks to compare."""
SHARE = 0.5
SEED = 5

Ways = dict[str, Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A row: a text, and what must survive in it for a question to be answered."""

    text: str
    question: str
    answers: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> None:
    import torch

    given = options(__doc__ or "", argv)
    if given.data is None:
        raise SystemExit("batch_scoring needs --data DIR, a folder of public evaluation sets")
    torch.set_num_threads(THREADS)
    classifier = trained(given.data, quick=given.quick)
    with TemporaryDirectory() as made:
        folder = Path(made)
        found = {
            "scoring": _once(given, "scoring", lambda: scoring(folder, given, classifier)),
            "loop": _once(given, "loop", lambda: loop(folder, given, classifier)),
        }
    for title, rows in found.items():
        show(title, [{k: v for k, v in row.items() if "wall" not in k} for row in rows])
    save("batch_scoring", given, {"threads": THREADS, "block": BLOCK, "kept": SHARE, **found})
    for part in found:
        _part(given, part).unlink()


def _part(given: Options, name: str) -> Path:
    return given.out / f"batch_scoring.{name}{'.quick' if given.quick else ''}.part"


def _once(given: Options, name: str, measure: Callable[[], list[Row]]) -> list[Row]:
    """What a part came to, also where an earlier run that was broken off had measured it."""
    place = _part(given, name)
    if not place.is_file():
        rows = measure()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(rows))
    found: list[Row] = json.loads(place.read_text())
    return found


def passages(data: Path) -> list[Asked]:
    """Passages of Wikipedia that hold the answer to a question, in an order drawn once."""
    rows = list(read_lines(data / "qa" / "nq-open-oracle-dev.jsonl.gz"))
    found = []
    for i in np.random.default_rng(SEED).permutation(len(rows)):
        told = rows[i]["ctxs"][0]
        one = Asked(f"{told['title']}\n{told['text']}", rows[i]["question"], (*rows[i]["answers"],))
        if holds(one.text, one.answers):
            found.append(one)
    return found


def joined(data: Path, count: int) -> list[Asked]:
    """Rows of one to four passages, each with the question that one of them answers."""
    chance = np.random.default_rng(SEED)
    left = iter(passages(data))
    found = []
    for one in (next(left) for _ in range(count)):
        others = [next(left).text for _ in range(int(chance.integers(4)))]
        others.insert(int(chance.integers(len(others) + 1)), one.text)
        found.append(Asked("\n\n".join(others), one.question, one.answers))
    return found


def paragraphs(data: Path, count: int) -> list[Asked]:
    """Paragraphs of XQuAD as the set has them, one after the other, once for each question."""
    articles = json.loads((data / "qa" / "xquad-en-dev.json").read_text(encoding="utf-8"))["data"]
    found = [
        Asked(told["context"], one["question"], tuple(a["text"] for a in one["answers"]))
        for article in articles
        for told in article["paragraphs"]
        for one in told["qas"]
    ]
    return found[:count]


def trained(data: Path, *, quick: bool) -> Path:
    """A classifier that was taught by the language model; trained once, and kept."""
    from tersely.models import home
    from tersely.registry import trainer
    from tersely.training import Training

    place = home() / "benchmarks" / "batch_scoring" / f"{NAMED}{'-quick' if quick else ''}"
    if not (place / "config.json").is_file():
        texts = [{"text": one.text} for one in passages(data)[-(20 if quick else 160) :]]
        teach = trainer("pruner", steps=3 if quick else 80, max_tokens=160)
        teach.train(Training(rows=texts, out=place))
    return place


# the bare model


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


class Job:
    """The work of a batch job on one block; nothing is remembered from before."""

    def __init__(self, folder: Path, stages: Any, block: Sequence[Asked], **settings: Any) -> None:
        from tersely.middleware.batch import BatchJob
        from tersely.middleware.files import At
        from tersely.middleware.pipeline import Pipeline

        source = folder / "block.jsonl"
        told = [{"text": one.text, "question": one.question} for one in block]
        source.write_text("".join(json.dumps(row) + "\n" for row in told))
        pipeline = Pipeline(stages, **{"budget": SHARE, "model": MODEL} | settings)
        job = BatchJob(
            source=source,
            target=folder / "made.jsonl",
            pipeline=pipeline,
            field="text",
            question_field="question",
        )
        self.work = job.work
        self.block = next(iter(job.files.blocks(At(), len(block))))

    def __call__(self) -> list[str]:
        forget()
        return self.again()

    def again(self) -> list[str]:
        """The same with what is remembered."""
        return _texts(self.work(self.block).target)


def _texts(pieces: Any) -> list[str]:
    return [json.loads(piece)["text"] for piece in pieces]


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


# the loop


def loop(folder: Path, given: Options, classifier: Path) -> list[Row]:
    """Rows a second of the job and of a plain loop over the package, and what both keep."""
    assert given.data is not None
    many = 1 if given.quick else 4
    sets = {
        "passages, each once": joined(given.data, many * BLOCK),
        "paragraphs, each for several questions": paragraphs(given.data, many * BLOCK),
    }
    rows: list[Row] = []
    for name, asked in sets.items():
        rows += _measured(folder, name, asked, classifier)
        show(name, rows[-len(WAYS) :])
    return rows


LONGER = ", as long as the package's"
"""Added to the name of a stage that keeps as many tokens of a block as the package did."""

WAYS = (
    "llmlingua-2 (package), float32",
    "llmlingua-2 (package)",
    "llmlingua2",
    f"llmlingua2{LONGER}",
    "llmlingua (package)",
    "llmlingua",
    f"llmlingua{LONGER}",
    "truncate",
    "random",
    "none",
)
OURS = {
    "llmlingua-2 (package)": "llmlingua2",
    "llmlingua-2 (package), float32": "llmlingua2",
    "llmlingua (package)": "llmlingua",
}
"""Each package's mode, and ours of the same method."""

MATCHED = {"llmlingua-2 (package)": "llmlingua2", "llmlingua (package)": "llmlingua"}


def _measured(folder: Path, name: str, asked: Sequence[Asked], classifier: Path) -> list[Row]:
    """Every way on every block of a set, in turns."""
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    made: dict[str, list[str]] = {way: [] for way in WAYS}
    blocks = [asked[at : at + BLOCK] for at in range(0, len(asked), BLOCK)]
    for i, block in enumerate([blocks[0][:2], *blocks]):  # the first loads the models
        works = _works(folder, block, classifier)
        found: dict[str, list[str]] = {}

        def kept(way: str, work: Callable[[], list[str]], found: Any = found) -> Any:
            return lambda: found.update({way: work()})

        ways = {way: kept(way, works[way]) for way in WAYS if way in works}
        for package, ours in MATCHED.items():
            job = partial(_as_long, folder, block, classifier, ours, found, package)
            ways[f"{ours}{LONGER}"] = kept(f"{ours}{LONGER}", job)
        spent = in_turns({way: ways[way] for way in WAYS}, dict.fromkeys(ways, 1))
        for way in WAYS if i else ():
            costs[way] += spent[way]
            made[way] += found[way]
    return [_told(name, way, asked, made[way], costs) for way in WAYS]


def _works(folder: Path, block: Sequence[Asked], classifier: Path) -> dict[str, Any]:
    """Every way to make the texts of a block shorter."""
    jobs: dict[str, Any] = {}
    for way in ("llmlingua2", "llmlingua", "truncate", "random", "none"):
        (place := folder / way).mkdir(exist_ok=True)
        share = 1.0 if way == "none" else SHARE
        jobs[way] = Job(place, _stage(way, classifier), block, budget=share)
    rivals = {
        "llmlingua-2 (package)": llmlingua2(classifier),
        "llmlingua-2 (package), float32": llmlingua2(classifier, "float32"),
        "llmlingua (package)": peers()["llmlingua (package)"],
    }

    def looped(peer: Any) -> Callable[[], list[str]]:
        def work() -> list[str]:
            made = []
            for one in block:
                try:
                    made.append(peer([one.text], one.question, SHARE))
                except PeerFailed:
                    made.append(one.text)
            return made

        return work

    return jobs | {way: looped(peer) for way, peer in rivals.items()}


def _stage(name: str, classifier: Path) -> Any:
    return {name: {"model": str(classifier)}} if name == "llmlingua2" else name


def _as_long(
    folder: Path,
    block: Sequence[Asked],
    classifier: Path,
    ours: str,
    found: dict[str, list[str]],
    package: str,
) -> list[str]:
    """What ours makes of a block when it keeps as many tokens as a package did."""
    before, after = (sum(_counts(texts)) for texts in ([a.text for a in block], found[package]))
    (place := folder / f"{ours}-longer").mkdir(exist_ok=True)
    return Job(place, _stage(ours, classifier), block, budget=min(after / before, 1.0)).again()


def _counts(texts: Sequence[str]) -> list[int]:
    from tersely.tokens import counter

    return counter(MODEL).many(texts)


def _told(
    name: str, way: str, asked: Sequence[Asked], made: Sequence[str], costs: dict[str, list[Cost]]
) -> Row:
    """A way's pace, what it is to ours of the same method, and what it keeps."""
    before, after = (np.array(_counts(texts)) for texts in ([a.text for a in asked], made))
    ours = costs[OURS.get(way, way)]
    return {
        "rows": name,
        "way": way,
        "n": len(asked),
        "tokens a row": float(before.mean()),
        "rows/s (wall)": len(asked) / sum(wall for _, wall in costs[way]),
        "rows/s (CPU)": len(asked) / sum(cpu for cpu, _ in costs[way]),
        "ours is so many times faster (CPU)": times(costs[way], ours, 0),
        "ours is so many times faster (wall)": times(costs[way], ours, 1),
        "kept": float(after.sum() / before.sum()),
        "answers kept": mean_interval(
            [float(holds(text, one.answers)) for text, one in zip(made, asked, strict=True)]
        ),
    }


if __name__ == "__main__":
    main()
