"""Ways to summarise a meeting: ours, the plain ones, and what packages do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from time import perf_counter
from typing import Any, Literal

import regex

from benchmarks.harness import MODEL
from benchmarks.pruning_peers import PEERS
from benchmarks.summary_sets import Item
from tersely.compressors.summarise import Summarise
from tersely.contracts import Backend, Completion, Context, Request
from tersely.plans import asked_together
from tersely.prompt import Prompt, Segment
from tersely.registry import backend, stage
from tersely.tokens import counter
from tersely.units import split

Group = Literal["words", "meaning", "models"]
"""What reads nothing but words, what has an encoder, what has a language model."""

OURS = "extractive, by words"
ABSTRACTIVE = "summarise (SmolLM2)"
LANGCHAIN = "LangChain map_reduce (SmolLM2)"
LLMLINGUA = "LLMLingua (SmolLM2)"

COUNT = counter("gpt-4o")


@dataclass(frozen=True, slots=True)
class Method:
    """A way to summarise several items at once, to a share of their tokens.

    `few` is for how many questions of the shortest meetings it is asked; 0: for all.
    """

    name: str
    group: Group
    make: Callable[[Sequence[Item], float], list[str]]
    few: int = 0


def _by_stage(name: str, **settings: Any) -> Callable[[Sequence[Item], float], list[str]]:
    one = stage(name, **settings)

    def make(items: Sequence[Item], ratio: float) -> list[str]:
        made: list[str] = []
        for item in items:
            prompt = Prompt((Segment(text=item.meeting),), question=item.question)
            context = Context(count=COUNT)
            made.append(one(prompt, context.within(_limit(item, ratio))).text)
        return made

    return make


def _limit(item: Item, ratio: float) -> int:
    return int(COUNT(item.meeting) * ratio)


def _filled(texts: Sequence[str], order: Sequence[int], left: int) -> str:
    """The first texts in an order that fit, as they stood."""
    kept: list[int] = []
    for i in order:
        size = COUNT(texts[i]) + 1
        if size <= left:
            kept.append(i)
            left -= size
    return "\n".join(texts[i] for i in sorted(kept))


def _longest(items: Sequence[Item], ratio: float) -> list[str]:
    """The longest sentences: no method at all, and hard to beat by shared words."""
    made: list[str] = []
    for item in items:
        texts = split(item.meeting, "sentence").texts
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        made.append(_filled(texts, order, _limit(item, ratio)))
    return made


def _textrank(items: Sequence[Item], ratio: float) -> list[str]:
    """The best sentences by sumy's ranking."""
    made: list[str] = []
    for item in items:
        texts, ranks = _ranked(item.meeting)
        order = sorted(range(len(texts)), key=lambda i: -ranks[i])
        made.append(_filled(texts, order, _limit(item, ratio)))
    return made


@cache
def _ranked(meeting: str) -> tuple[list[str], list[float]]:
    from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
    from sumy.summarizers.text_rank import TextRankSummarizer

    class Words:
        def to_words(self, text: str) -> tuple[str, ...]:
            return tuple(regex.findall(r"\p{L}+", text))

    texts = split(meeting, "sentence").texts
    sentences = [Sentence(text, Words()) for text in texts]
    ranking = TextRankSummarizer()
    ranking.stop_words = ("the", "a", "an", "of", "to", "and", "in", "is", "it", "that", "i", "you")
    found = ranking.rate_sentences(ObjectDocumentModel([Paragraph(sentences)]))
    return texts, [found[one] for one in sentences]


def _llmlingua(items: Sequence[Item], ratio: float) -> list[str]:
    return [_pruned(item.meeting, ratio) for item in items]


@cache
def _pruned(meeting: str, ratio: float) -> str:
    """What the package keeps; at its defaults it does not ask for the question."""
    return PEERS["llmlingua (package)"]([meeting], "", ratio)


@dataclass(slots=True)
class Timed:
    """A backend, and the seconds that it took to answer."""

    inner: Backend
    seconds: float = 0.0
    answers: dict[tuple[str, float | None], Completion] = field(default_factory=dict)
    """Every answer by what was asked."""

    @property
    def capabilities(self) -> Any:
        return self.inner.capabilities

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        started = perf_counter()
        made = list(self.inner.complete(requests))
        self.seconds += perf_counter() - started
        pairs = zip(requests, made, strict=True)
        self.answers.update({heard_by(request): one for request, one in pairs})
        return made


