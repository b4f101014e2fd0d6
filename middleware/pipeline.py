"""Stages in order, measured, guarded and within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, Field, PrivateAttr, ValidationError

from tersely.ahead import Calls, Given, alone, begun, can_read_ahead
from tersely.budget import Budget, BudgetLike
from tersely.contracts import Backend, Capability, Context, Need, Stage, StageModel
from tersely.errors import ConfigError, first_fault
from tersely.middleware import desk
from tersely.middleware.adapters import Adapter
from tersely.middleware.compaction import Compaction
from tersely.middleware.engine import Run, onto, prepare, takes
from tersely.middleware.ledger import Ledger, name_of
from tersely.middleware.passage import Result
from tersely.middleware.scope import Override
from tersely.middleware.session import Conversations, Session
from tersely.middleware.wished import passage_of
from tersely.prompt import KINDS, Kind, Prompt, Segment
from tersely.registry import as_stage
from tersely.report import Mode

NEEDED: dict[Need, tuple[Capability, ...]] = {"soft": ("kv_prefix", "embeds")}
"""What a stage's need asks of the backend: one of these."""


class Pipeline(RunnableSerializable[Any, Any]):
    """Stages in order, in front of a model.

    Give it any request that an adapter reads (a text, chat messages, a request body, LangChain
    messages or documents) and it gives back the same shape with fewer tokens. It is a
    langchain-core Runnable, so `pipeline | model` works, and a Stage, so pipelines nest.

    `budget` is what the prompt may cost; texts of fewer tokens than `floor` are left alone;
    `fallback` serves when a stage fails or runs out of time. With `strict` a failure raises
    instead of sending the text on unchanged. A stage may be given as a value, by its registry
    name, or as `{name: {setting: value}}`. `history` is a limit in tokens, or the settings of a
    `Compaction`: the older turns of a longer conversation become one message. With `cache`
    requests to Claude that have none get cache breakpoints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    stages: tuple[Any, ...] = ()
    budget: Budget = Field(default_factory=Budget)
    model: str = ""
    mode: Mode = "optimize"
    strict: bool = False
    floor: int = Field(default=0, ge=0)
    fallback: Any = None
    history: Any = None
    cache: Literal["", "breakpoints"] = ""
    seed: int = 0
    backend: Any = Field(default=None, exclude=True, repr=False)

    _conversations: Conversations = PrivateAttr(default_factory=Conversations)

    def __init__(self, stages: Any = (), **settings: Any) -> None:
        """Raises ConfigError that names the setting, its value and the mend."""
        alone = isinstance(stages, str | Mapping | Stage)
        settings["stages"] = tuple(as_stage(item) for item in ([stages] if alone else stages))
        settings["budget"] = Budget.of(settings.get("budget"))
        if settings.get("fallback") is not None:
            settings["fallback"] = as_stage(settings["fallback"])
        settings["history"] = Compaction.of(settings.get("history"))
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(f"pipeline {first_fault(error)}") from error
        _check_history(self)
        for stage in filter(None, (*self.stages, self.fallback)):
            _check(stage, self.backend)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Every kind that one of the stages takes."""
        taken = {kind for stage in self.stages for kind in stage.kinds}
        return tuple(kind for kind in KINDS if kind in taken)

    def takes(self, segment: Segment) -> bool:
        """Whether one of the stages may change this one."""
        return any(takes(stage, segment) for stage in self.stages)

    @property
    def needs(self) -> frozenset[Need]:
        """Nothing: needs are met stage by stage."""
        return frozenset()

    @property
    def conversations(self) -> Conversations:
        """What was sent, for callers who name no session."""
        return self._conversations

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        """Run as a stage of another pipeline: the tighter budget holds."""
        return onto(prompt, self.through(prompt, _within(context, self.budget), strict=True))

    @property
    def reads_ahead(self) -> bool:
        """Whether a stage can read for several prompts together."""
        return can_read_ahead((*self.stages, self.fallback))

    def ahead(self, given: Sequence[Given], /) -> None:
        """Have the first stage that has something to read do so for all of these prompts."""
        begun(self.calls(prompt, _within(context, self.budget)) for prompt, context in given)

    def through(self, prompt: Prompt, context: Context, *, strict: bool = False) -> Run:
        """Send a prompt through the stages; tells what each one did."""
        return alone(self.calls(prompt, context, strict=strict))

    def calls(self, prompt: Prompt, context: Context, *, strict: bool = False) -> Calls[Run]:
        """The same, but each call of a stage that can read ahead is told before it takes place."""
        run = Run(
            prepare(prompt, self.stages, context, self.floor), context, Ledger(context), strict
        )
        yield from run.calls(self.stages, self.fallback)
        return run

    def run(
        self,
        request: Any,
        *,
        question: str | None = None,
        model: str | None = None,
        wishes: Override | None = None,
        session: Session | None = None,
        surface: str | Adapter = "",
        soft: bool = False,
    ) -> Result:
        """Compress a request and tell what was done.

        `question` is what the user wants to know, if the request does not say it itself;
        `model` is who will read it, for counting. `wishes` go before the surrounding
        `tersely.override`. `surface` is the adapter or its name, when the caller knows it. `soft`:
        the result's `prompt` is sent to a backend, so that soft input can stand in it; the
        `output` of a shape that can't carry any has the texts that it stands for.

        A request that no adapter knows comes back as it is, with the reason in the report.
        """
        return passage_of(
            self,
            request,
            question=question,
            model=model,
            wishes=wishes,
            session=session,
            surface=surface,
            soft=soft,
        ).go()

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The request with fewer tokens, as a step of a LangChain sequence."""
        return self._call_with_config(lambda request: self.run(request).output, input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same, in a worker thread: the event loop is not blocked."""
        desk.here()  # so that the report reaches this task
        return await super().ainvoke(input, config, **kwargs)

    def but(self, **settings: Any) -> Pipeline:
        """The same pipeline under other settings, with conversations of its own."""
        mine = {name: getattr(self, name) for name in Pipeline.model_fields}
        return Pipeline(**mine | settings)

    def to_yaml(self, path: str | Path | None = None) -> str:
        """The pipeline as YAML; written to a file as well when a path is given."""
        from tersely.middleware.spelling import to_yaml

        return to_yaml(self, path)

    @classmethod
    def from_yaml(cls, source: str | Path) -> Pipeline:
        """The pipeline that a YAML text or file describes. Raises ConfigError."""
        from tersely.middleware.spelling import from_yaml

        return from_yaml(source)


