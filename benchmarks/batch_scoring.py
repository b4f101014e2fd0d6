"""What a batch job makes of a model's speed: its scoring beside the bare model, and beside a loop.

`scoring` is the job's work on blocks of rows, the scoring pass in it, and the same rows one by one,
each beside the model's own forward pass over the same windows, batched by length: nothing but the
model. `loop` is rows a second beside a plain loop over `llmlingua.compress_prompt` with the same
weights, and what is kept of the answers. All ways take their turn on every block, so that all meet
the same machine; a figure is the median of ratios, block by block, with its 95 % interval.

The classifier of the loop is trained here, a few minutes, on passages that are not measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
BLOCK = 32
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
            "scoring": scoring(folder, given, classifier),
            "loop": loop(folder, given, classifier),
        }
    for title, rows in found.items():
        show(title, [{k: v for k, v in row.items() if "wall" not in k} for row in rows])
    save("batch_scoring", given, {"threads": THREADS, "block": BLOCK, "kept": SHARE, **found})


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
    """The job's work, its scoring, and rows one by one, beside the bare model."""
    random = checkpoint(folder, layers=2 if given.quick else 12)
    assert given.data is not None
    asked = joined(given.data, (1 if given.quick else 4) * BLOCK)
    blocks = [asked[at : at + BLOCK] for at in range(0, len(asked), BLOCK)]
    cases = {
        "llmlingua2, MiniLM": ("llmlingua2", str(classifier)),
        "llmlingua2, mBERT's size": ("llmlingua2", str(random)),
        "selective_context, SmolLM2-135M": ("selective_context", MODEL),
    }
    rows: list[Row] = []
    for name, (stage, model) in cases.items():
        rows += _beside(folder, name, {stage: {"model": model}}, blocks)
        show(name, rows[-3:])
    return rows


def _beside(folder: Path, name: str, stage: Any, blocks: Sequence[Sequence[Asked]]) -> list[Row]:
    """A stage on every block, each way once a block."""
    ((recipe, settings),) = stage.items()
    read = _classified if recipe == "llmlingua2" else _read
    costs: dict[str, list[Cost]] = {}
    tokens = 0
    for i, block in enumerate([blocks[0][:4], *blocks]):  # the first loads the models
        job = Job(folder, stage, block)
        score, bare, size = read([one.text for one in block], settings["model"])
        ways: Ways = {"job": job, "scoring": score, "row by row": job.alone, "bare": bare}
        if i % 2:
            ways = dict(reversed(ways.items()))
        spent = in_turns(ways, dict.fromkeys(ways, 1))
        if i:
            tokens += size
            for way in spent:
                costs.setdefault(way, []).extend(spent[way])
    bare_seconds = sum(wall for _, wall in costs["bare"])
    return [
        {
            "model": name,
            "way": way,
            "blocks": len(blocks),
            "tokens": tokens,
            "tokens/s (wall)": tokens / sum(wall for _, wall in costs[way]),
            "bare tokens/s (wall)": tokens / bare_seconds,
            "of the bare model's pace (CPU)": times(costs["bare"], costs[way], 0),
            "of the bare model's pace (wall)": times(costs["bare"], costs[way], 1),
        }
        for way in ("scoring", "job", "row by row")
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
        self.work, self.files = job.work, job.files
        self.block = next(iter(job.files.blocks(At(), len(block))))

    def __call__(self) -> list[str]:
        forget()
        return _texts(self.work(self.block).target)

    def alone(self) -> list[str]:
        """The same, row by row."""
        forget()
        made = [self.work(row).target for row in self.files.alone(self.block)]
        return _texts(piece for pieces in made for piece in pieces)


def _texts(pieces: Any) -> list[str]:
    return [json.loads(piece)["text"] for piece in pieces]


Reading = tuple[Callable[[], Any], Callable[[], None], int]
"""The scoring of some texts, the bare model over their windows, and how many tokens they have."""


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
    batches = [padded(batch, classifier) for batch in _batched(inputs, 4096)]

    def bare() -> None:
        with torch.inference_mode():
            for ids, mask in batches:
                classifier.model(input_ids=ids, attention_mask=mask)

    def score() -> None:
        forget()
        chances_of(texts, name, _context())

    return score, bare, sum(map(len, inputs))


def _read(texts: Sequence[str], name: str) -> Reading:
    import torch

    from tersely.compressors.self_information import opening, surprise, windows
    from tersely.weights import causal_lm, encode

    lm = causal_lm(name)
    first = np.array([opening(lm)])
    cut = [w for i, text in enumerate(texts) for w in windows(i, encode(text, lm)[0], first, lm)]
    batches = []
    for batch in _batched([window.ids for window in cut], 2048):
        sizes = np.array([len(one) for one in batch])
        mask = np.arange(sizes.max()) < sizes[:, None]
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = np.concatenate(batch)
        batches.append((torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))))

    def bare() -> None:
        with torch.inference_mode():
            for ids, mask in batches:
                lm.model(ids, attention_mask=mask, use_cache=False)

    def score() -> None:
        forget()
        surprise(texts, name, _context())

    return score, bare, sum(len(window.ids) for window in cut)


def _batched(inputs: Sequence[Any], most: int) -> Iterator[list[Any]]:
    """Inputs in batches, those of like length together, as many as fit."""
    batch: list[Any] = []
    for one in sorted(inputs, key=len):
        if batch and (len(batch) + 1) * len(one) > most:
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
    many = 1 if given.quick else 3
    sets = {
        "passages, each once": joined(given.data, many * BLOCK),
        "paragraphs, each for several questions": paragraphs(given.data, many * BLOCK),
    }
    rows: list[Row] = []
    for name, asked in sets.items():
        rows += _measured(folder, name, asked, classifier)
        show(name, rows[-len(WAYS) :])
    return rows


WAYS = (
    "llmlingua2",
    "llmlingua-2 (package)",
    "llmlingua-2 (package), float32",
    "llmlingua",
    "selective_context",
    "llmlingua (package)",
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

        ways = {way: kept(way, works[way]) for way in (WAYS if i % 2 else WAYS[::-1])}
        spent = in_turns(ways, dict.fromkeys(ways, 1))
        for way in WAYS if i else ():
            costs[way] += spent[way]
            made[way] += found[way]
    return [_told(name, way, asked, made[way], costs) for way in WAYS]


def _works(folder: Path, block: Sequence[Asked], classifier: Path) -> dict[str, Any]:
    """Every way to make the texts of a block shorter."""
    stages: dict[str, Any] = {
        "llmlingua2": {"llmlingua2": {"model": str(classifier)}},
        "llmlingua": "llmlingua",
        "selective_context": "selective_context",
        "truncate": "truncate",
        "random": "random",
        "none": "none",
    }
    jobs: dict[str, Any] = {}
    for way, stage in stages.items():
        (place := folder / way).mkdir(exist_ok=True)
        jobs[way] = Job(place, stage, block, budget=1.0 if way == "none" else SHARE)
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


def _told(
    name: str, way: str, asked: Sequence[Asked], made: Sequence[str], costs: dict[str, list[Cost]]
) -> Row:
    """A way's pace, what it is to ours of the same method, and what it keeps."""
    from tersely.tokens import counter

    count = counter(MODEL)
    before, after = (np.array(count.many(texts)) for texts in ([a.text for a in asked], made))
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
