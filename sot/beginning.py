"""Set a run up: what the backend can do, and what the plan was set to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tersely import registry
from tersely.asking import question_of
from tersely.contracts import Backend, Context, Request
from tersely.errors import ConfigError, UnknownName
from tersely.retrieval import Embedder
from tersely.sot.branching import Forks
from tersely.sot.grammar import Form
from tersely.sot.probing import named
from tersely.sot.profile import Profile, stored
from tersely.sot.rules import opted_out
from tersely.sot.run import Run
from tersely.sot.shares import Shares, most_points
from tersely.sot.skeleton import Skeleton
from tersely.sot.telling import Telling
from tersely.sot.templates import CHAT, RAW, Layout
from tersely.sot.usable import Sieve
from tersely.sot.writing import Calls

if TYPE_CHECKING:
    from tersely.sot.plan_sot import Sot

PARALLEL = 8
"""Calls under way at once, where a backend does not tell how many it takes."""


def begun(plan: Sot, request: Request, context: Context) -> Run:
    """A place to work at. Raises ConfigError for models that the backend hasn't."""
    backend = context.backend
    can = backend.capabilities if backend else frozenset()
    request = _addressed(request, backend, plan.models)
    goes_on = request.raw or "prefill" in can
    layout = _layout(plan, request, backend, goes_on=goes_on)
    sieve = Sieve(
        merge=plan.merge,
        embedder=_embedder(plan.embedder),
        own=layout.own,
        asked=question_of(request.prompt),
    )
    return Run(
        name=plan.name,
        request=request,
        context=context,
        layout=layout,
        forks=Forks(at_once=plan.at_once or at_once(backend), deadline=context.deadline),
        shares=Shares.of(request.max_tokens, plan.reserve if goes_on else 0.0),
        telling=Telling(
            unrepeated=plan.unrepeated, head=layout.heading if plan.renumbered else None
        ),
        skeleton=Skeleton(most_points(request.max_tokens, plan.points), sieve),
        calls=Calls(context),
        retries=plan.retries,
        goes_on=goes_on,
        models=plan.models,
    )


def at_once(backend: Backend | None) -> int:
    """How many calls a backend takes at once, as far as it tells."""
    told = (getattr(backend, name, None) for name in ("parallel", "batch_size"))
    return next((most for most in told if isinstance(most, int) and most > 0), PARALLEL)


def refused(run: Run, gate: str) -> str:
    """Why what the caller set wants an answer in one piece; "" where nothing does."""
    if run.request.grammar.strip():
        return "the form of the answer is bound"
    return opted_out(run.request) if gate == "auto" else ""


def paid(run: Run, profile: Profile | None, job: tuple[int, float, float, float, float]) -> str:
    """Why a job does not pay on this engine; "" where it does, or nobody measured it."""
    backend = run.context.backend
    known = profile or (stored(*named(backend)) if backend else None)
    return "" if known is None or known.pays(*job) else known.reason(*job)


def _layout(plan: Sot, request: Request, backend: Backend | None, *, goes_on: bool) -> Layout:
    templates = plan.templates or (RAW if request.raw else CHAT)
    templates = templates.graph() if plan.graph else templates
    templates = templates.tagged() if plan.models else templates
    can = backend.capabilities if backend and plan.grammar == "auto" else frozenset()
    form = Form.of(can, plan.penalty, graph=plan.graph, hard=bool(plan.models))
    return Layout(request, templates, goes_on=goes_on, form=form)


def _addressed(request: Request, backend: Backend | None, models: Sequence[str]) -> Request:
    """The request to the strongest of the models, where the caller named none."""
    if not models:
        return request
    if backend is None or "models" not in backend.capabilities:
        raise ConfigError(
            f"the plan has models={models!r}, and the backend is one model: put several together"
            " by tersely.backends.several"
        )
    known = getattr(backend, "models", models)
    for name in models:
        if name not in known:
            raise UnknownName("model", name, known)
    return replace(request, model=request.model or models[-1])


def _embedder(source: Any) -> Embedder | None:
    """An embedder from itself, its registry name, or `{name: settings}`."""
    if source is None or isinstance(source, Embedder):
        return source
    if isinstance(source, str):
        return registry.embedder(source)
    if isinstance(source, Mapping) and len(source) == 1:
        ((name, settings),) = source.items()
        return registry.embedder(str(name), **(settings or {}))
    raise ConfigError(f"an embedder is one, its name, or {{name: settings}}, was {source!r}")
