"""One summary in the making: what is asked, what is kept of the answers, and what they cost."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tersely import plans
from tersely.account import Call
from tersely.compressors.extractive import Extractive
from tersely.compressors.sentences import vectors
from tersely.compressors.summary_words import said, told
from tersely.contracts import Completion, Context, Request
from tersely.faithful import Entailment, Faithful, Told, faithful
from tersely.known import Known
from tersely.plans import Reply, Step
from tersely.prompt import Prompt, Segment
from tersely.select import MARK
from tersely.summaries import Route, Summary, SummaryAccount

OVER = 1.5
"""How much longer than its aim an answer may be before it is cut off."""


@dataclass(slots=True, kw_only=True)
class Run:
    """What a plan works with. `spoke` tells whether the model said anything but that nothing helps.

    `target` is the most tokens that the summary may have.
    """

    request: Request
    context: Context
    text: str
    question: str
    size: int
    target: int
    guard: bool
    entailment: float | None
    encoder: str
    route: Route = "single"
    spoke: bool = False
    calls: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dropped: dict[str, Told] = field(default_factory=dict)
    model: str = ""
    _known: dict[str, Known] = field(default_factory=dict)

    def tell(self, note: str) -> None:
        """Tell the caller which way was taken, and why."""
        if note not in self.notes:
            self.notes.append(note)

    def tokens(self, text: str) -> int:
        """The tokens of a text."""
        return self.context.tokens_of([text])[0]

    def ask(
        self, template: str, values: Sequence[Mapping[str, str]], aims: Sequence[int], purpose: str
    ) -> Generator[Step, Reply, list[str]]:
        """The answers to a template with several values, side by side; `aims` are their tokens."""
        self.context.check()
        requests = [
            self._request(told(template, tokens=aim, **some), int(aim * OVER) + 16)
            for some, aim in zip(values, aims, strict=True)
        ]
        heard = yield from plans.ask(requests)
        for request, one in zip(requests, heard, strict=True):
            self._note(purpose, request, one)
        texts = [said(one) for one in heard]
        self.spoke = self.spoke or any(texts)
        return texts

    def checked(self, summary: str, source: str) -> str:
        """What is left of a summary, by its source."""
        if not summary or not self.guard:
            return summary
        found = self._faithful(summary, source)
        if found.refused:
            self.tell(f"refused: {found.refused}")
            return self.pruned(source, self.target)
        for one in found.dropped:
            self.dropped.setdefault(one.was, one)
        return found.text

    def pruned(self, text: str, limit: int) -> str:
        """The best sentences of a text, as many as the limit allows; "" where that is none."""
        prompt = Prompt((Segment(text=text),), self.question)
        made = Extractive(encoder=self.encoder)(prompt, self.context.within(limit))
        return "" if made.segments[0].text == MARK else made.segments[0].text

    def answer(self, text: str) -> Summary:
        """The summary with what it rests on and what it cost."""
        found = faithful(text, self._source(self.text), question=self.question, size=self.tokens)
        account = SummaryAccount(
            calls=tuple(self.calls),
            exact=self.context.count.exact,
            notes=tuple(self.notes),
            route=self.route,
            source=self.size,
            made=self.tokens(text),
        )
        return Summary(
            text=text,
            prompt_tokens=account.prompt,
            cached_tokens=account.cached,
            completion_tokens=account.completion,
            model=self.model,
            source=self.text,
            sentences=found.sentences,
            dropped=tuple(self.dropped.values()),
            coverage=found.coverage,
            account=account,
        )

    def _faithful(self, summary: str, source: str) -> Faithful:
        entails = None
        if self.entailment is not None and self.encoder:
            read = lambda texts: vectors(texts, self.encoder, self.context)  # noqa: E731
            entails = Entailment(read, self.entailment)
        return faithful(summary, self._source(source), size=self.tokens, entails=entails)

    def _source(self, text: str) -> Known:
        if text not in self._known:
            self._known[text] = Known.of(text)
        return self._known[text]

    def _request(self, text: str, most: int) -> Request:
        turn = Segment(text=text, kind="instruction", locked=True, path=("summary",))
        return replace(self.request, prompt=Prompt((turn,), turns=1), max_tokens=most)

    def _note(self, purpose: str, request: Request, heard: Completion) -> None:
        self.model = heard.model or self.model
        self.calls.append(
            Call(
                purpose=purpose,
                prompt=self.context.tokens(request.prompt),
                completion=heard.completion_tokens or self.tokens(heard.text),
                cached=heard.cached_tokens,
            )
        )
