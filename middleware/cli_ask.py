"""`tersely ask`: compress a prompt or look things up, ask a model, show the answer."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from tersely.errors import BackendError, ConfigError, ContextLengthError, RequestError, first_fault
from tersely.middleware.cli_io import Given, Say, read, tell, tell_report, write_json
from tersely.middleware.cli_lookup import Lookup, ask_index
from tersely.middleware.cli_options import SOFT, Display, Source, Wishes

if TYPE_CHECKING:
    from tersely.contracts import Backend
    from tersely.middleware.points import Points
    from tersely.prompt import Prompt
    from tersely.report import Decision, Report

Answer = dict[str, Any]

DEFAULT_MODEL = "smollm2"

SHORTER, LONGER = 256, 1024
"""Tokens of an answer whose length was not said, in one piece and of several points."""

BROKEN_OFF = 130
"""The exit code after Ctrl-C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Who answers."""

    base_url: Annotated[
        str | None,
        Option(help="An OpenAI-compatible server; the model runs here when left out."),
    ] = None
    api_key_env: Annotated[
        str | None, Option(help="The environment variable that holds the server's key.")
    ] = None

    def backend(self, model: str | None) -> Backend:
        """The backend that the options describe. Raises ConfigError."""
        from pydantic import ValidationError

        from tersely import registry

        if self.base_url and not model:
            raise ConfigError("--base-url needs --model: the name by which the server knows it")
        settings: dict[str, Any] = {"model": model or DEFAULT_MODEL}
        if self.base_url is not None:
            settings |= {"base_url": self.base_url, "api_key": self._key()}
        try:
            return registry.backend("http" if self.base_url else "local", **settings)
        except ValidationError as error:
            raise ConfigError(first_fault(error)) from error

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        if not (key := os.environ.get(self.api_key_env)):
            raise ConfigError(f"the environment variable {self.api_key_env} is not set")
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Server):
    """Who answers, and how."""

    max_tokens: Annotated[
        int | None, Option(help="How long the answer may be: 256 tokens, with --sot 1024.")
    ] = None
    sot: Annotated[
        str | None,
        Option(help="Write the points of the answer side by side: auto, force or off."),
    ] = None
    compare: Annotated[
        bool, Option("--compare", help="Show the answer to the full prompt as well.")
    ] = False
    soft: Annotated[list[str], SOFT] = field(default_factory=list)

    def answerer(self, model: str | None) -> Backend:
        """The backend, with soft prompts in the place of texts. Raises ConfigError."""
        from tersely.middleware.softened import Softened

        backend = self.backend(model)
        return Softened.by(backend, self.soft, tell=_soft_told) if self.soft else backend

    @property
    def points(self) -> Points | None:
        """How the points are wanted; None for an answer in one piece. Raises ConfigError."""
        from tersely.middleware.points import Points

        points = None if self.sot is None else Points.of({"mode": self.sot})
        return points if points and points.plan else None

    @property
    def room(self) -> int:
        """How long the answer may be."""
        return self.max_tokens or (LONGER if self.points else SHORTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posed:
    """What is asked: a text to compress, or with an index the question itself."""

    text: Annotated[
        str | None,
        Argument(
            help="A file with a text, or with a request as JSON; with --index the question."
            " Standard input when left out, or '-'."
        ),
    ] = None
    as_text: Annotated[
        bool, Option("--text", help="Take the file as text, whatever it looks like.")
    ] = False
    encoding: Annotated[str, Option(help="How the file is encoded.")] = "utf-8"

    def read(self, question: str | None = None) -> Given:
        """The text or request; nothing where there is a question, and nobody gives a text.

        Raises RequestError.
        """
        if self.text is None and question and typer.get_binary_stream("stdin").isatty():
            return Given("", "")
        file = None if self.text is None else Path(self.text)
        return read(Source(file=file, as_text=self.as_text, encoding=self.encoding))

    def question(self, named: str | None) -> str:
        """The question to look up: named, given, or on standard input. Raises ConfigError."""
        if named is None:
            return self.read().raw.strip() if self.text in (None, "-") else str(self.text)
        if self.text is not None:
            raise ConfigError(
                f"with --index one question is asked, was {self.text!r} and {named!r}"
            )
        return named


def ask(
    *,
    posed: Posed,
    wishes: Wishes,
    asked: Asked,
    lookup: Lookup,
    display: Display,
) -> None:
    """Ask a model, with a text that is compressed first or with what is found in an index."""
    say = _silent if display.as_json else _aloud
    backend = asked.answerer(wishes.model)
    if lookup.index is not None:
        if asked.compare:
            raise ConfigError("--compare is for a text: with --index there is no full prompt")
        question = posed.question(wishes.question)
        if asked.points:
            raise ConfigError("--sot is for a question or a text: with --index leave it out")
        ask_index(lookup, question, backend, wishes, asked.room, display=display, say=say)
        return
    wishes = replace(wishes, model=wishes.model or DEFAULT_MODEL)
    before, after, report = _prompts(posed.read(wishes.question), wishes)
    if not (display.quiet or display.as_json):
        tell_report(report)
    answers = {"compressed": _titled("compressed", backend, after, asked, display)}
    if asked.compare:
        try:
            answers["full"] = _titled("full", backend, before, asked, display)
        except ContextLengthError as error:  # that is what compressing is for
            answers["full"] = {"error": str(error)}
            tell(f"the full prompt: {error}", "yellow")
    if display.as_json:
        write_json({"answers": answers, "report": report.model_dump(mode="json")})
    if any(one.get("finish_reason") == "cancelled" for one in answers.values()):
        raise typer.Exit(BROKEN_OFF)


def _titled(name: str, backend: Backend, prompt: Prompt, asked: Asked, display: Display) -> Answer:
    """The answer to one of the prompts, below a title where there are two."""
    say = _silent if display.as_json else _aloud
    if asked.compare:
        say(f"## The answer to the {name} prompt\n\n")
    if points := asked.points:
        return _pointed(backend, prompt, asked.room, points, display)
    return _answer(backend, prompt, asked.room, say)


def _pointed(
    backend: Backend, prompt: Prompt, room: int, points: Points, display: Display
) -> Answer:
    """Ask point by point, and tell what it took."""
    from tersely.contracts import Request
    from tersely.middleware.cli_sot import answered, told
    from tersely.middleware.serve_reply import account_of

    loud = not (display.quiet or display.as_json)
    request = Request(prompt=prompt, max_tokens=room)
    say = _silent if display.as_json else _aloud
    answer, account = answered(backend, request, points, say, draw=loud)
    if account is None:
        return answer
    for line in told(account) if loud else ():
        tell(line, "dim")
    return {**answer, "sot": account_of(account)}


def _prompts(given: Given, wishes: Wishes) -> tuple[Prompt, Prompt, Report]:
    """The prompt in full and compressed, each with the question, and the account of it."""
    request, extra = given.request, wishes.question
    if not given.is_json and wishes.question:
        alone = {"messages": [{"role": "user", "content": wishes.question}]}
        beside = {"context": given.raw, "question": wishes.question}
        request, extra = beside if given.raw.strip() else alone, None
    result = wishes.compress(request)
    trace = result.trace
    if trace is None or not trace.before.segments:
        raise RequestError("; ".join(result.report.notes) or "the request holds no text")
    after = trace.before if result.report.mode == "audit" else trace.after
    return _asking(trace.before, extra), _asking(after, extra), result.report


def _asking(prompt: Prompt, question: str | None) -> Prompt:
    """The prompt with a question as the user's last turn."""
    if not question:
        return prompt
    from tersely.prompt import Segment

    turn = max(segment.turn for segment in prompt.segments) + 1
    last = Segment(text=question, kind="question", locked=True, turn=turn, path=("question",))
    return replace(prompt, segments=(*prompt.segments, last), turns=prompt.turns + 1)


def _answer(backend: Backend, prompt: Prompt, max_tokens: int, say: Say) -> Answer:
    """Ask, and say every piece of the answer as it comes."""
    from tersely.contracts import Request

    request = Request(prompt=prompt, max_tokens=max_tokens)
    start = perf_counter()
    completion = None
    for chunk in backend.stream(request):
        say(chunk.text)
        completion = chunk.completion or completion
    say("\n")
    if completion is None:
        raise BackendError("the answer broke off before its end", retryable=True)
    return {
        "answer": completion.text,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "finish_reason": completion.finish_reason,
        "seconds": round(perf_counter() - start, 3),
    }


def _soft_told(decision: Decision) -> None:
    tell(f"{decision.path}: {decision.reason} ({decision.before} -> {decision.after})", "dim")


def _aloud(text: str) -> None:
    typer.echo(text, nl=False)
    typer.get_text_stream("stdout").flush()


def _silent(text: str) -> None:
    """Say nothing: the answer goes into a JSON object."""
