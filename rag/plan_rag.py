"""Retrieve, pack, prepend, ask: one search and one call."""

from __future__ import annotations

from tersely.contracts import Context, Request
from tersely.plans import Steps
from tersely.rag.active import Active
from tersely.rag.answering import answered, told


class Rag(Active):
    """Answers with the passages that a search finds, or without any where none has to do with it.

    One call. The answer is shown as it comes, and its sentences are checked against the passages.
    """

    name = "rag"
    paper = "Lewis et al. 2020, https://arxiv.org/abs/2005.11401"

    def steps(self, request: Request, context: Context, /) -> Steps:
        desk = self.desk(request, context)
        found = yield from desk.search(desk.question, self.k)
        desk.bring(desk.related(found))
        text, heard = yield from told(desk)
        return answered(desk, text, heard)