def heard_by(request: Request) -> tuple[str, float | None]:
    """What an answer is known by: what was asked, and how."""
    return request.prompt.text, request.temperature


@cache
def embedded() -> Backend:
    """The embedded model, in the precision that decodes fastest here."""
    made: Backend = backend("local", model=MODEL, precision=PRECISION)
    return made


PRECISION = "auto"


def _summarised(items: Sequence[Item], ratio: float) -> list[str]:
    """Our plan, with all that it does besides timed."""
    timed: Any = Timed(embedded())
    context = Context(count=COUNT, backend=timed)
    plan = Summarise(encoder="", ratio=ratio)
    asked = [Request(prompt=Prompt((Segment(text=one.meeting),), one.question)) for one in items]
    started = perf_counter()
    found = asked_together([plan.steps(one, context) for one in asked], timed)
    OVERHEAD.append((perf_counter() - started - timed.seconds, timed.seconds))
    return [one.text for one in found]


OVERHEAD: list[tuple[float, float]] = []
"""Seconds beside the model, and of the model."""

CHUNK = 3000
"""Tokens of the pieces that LangChain's chain reads, as its own bound for what is combined."""

MAPPED = 'Write a concise summary of the following that answers the question "{question}":\n\n'
MAPPED += '\n"{text}"\n\n\nCONCISE SUMMARY:'
"""LangChain's own words, and the question."""


def _langchain(items: Sequence[Item], ratio: float) -> list[str]:
    """LangChain's map_reduce summariser on the same backend, its calls side by side."""
    from langchain_classic.chains.summarize import load_summarize_chain
    from langchain_core.documents import Document
    from langchain_core.prompts import PromptTemplate
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    prompt = PromptTemplate.from_template(MAPPED)
    cutter = RecursiveCharacterTextSplitter(
        chunk_size=CHUNK, chunk_overlap=0, length_function=COUNT
    )
    runs: list[Callable[[], str]] = []
    for item in items:
        chain = load_summarize_chain(
            _chat(_limit(item, ratio)),
            "map_reduce",
            map_prompt=prompt,
            combine_prompt=prompt,
            token_max=CHUNK,
        )
        pieces = [Document(page_content=text) for text in cutter.split_text(item.meeting)]
        given = {"input_documents": pieces, "question": item.question}
        runs.append(partial(_asked, chain, given))
    return _side_by_side(runs)


def _asked(chain: Any, given: dict[str, Any]) -> str:
    return str(chain.invoke(given)["output_text"])


def _side_by_side(runs: Sequence[Callable[[], str]]) -> list[str]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max(len(runs), 1)) as pool:
        return list(pool.map(lambda run: run(), runs))


def _chat(most: int) -> Any:
    """The embedded model as a chat model of LangChain's, with so many tokens at most."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Embedded(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return MODEL

        def get_num_tokens(self, text: str) -> int:
            return COUNT(text)

        def _generate(self, messages: Any, *_: Any, **__: Any) -> Any:
            text = "\n\n".join(str(one.content) for one in messages)
            request = Request(prompt=Prompt((Segment(text=text),), turns=1), max_tokens=most)
            (made,) = embedded().complete([request])
            message = AIMessage(content=made.text)
            return ChatResult(generations=[ChatGeneration(message=message)])

    return Embedded()


FEW, SEVERAL = 4, 10
"""Questions for what takes a model minutes: the second where a meeting is read but once."""

METHODS: tuple[Method, ...] = (
    Method(OURS, "words", _by_stage("extractive", encoder="")),
    Method("extractive, ranked alone", "words", _by_stage("extractive", encoder="", diversity=0)),
    Method("query, by words", "words", _by_stage("query", encoder="")),
    Method("lead", "words", _by_stage("truncate", unit="sentence")),
    Method("random", "words", _by_stage("random", unit="sentence")),
    Method("longest sentences", "words", _longest),
    Method("TextRank (sumy)", "words", _textrank),
    Method("extractive, with MiniLM", "meaning", _by_stage("extractive", encoder="minilm")),
    Method("query, with MiniLM", "meaning", _by_stage("query", encoder="minilm")),
    Method(ABSTRACTIVE, "models", _summarised, FEW),
    Method(LANGCHAIN, "models", _langchain, FEW),
    Method(LLMLINGUA, "models", _llmlingua, SEVERAL),
)
"""What is measured; `OURS` is what the others are set beside."""
