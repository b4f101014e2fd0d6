"""What is measured when pruning is timed: the methods, and the text they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import MODEL, THREADS, Options, cut_to, forget, manual
from benchmarks.pruning_peers import AS_LOADED, llmlingua2, peers
from tersely.weights import Precision

KEPT = 0.25
BARE = "one forward pass"
RECIPES = (
    "llmlingua",
    "longllmlingua",
    "selective_context",
    "llmlingua2",
    "query",
    "attention",
    "recomp",
    "lexical",
    "truncate",
    "random",
    "none",
)
PACKAGES = {
    "llmlingua (package)": "llmlingua",
    "longllmlingua (package)": "longllmlingua",
    "selective-context (package)": "selective_context",
    "llmlingua-2 (package)": "llmlingua2",
}
"""Each package and the recipe of ours that does the same. LLMLingua-2 has random weights."""

LOADED = f", {AS_LOADED}"
"""Added to the name of a package that loads its model by its own default for a CPU."""

RIVALS = PACKAGES | {f"{name}{LOADED}": ours for name, ours in PACKAGES.items()}
"""Each package twice: on the very weights that ours read, and as it loads them by itself."""

PASSAGE = 600
"""Characters of a passage of the manual: as long as those of Natural Questions."""

QUESTION = "When is an assert statement executed?"
WARM = 1000
"""Characters that everything reads once beforehand, so that its models are loaded."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Documents of so many tokens together, and a question about one of them."""

    tokens: int
    documents: tuple[str, ...]
    question: str

    @property
    def text(self) -> str:
        return "\n\n".join(self.documents)


@dataclass(slots=True)
class Attempt:
    """One method at work. It says why it failed, and is not tried again then."""

    work: Callable[[], str]
    made: str = ""
    failed: str = ""

    def __call__(self) -> None:
        if not self.failed:
            try:
                self.made = self.work()
            except Exception as error:  # whatever it is, the row tells it
                self.failed = str(error) or type(error).__name__


def asked_for(given: Options, size: int) -> Asked:
    """Passages of so many tokens: of Natural Questions where the data is at hand."""
    passages, question = _passages(given, size)
    text, _ = cut_to(size, "\n\n".join(passages), ready())
    documents, at = [], 0
    for passage in passages:
        documents.append(text[at : at + len(passage)])
        at += len(passage) + 2
    return Asked(size, tuple(one for one in documents if one.strip()), question)


def begun(asked: Asked) -> Asked:
    """The first documents, to load with what will be measured."""
    chosen: list[str] = []
    for one in asked.documents:
        if sum(map(len, chosen)) < WARM:
            chosen.append(one)
    return Asked(0, tuple(chosen), asked.question)


def works(asked: Asked, classifier: str) -> dict[str, Callable[[], str]]:
    """Every method: what it leaves of the documents. Ours start with nothing remembered."""
    from tersely.middleware.pipeline import compress

    def ours(name: str) -> Callable[[], str]:
        stage = {name: {"model": classifier}} if name == "llmlingua2" else name
        settings: dict[str, Any] = {"question": asked.question, "model": MODEL}
        settings |= {"budget": KEPT, "strict": True} if name != "none" else {"budget": 1.0}

        def work() -> str:
            forget()
            return str(compress(asked.text, stage, **settings).output)

        return work

    def theirs(name: str) -> Callable[[], str]:
        precision: Precision = AS_LOADED if name.endswith(LOADED) else "auto"
        package = name.removesuffix(LOADED)
        peer = peers(precision).get(package) or llmlingua2(Path(classifier), precision)
        return lambda: peer(asked.documents, asked.question, KEPT)

    return (
        {BARE: _bare(asked)}
        | {name: ours(name) for name in RECIPES}
        | {name: theirs(name) for name in RIVALS}
    )


def ready() -> Any:
    """The language model, loaded, on as many threads as all get."""
    import torch

    from tersely.weights import causal_lm

    torch.set_num_threads(THREADS)
    return causal_lm(MODEL)


def _bare(asked: Asked) -> Callable[[], str]:
    """The model reading the text once, with all it says about the next tokens."""
    import torch

    from tersely.weights import causal_lm

    lm = causal_lm(MODEL)
    ids = torch.tensor([lm.tokenizer(asked.text)["input_ids"]]).to(lm.device)

    def work() -> str:
        with torch.no_grad():
            lm.model(ids)
        return ""

    return work


def _passages(given: Options, size: int) -> tuple[list[str], str]:
    """More passages than are needed, and the question that comes with them."""
    if given.data:
        from benchmarks.pruning_sets import items

        found = items("nq", given.data, "test", 1 + size // 1000)
        return [one for item in found for one in item.documents], found[0].question
    passages = [""]
    for paragraph in "\n\n".join(manual()).split("\n\n"):
        if len(passages[-1]) + len(paragraph) < PASSAGE:
            passages[-1] += "\n" + paragraph
        else:
            passages.append(paragraph)
    return [one.strip("\n") for one in passages if one.strip()], QUESTION
