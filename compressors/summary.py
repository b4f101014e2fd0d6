"""Put summaries in place of texts, made by the pipeline's backend, where that pays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from tersely import __version__
from tersely.compressors.cached import ADDRESS, MEMORY, store_of
from tersely.compressors.extractive import Extractive
from tersely.compressors.memory import key_of
from tersely.compressors.prune import room
from tersely.compressors.store import Store
from tersely.compressors.summarise import FRAME, Summarise, SummarySettings
from tersely.contracts import Context, Request, StageModel
from tersely.errors import BackendError, ConfigError, require
from tersely.kinds import prose
from tersely.models import resolve
from tersely.plans import asked_together
from tersely.prompt import Prompt, Segment
from tersely.protect import fences
from tersely.select import MARK
from tersely.summaries import Summary as Made

MADE = 4
"""Tokens read that one token made costs as much as."""

TOLD = 8
"""Dropped sentences that the report names, each with why."""

SHOWN = 80
"""Characters of a sentence that it shows."""


class Summary(StageModel, SummarySettings):
    """Has texts that are too long summarised by the backend; what the text does not say is dropped.

    Each text becomes a summary of its share of the budget; one in which nothing helps to answer
    the question becomes a mark. Texts with marked passages or code, and all texts where there is
    no backend, where it fails or where a summary can't pay, are summarised by their own sentences
    (`extractive`), which also brings the prompt to its budget exactly; the report tells.

    A summary pays when it spares more tokens, sent `uses` times, than it costs: `price` is what a
    token of the backend costs, in tokens of the model that the prompt goes to, and a token made
    counts as four read. The same text under the same settings is summarised once: summaries are
    kept in `folder` (none given: `cache` beside our models, readable by its owner alone), where
    several processes may share them, up to `megabytes` (0: in memory only). The other settings are
    those of the plan `summarise` (docs/summary.md).
    """

    name = "summary"
    needs = frozenset({"llm"})
    paper = "Xu et al. 2023, https://arxiv.org/abs/2310.04408"

    price: float = Field(default=0.1, ge=0)
    uses: int = Field(default=1, ge=1)
    folder: str = ""
    megabytes: int = Field(default=256, ge=0)

    def ready(self) -> None:
        if self.encoder not in ("", "auto"):
            require("sentence_transformers", extra="rag")
            resolve(self.encoder)
        if self.judge:
            require("torch", "transformers", extra="local")
            resolve(self.judge)
        if store := store_of(self.folder, self.megabytes):
            try:
                store.check()
            except OSError as error:
                raise ConfigError(f"summary: folder {str(store.path.parent)!r}: {error}") from error

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        if context.limit is None or context.tokens(prompt) <= context.limit:
            return prompt
        made = self._summaries(prompt, context)
        texts = {
            i: text or MARK
            for i, text in made.items()
            if context.tokens_of([text])[0] < context.tokens_of([prompt.segments[i].text])[0]
        }
        return Extractive(encoder=self.encoder)(prompt.with_texts(texts), context)

    def _summaries(self, prompt: Prompt, context: Context) -> dict[int, str]:
        """The summaries that pay, by the places of their texts."""
        share = room(prompt, context)
        places = [i for i in prose(prompt) if _is_plain(prompt.segments[i])]
        if context.backend is None:
            context.say("summary: there is no backend, so that sentences of the texts stand in")
            return {}
        aims = {i: self._aim(prompt.segments[i].text, share, context) for i in places}
        jobs = {i: self._job(prompt, i, aims[i], context) for i in places if aims[i]}
        keys = {i: self._key(request, plan, context) for i, (plan, request) in jobs.items()}
        found = {i: text for i, key in keys.items() if (text := self._known(key)) is not None}
        if found:
            context.say(f"summary: {len(found)} made before are used again")
        left = {i: job for i, job in jobs.items() if i not in found and self._pays(job, context)}
        for i, made in self._made(left, context).items():
            found[i] = made.text
            self._keep(keys[i], made.text)
        return found

    def _aim(self, text: str, share: float, context: Context) -> int:
        return int(context.tokens_of([text])[0] * share)

    def _job(
        self, prompt: Prompt, place: int, aim: int, context: Context
    ) -> tuple[Summarise, Request]:
        """How one text is to be summarised."""
        settings = {name: getattr(self, name) for name in SummarySettings.model_fields}
        plan = Summarise(**settings | {"tokens": aim})
        own = Segment(text=prompt.segments[place].text)
        return plan, Request(prompt=Prompt((own,), prompt.question), seed=context.seed)

    def _pays(self, job: tuple[Summarise, Request], context: Context) -> bool:
        """Whether a summary spares more than it costs, as far as can be told before."""
        plan, request = job
        source, made = context.tokens_of([request.prompt.text])[0], plan.tokens or 0
        calls = -(-source // plan.window)
        again = (0 if calls == 1 else made * calls) + self.density * made
        read = source + (calls + self.density) * FRAME + again
        cost = self.price * (read + MADE * (made + again))
        gain = self.uses * (source - made)
        if cost >= gain:
            context.say(
                f"summary: it would cost {cost:.0f} tokens to spare {gain}, so that sentences of"
                " the text stand in"
            )
        return cost < gain

    def _made(
        self, jobs: Mapping[int, tuple[Summarise, Request]], context: Context
    ) -> dict[int, Made]:
        """The summaries of several texts, made side by side; none where the backend fails."""
        if not jobs or context.backend is None:
            return {}
        plans = [plan.steps(request, context) for plan, request in jobs.values()]
        try:
            found = asked_together(plans, context.backend)
        except BackendError as error:
            context.say(f"summary: {error}; sentences of the texts stand in")
            return {}
        made = {i: one for i, one in zip(jobs, found, strict=True) if isinstance(one, Made)}
        for note in _told([*made.values()]):
            context.say(note)
        return made

    def _key(self, request: Request, plan: Summarise, context: Context) -> bytes | None:
        """What a summary is known by; None where the backend does not tell what it is."""
        told = repr(context.backend)
        if ADDRESS.search(told):
            return None
        counter = f"{context.count.name} {context.seed}"
        return key_of(
            __version__, told, repr(plan), counter, request.prompt.question, request.prompt.text
        )

    def _known(self, key: bytes | None) -> str | None:
        if key is None:
            return None
        if (value := MEMORY.get(key)) is None and (store := self._store()):
            value = store.get(key)
        if value is None:
            return None
        MEMORY.put(key, value)
        return str(json.loads(value))

    def _keep(self, key: bytes | None, text: str) -> None:
        if key is None:
            return
        value = json.dumps(text).encode()
        MEMORY.put(key, value)
        if store := self._store():
            store.put(key, value)

    def _store(self) -> Store | None:
        return store_of(self.folder, self.megabytes)


def _is_plain(segment: Segment) -> bool:
    """Whether nothing in a text must reach the model as it is."""
    return not segment.spans and not fences(segment.text)


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= SHOWN else f"{sentence[: SHOWN - 1]}…"


def _told(made: Sequence[Made]) -> Iterator[str]:
    """What the report tells of summaries."""
    accounts = [one.account for one in made]
    spent = sum(one.spent for one in accounts)
    saved = sum(one.saved for one in accounts)
    calls = sum(len(one.calls) for one in accounts)
    if calls:
        yield f"summary: {calls} calls, {spent} tokens spent to spare {saved} each time it is sent"
    dropped = [told for one in made for told in one.dropped]
    for told in dropped[:TOLD]:
        yield f"summary: dropped {_short(told.was)!r}: {told.reason}"
    if (more := len(dropped) - TOLD) > 0:
        yield f"summary: {more} more sentences were dropped that the text does not bear out"
    for account in accounts:
        yield from (f"summary: {note}" for note in account.notes)
