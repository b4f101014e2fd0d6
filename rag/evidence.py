"""Pack what was found into exactly the room there is, and say where it is from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, field_validator

from tersely.contracts import Context, Stage
from tersely.errors import ConfigError
from tersely.prompt import sendable
from tersely.rag.bundle import Bundle, Stretch, bundled, label, stretch_of
from tersely.rag.evidence_order import RECENT, EvidenceOrder, Recent, at_the_edges, by_document
from tersely.rag.fence import Fence, harmless
from tersely.rag.gluing import glued
from tersely.rag.packing import Packing, by_sentence
from tersely.registry import as_stage, spelled
from tersely.retrieval import Passage

WHOLE_SENTENCES = {"lexical": {"fill": None}}
"""The recipe that prunes what does not fit whole, unless another is set."""

NONE = "nothing was found"
POOR = "nothing that was found is good enough"

Layout = Callable[[Sequence[Stretch]], Bundle]
"""Passages in their order as a text."""

Recipe = Annotated[Stage, PlainValidator(as_stage), PlainSerializer(spelled, when_used="json")]
"""A stage as a setting: by its registry name, as `{name: {setting: value}}`, or itself."""


class Evidence(BaseModel):
    """Packs passages into at most `tokens` of the target model, labels and fence included.

    The best go first, whole; one that does not fit is passed over for later ones. What is left of
    the room goes to the best that found none, pruned by `recipe` (retrieve, compress, prepend:
    RECOMP, https://arxiv.org/abs/2310.04408); None leaves it empty. Unless a recipe does so, no
    sentence is cut. Where no passage fits whole and no recipe is set, the best sentences of one
    are taken. Passages of one source are glued where they touch or overlap.

    Passages scored below `least` are left out, and "nothing" is an answer. `order` is how the
    passages follow each other; `cached` only where the backend caches prefixes, and for each
    `tenant` and `model` by itself. `about` is what labels tell beside the number, a template as
    "{source}, {start}-{end}" with names of a passage's fields or its metadata. Without a `fence`
    the text stands bare: only for text that can be trusted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    tokens: int = Field(default=1024, ge=1)
    recipe: Recipe | None = Field(default=WHOLE_SENTENCES, validate_default=True)
    order: EvidenceOrder = "relevance"
    least: float | None = None
    about: str = ""
    fence: Fence | None = Fence()
    tenant: str = ""
    model: str = ""

    @field_validator("recipe")
    @classmethod
    def _takes_context(cls, recipe: Stage | None) -> Stage | None:
        if recipe is not None and "context" not in recipe.kinds:
            raise ConfigError(f"recipe {recipe!r} does not touch the kind 'context': add it there")
        return recipe

    @field_validator("about")
    @classmethod
    def _can_be_filled_in(cls, about: str) -> str:
        try:
            label(1, Passage(text=""), about)
        except (ValueError, IndexError, AttributeError, KeyError) as error:
            raise ConfigError(f"about={about!r} is no template: {error}") from error
        return about

    def bundle(
        self,
        passages: Sequence[Passage],
        question: str,
        context: Context,
        *,
        first: int = 1,
        recent: Recent | None = None,
    ) -> Bundle:
        """The passages that fit, given the best first; never over the budget.

        The budget is met as `context.count` counts the bundle's text. `first` is the number of
        the first passage, where others were brought along before. `recent` are the orders of
        before, for the order `cached`; those of this process unless given.
        """
        good = [stretch_of(one) for one in distinct(passages, self.least)]
        if not good:
            return Bundle(reason=POOR if passages else NONE)
        tokens = self.fence.tokens if self.fence else ()
        layout = partial(  # each text is looked through once
            bundled,
            fence=self.fence,
            about=self.about,
            context=context,
            first=first,
            broken=cache(partial(harmless, tokens=tokens)),
        )
        show = partial(self._shown, layout, context, recent or RECENT)
        packing = Packing(good, show, self.tokens, question, context)
        packing.add_whole()
        if self.recipe is not None:
            packing.add_pruned(self.recipe)
        if not packing.best:
            packing.add_pruned(by_sentence, most=1, least=1)
        dropped = tuple(one.whole for one in packing.waiting)
        if not packing.best:
            return Bundle(dropped=dropped, reason=f"no sentence fits {self.tokens} tokens")
        if self.order == "cached":
            self._sent(packing.best, context, recent or RECENT)
        return replace(packing.best, dropped=dropped)

    def _shown(
        self, layout: Layout, context: Context, recent: Recent, stretches: Sequence[Stretch]
    ) -> Bundle:
        """These passages glued and in order, as they are shown."""
        together = glued(stretches)
        passages = [one.passage for one in together]
        match self.order:
            case "cached":
                sizes = [len(one.text) for one in passages]
                keys = [self._key(one) for one in passages]
                whose = self._whose(context)
                order = recent.arranged(keys, sizes, tenant=self.tenant, model=whose)
            case "document":
                order = by_document(passages)
            case "edges":
                order = at_the_edges(len(passages))
            case "relevance":
                order = list(range(len(passages)))
        return layout([together[i] for i in order])

    def _sent(self, bundle: Bundle, context: Context, recent: Recent) -> None:
        keys = [self._key(one) for one in bundle.passages]
        recent.sent(keys, tenant=self.tenant, model=self._whose(context))

    def _whose(self, context: Context) -> str:
        """The model whose cache it is; if that is not told, its tokens stand for it."""
        return self.model or context.count.name

    def _key(self, passage: Passage) -> str:
        """The same for passages that are shown in the same bytes."""
        shown = f"{label(0, passage, self.about)}\n{passage.text}"
        return sha256(sendable(shown).encode()).hexdigest()[:16]


def distinct(passages: Sequence[Passage], least: float | None) -> list[Passage]:
    """The passages that say something, that are good enough, and each text once."""
    found: dict[str, Passage] = {}
    for one in passages:
        text = one.text.strip()
        if text and (least is None or one.score >= least):
            found.setdefault(text, one)
    return list(found.values())
