"""Have a text summarised by any backend, and keep of the summary only what the text says."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from math import ceil
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from tersely import plans
from tersely.compressors.portions import by_topic, portions
from tersely.compressors.sentences import AUTO, chosen, vectors
from tersely.compressors.summary_aloud import aloud
from tersely.compressors.summary_density import denser
from tersely.compressors.summary_run import Run
from tersely.compressors.summary_words import ASKED, JOINED, PLAIN, REFINED, SHORTER, focus
from tersely.contracts import Context, Request
from tersely.errors import ConfigError
from tersely.faithful import Entailment
from tersely.inference import Inference
from tersely.kinds import prose
from tersely.plans import Reply, Step, Steps
from tersely.summaries import Route

REFINES_TO = 3
"""Portions up to which a text is summarised one after the other, where nothing runs in parallel."""

LEAST = 24
"""Tokens that the summary of a portion may have at least."""

FRAME = 160
"""Tokens kept free for what a model is told about its task."""

LIKELY = 0.5
"""The chance from which a sentence follows from its source, unless another one is set."""

Texts = Generator[Step, Reply, str]
Entails = Callable[[str, str], bool]


class SummarySettings(BaseModel):
    """How a text is summarised.

    `route` "auto" takes one call where the text fits `window`, the tokens that one call may read
    and make; else its parts are summarised side by side and then together ("map_reduce") or, where
    there are but three and the backend does one thing at a time, one after the other, each with the
    summary so far ("refine"). "clusters" summarises what belongs together, topic by topic, side by
    side (SemanticCompression). With a question the summary is about that, and it is empty where
    nothing in the text helps (RECOMP, abstractive).

    A summary that is too long is asked for again, shorter, `retries` times; one that is not is
    rewritten `density` times so that it tells more in the same length (Chain of Density). What is
    too long then loses its least sentences: none is ever cut. With `guard`, what the text does not
    say is mended or dropped (see `tersely.faithful`), and with `entailment` also what does not
    follow from what it rests on: by a cosine of `encoder` or, where `judge` names one (a folder or
    hub id), by the chance that a model of natural language inference gives it. Where nothing is
    left though something was said, sentences of the text stand in (`extractive`), unless
    `fallback` is off.
    """

    route: Literal["auto", "single", "map_reduce", "refine", "clusters"] = "auto"
    window: int = Field(default=4096, ge=512)
    retries: int = Field(default=1, ge=0)
    density: int = Field(default=0, ge=0)
    guard: bool = True
    entailment: float | None = Field(default=None, ge=-1, le=1)
    encoder: str = AUTO
    judge: str = ""
    fallback: bool = True


class Summarise(SummarySettings):
    """Summarises the open texts of a request, by one call or many.

    The summary has `tokens` at most or, without that, `ratio` of the texts' tokens. The
    answer is a `tersely.summaries.Summary`: its sentences with what they rest on, what was dropped
    and why, and what it cost. Of the request count its open texts, its question and how it samples;
    its `max_tokens` does not. Raises ConfigError when nothing is open.

    With `aloud` the last call is shown while it is made, each sentence as soon as it is checked.
    It can't be taken back: what comes beyond the length is left out, and nothing is asked for again
    or left out elsewhere. Where texts are summarised side by side, or made denser, the summary is
    shown when it is settled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "summarise"
    paper: ClassVar[str] = "Fei et al. 2023, https://arxiv.org/abs/2312.09571"

    tokens: int | None = Field(default=None, ge=1)
    ratio: float = Field(default=0.2, gt=0, lt=1)
    aloud: bool = False

    def steps(self, request: Request, context: Context, /) -> Steps:
        run = self._run(request, context)
        parts, run.route = self._portions(run)
        if run.route == "refine":
            text = yield from self._refined(run, parts)
        else:
            text = yield from self._mapped(run, parts)
        if not run.said:
            text = yield from _fitted(self, run, text)
            if text:
                yield from plans.say(text)
        return run.answer(text)

    def _run(self, request: Request, context: Context) -> Run:
        open_ = [request.prompt.segments[i].text for i in prose(request.prompt)]
        text = "\n\n".join(open_).strip()
        if not text:
            raise ConfigError("nothing to summarise: the request has no open text")
        size = context.tokens_of([text])[0]
        encoder = chosen(self.encoder, self.name, context)
        return Run(
            request=request,
            context=context,
            text=text,
            question=request.prompt.question.strip(),
            size=size,
            target=self.tokens or max(int(size * self.ratio), 1),
            guard=self.guard,
            entails=_entails(self, encoder, context),
            encoder=encoder,
        )

    def _portions(self, run: Run) -> tuple[Sequence[str], Route]:
        """The text in portions that fit a call, and the way to go."""
        room = self._room(run)
        if self.route == "single" or (self.route != "clusters" and run.size <= room):
            return [run.text], "single"
        if self.route == "clusters":
            return by_topic(run.text, room, run.encoder, run.context), "clusters"
        parts = portions(run.text, room, run.context)
        backend = run.context.backend
        alone = backend is not None and "parallel" not in backend.capabilities
        if self.route == "refine" or (self.route == "auto" and alone and len(parts) <= REFINES_TO):
            return parts, "refine"
        return parts, "map_reduce"

    def _room(self, run: Run) -> int:
        """Tokens of text that one call may read, beside its task and its answer."""
        asked = run.context.tokens_of([run.question])[0]
        made = min(2 * run.target, self.window // 4)
        return max(self.window - FRAME - asked - made, self.window // 4)

    def _mapped(self, run: Run, parts: Sequence[str]) -> Texts:
        """Portions summarised side by side, and these summaries together until they fit."""
        template = ASKED if run.question else PLAIN
        if len(parts) == 1 and self._shows:
            values = {"text": parts[0], "question": run.question}
            return (yield from aloud(run, template, values, purpose="summary", source=parts[0]))
        text = ""
        while True:
            sizes = run.context.tokens_of(list(parts))
            aims = [max(int(run.target * s / max(sum(sizes), 1)), LEAST) for s in sizes]
            asked = [{"text": part, "question": run.question} for part in parts]
            made = yield from run.ask(template, asked, aims, "summary")
            told = zip(made, parts, aims, strict=True)
            found = [self._kept(run, one, part, aim) for one, part, aim in told]
            text = "\n".join(one for one in found if one)
            size = run.context.tokens_of([text])[0]
            if len(parts) == 1 or size <= run.target:
                return text
            parts = portions(text, self._room(run), run.context)
            if size >= sum(sizes):
                return text
            if len(parts) == 1:
                return (yield from self._joined(run, text))

    def _kept(self, run: Run, summary: str, part: str, aim: int) -> str:
        """What is left of a portion's summary, or sentences of the portion where nothing is."""
        text = run.checked(summary, part)
        if summary and not text and self.fallback:
            run.tell("of some portions nothing that was said can be kept: their sentences stand in")
            return run.pruned(part, aim)
        return text

    def _joined(self, run: Run, text: str) -> Texts:
        """One summary of several; these where none comes."""
        values = {"text": text, "focus": focus(run.question)}
        purpose = "summary of summaries"
        if self._shows:
            made = yield from aloud(run, JOINED, values, purpose=purpose, source=run.text)
            return made or text
        (made,) = yield from run.ask(JOINED, [values], [run.target], purpose)
        return run.checked(made, run.text) or text

    def _refined(self, run: Run, parts: Sequence[str]) -> Texts:
        """A summary that grows with each portion."""
        text = ""
        for i, part in enumerate(parts):
            aim = ceil(run.target * (i + 1) / len(parts))
            values = {"text": part, "question": run.question}
            template = ASKED if run.question else PLAIN
            if text:
                template = REFINED
                values = {"text": part, "summary": text, "focus": focus(run.question)}
            if self._shows and i == len(parts) - 1:
                last = yield from aloud(run, template, values, purpose="summary", source=run.text)
                return last or text
            (made,) = yield from run.ask(template, [values], [max(aim, LEAST)], "summary")
            text = run.checked(made, run.text) or text
        return text

    @property
    def _shows(self) -> bool:
        """Whether the last call is shown while it is made."""
        return self.aloud and not self.density


def _fitted(settings: SummarySettings, run: Run, text: str) -> Texts:
    """A text no longer than it may be: asked for again, then with sentences left out."""
    text = run.checked(text, run.text)
    for _ in range(settings.retries):
        if run.tokens(text) <= run.target:
            break
        made = yield from run.ask(SHORTER, [{"text": text}], [run.target], "shorter")
        shorter = run.checked(made[0], run.text)
        if not shorter or run.tokens(shorter) >= run.tokens(text):
            break
        text = shorter
    if run.tokens(text) <= run.target:
        text = yield from denser(run, text, settings.density)
    else:
        run.tell("sentences were left out to meet the length")
        text = run.pruned(text, run.target)
    if not text and run.spoke and settings.fallback:
        run.tell("nothing that was said can be kept: sentences of the text stand in")
        text = run.pruned(run.text, run.target)
    elif not text and not run.spoke:
        run.tell("nothing in the text helps")
    return text


def _entails(settings: SummarySettings, encoder: str, context: Context) -> Entails | None:
    """Whether one text follows from another, where that is to be asked."""
    least = settings.entailment
    if settings.judge:
        return Inference(settings.judge, LIKELY if least is None else least)
    if least is None:
        return None
    if not encoder:
        raise ConfigError(
            f"entailment {least} takes an encoder (tersely models pull minilm) or, as `judge`, a"
            " model of natural language inference"
        )
    return Entailment(lambda texts: vectors(texts, encoder, context), least)
