"""One summary in the making: what is asked, what is kept of the answers, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tersely import plans
from tersely.account import Call
from tersely.compressors.extractive import Extractive
from tersely.compressors.summary_words import said, told
from tersely.contracts import Completion, Context, Request
from tersely.faithful import Faithful, Told, faithful
from tersely.known import Known
from tersely.plans import Reply, Step
from tersely.prompt import Prompt, Segment
from tersely.select import MARK
from tersely.summaries import Route, Summary, SummaryAccount

OVER = 1.5
"""How much longer than its aim an answer may be before it is cut off."""


@dataclass(slots=True, kw_only=True)
class Run:
    """What a plan works with.

    `target` is the most tokens that the summary may have. `spoke` tells whether the model said
    anything but that nothing helps, and `said` whether the caller was shown something of it.
    """

    request: Request
    context: Context
    text: str
    question: str
    size: int
    target: int
    guard: bool
    entails: Callable[[str, str], bool] | None
    encoder: str
    route: Route = "single"
    spoke: bool = False
    said: bool = False
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
        pairs = zip(values, aims, strict=True)
        requests = [self.asked(template, some, aim) for some, aim in pairs]
        answers = yield from plans.ask(requests)
        for request, one in zip(requests, answers, strict=True):
            self.heard(purpose, request, one)
        return [said(one) for one in answers]

    def asked(self, template: str, values: Mapping[str, str], aim: int) -> Request:
        """A request for a summary of `aim` tokens, roughly."""
        text = told(template, tokens=aim, **values)
        turn = Segment(text=text, kind="instruction", locked=True, path=("summary",))
        most = int(aim * OVER) + 16
        return replace(self.request, prompt=Prompt((turn,), turns=1), max_tokens=most)

    def heard(self, purpose: str, request: Request, answer: Completion) -> None:
        """Note what a call cost, and whether it said anything."""
        self.spoke = self.spoke or bool(said(answer))
        self.model = answer.model or self.model
        self.calls.append(
            Call(
                purpose=purpose,
                prompt=self.context.tokens(request.prompt),
                completion=answer.completion_tokens or self.tokens(answer.text),
                cached=answer.cached_tokens,
            )
        )

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
        known = self._source(source)
        return faithful(summary, known, size=self.tokens, entails=self.entails)

    def _source(self, text: str) -> Known:
        if text not in self._known:
            self._known[text] = Known.of(text)
        return self._known[text]
