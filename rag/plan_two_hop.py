"""Search, see what is still missing, and search for that."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import regex
from pydantic import Field

from tersely.contracts import Context, Request
from tersely.documents import named_in, titles_of
from tersely.errors import BackendError
from tersely.plans import Reply, Step, Steps
from tersely.rag.active import Active
from tersely.rag.answering import answered, told
from tersely.rag.desk import Desk
from tersely.rag.doubt import facts
from tersely.retrieval import Passage
from tersely.units import split

BRIDGE = (
    "Do not answer yet. Write the one search query that finds what the passages still lack for the"
    " answer: names, no explanation. If nothing is lacking, write: nothing"
)

BEST = 2
"""Passages of the first search whose names lead on."""

NAMES = 6
"""Names that a query is made of where no model is asked for it."""

ENOUGH = frozenset({"", "nothing", "none", "no"})
"""Queries that say that no search is needed."""

HEADED = regex.compile(r"(?i)^[\s\"'`*-]*(?:(?:search )?query\s*:)?[\s\"'`*]*|[\s\"'`*.]+$")


class TwoHop(Active):
    """Searches twice: for the question, and for what the first passages lead to.

    A title that the best passages name is searched for as it is. Where they name none, the model
    is asked for the next query, which must not hold the answer; where that can't be paid, names
    in the best passages are taken. `bridge` fixes one of these. The passages of the first search
    get half of the room and stay where they are, so that the second prompt begins as the first.
    """

    name = "two_hop"
    paper = "Khattab et al. 2022, https://arxiv.org/abs/2212.14024"

    k: int = Field(default=4, ge=1)
    bridge: Literal["auto", "ask", "names"] = "auto"
    query: str = BRIDGE
    query_tokens: int = Field(default=32, ge=1)

    def steps(self, request: Request, context: Context, /) -> Steps:
        desk = self.desk(request, context)
        found = yield from desk.search(desk.question, self.k)
        if first := desk.related(found):
            desk.bring(first, 0.5)
            query = yield from self._query(desk, first)
            if query:
                second = yield from desk.search(query, self.k)
                desk.bring(desk.related(second, query))
        text, heard = yield from told(desk)
        return answered(desk, text, heard)

    def _query(self, desk: Desk, found: Sequence[Passage]) -> Generator[Step, Reply, str]:
        """What to search for next; "" where nothing is lacking."""
        if self.bridge != "ask" and (titles := named(found, desk.question)):
            desk.tell(f"second search, for what the first passages name: {'; '.join(titles)}")
            return " ".join([desk.question, *titles])
        if self.bridge != "names":
            asked = yield from self._asked(desk)
            if asked is not None:
                desk.tell(f"second search: {asked}" if asked else "no second search is needed")
                return asked
        best = " ".join(one.text for one in found[:BEST])
        names = sorted(facts(best, desk.question), key=lambda name: best.lower().index(name))
        desk.tell(f"second search, for names in the best passages: {'; '.join(names[:NAMES])}")
        return " ".join([desk.question, *names[:NAMES]])

    def _asked(self, desk: Desk) -> Generator[Step, Reply, str | None]:
        """The model's next query; None where it can't be had."""
        request = replace(
            desk.asked(self.query), max_tokens=self.query_tokens, temperature=0.0, stop=("\n\n",)
        )
        try:
            answers = yield from desk.purse.ask([request], "query", 0.5)
        except BackendError as error:
            desk.tell(f"no query from the model: {error}")
            return None
        if not answers:
            return None
        lines = answers[0].text.strip().splitlines()
        query = HEADED.sub("", lines[0] if lines else "")
        return "" if query.lower() in ENOUGH else query


def named(found: Sequence[Passage], question: str) -> list[str]:
    """The titles of other passages that the question or the best passages name."""
    titles = [_title(one) for one in found]
    best = "\n".join([question, *(one.text for one in found[:BEST])])
    there = np.flatnonzero(named_in(best, titles)).tolist()
    known = {titles[i] for i in range(min(BEST, len(titles)))}
    return list(dict.fromkeys(titles[i] for i in there if titles[i] not in known))


def _title(passage: Passage) -> str:
    """A passage's title: as it is known, or as its text begins with one."""
    told = passage.metadata.get("title")
    if isinstance(told, str) and told.strip():
        return told.strip()
    titles = titles_of([split(passage.text, "sentence")])
    return titles[0] if titles else ""