BOLD: tuple[Kind, ...] = (
    *("context", "tool_output", "code", "json", "log", "table", "example", "history"),
)

QUICK = {"ms": 50, "pace": 5}
"""Short beside what a model takes to read as many tokens."""

CAREFUL_PIPELINE: dict[str, Any] = {
    "stages": (
        {"auto": {"lossless": True}},
        {"logs": {"kinds": ("log",)}},
        {"query": {"encoder": "", "order": "kept", "kinds": ("context",)}},
    ),
    "budget": {"shares": {"context": 0.5, "log": 0.5}, **QUICK},
    "floor": 300,
}
BOLD_PIPELINE: dict[str, Any] = {
    "stages": (
        {"auto": {"kinds": BOLD}},
        {"query": {"encoder": "", "order": "kept", "kinds": BOLD}},
    ),
    "budget": {"shares": dict.fromkeys(BOLD, 0.25), **QUICK},
    "floor": 100,
    "fallback": "truncate",
}

PIPELINES: dict[str, dict[str, Any]] = {
    "auto": CAREFUL_PIPELINE,
    "bold": BOLD_PIPELINE,
    "default": CAREFUL_PIPELINE,
}
"""Pipelines by name; none needs a model. The default is `auto`: what tools said is written shorter
where nothing is lost by it, and logs and long context are compressed to half; what can't be done in
time stays as it is. `bold` leaves a quarter of all that, and of tools' prose, examples and
history."""


def pipeline_of(source: Pipeline | str | Stage | Sequence[Any] | Path) -> Pipeline:
    """A pipeline from itself, a name of ours, a stage, a list of stages or a YAML file."""
    match source:
        case Pipeline():
            return source
        case str() if source in PIPELINES:
            return Pipeline(**PIPELINES[source])
        case Path():
            return Pipeline.from_yaml(source)
        case str() if source.endswith((".yaml", ".yml")):
            return Pipeline.from_yaml(Path(source))
        case _:
            return Pipeline(source, budget=0.5)


def compress(
    request: Any,
    stages: Any = "query",
    /,
    *,
    budget: BudgetLike = 0.5,
    question: str | None = None,
    model: str | None = None,
    strict: bool = False,
) -> Result:
    """Compress one request: a text, messages, a request body, LangChain messages or documents.

    `stages` is a stage, a list of them, a pipeline or the name of either; `budget` is tokens
    (`1500`), a ratio (`0.5`) or a mapping. The result holds the `output` in the shape of the
    request and the `report`.
    """
    source = stages if isinstance(stages, Pipeline) else Pipeline(stages)
    wishes = Override(budget=Budget.of(budget), strict=strict)
    return source.run(request, question=question, model=model, wishes=wishes)


def _within(context: Context, budget: Budget) -> Context:
    """The context of a stage, with a budget of its own: the tighter limit holds."""
    tokens = [limit for limit in (budget.tokens, context.limit) if limit is not None]
    tighter = budget.model_copy(update={"tokens": min(tokens, default=None)})
    return replace(context, budget=tighter)


def _check_history(pipeline: Pipeline) -> None:
    if pipeline.history and pipeline.history.limit is None and pipeline.budget.tokens is None:
        raise ConfigError("history needs a limit in tokens: history={'limit': 8000}")
    if any(isinstance(stage, Pipeline) and stage.history for stage in pipeline.stages):
        raise ConfigError("history belongs to the outermost pipeline: a stage sees no messages")


def _check(stage: Stage, backend: Backend | None) -> None:
    """Raise when a stage needs what is not installed, or what the backend lacks."""
    for need in stage.needs:
        if need == "llm" and backend is None:
            raise ConfigError(f"stage {name_of(stage)} needs a backend: Pipeline(backend=...)")
        wanted = NEEDED.get(need, ())
        if wanted and (backend is None or backend.capabilities.isdisjoint(wanted)):
            raise ConfigError(f"stage {name_of(stage)} needs a backend with {' or '.join(wanted)}")
    if isinstance(stage, StageModel):
        stage.ready()
