"""`llmlingua.PromptCompressor` on this pipeline: the same calls, with exact budgets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tersely.contracts import Stage, StageModel, TokenCounter
from tersely.errors import ConfigError
from tersely.middleware.compat_pieces import (
    JOINT,
    Piece,
    Work,
    joined,
    labels_of,
    rows_of,
    texts_of,
)
from tersely.middleware.compat_settings import (
    NAMES,
    STRUCTURED,
    TRAINED,
    Settings,
    budgeted,
    idle,
)
from tersely.middleware.compat_tags import Part, parts_of
from tersely.middleware.passage import Result
from tersely.prompt import Prompt, Segment
from tersely.registry import as_stage
from tersely.report import Report, Trace
from tersely.tokens import counter

COUNTED_AS = "gpt-3.5-turbo"
"""Whose tokens are counted, as there."""

ALL = 1_000_000.0
"""So many times the budget that no context is dropped before words are."""

ORDERS = {"original": "kept", "sort": "best_first", "two_stage": "edges"}


class PromptCompressor:
    """Takes what `llmlingua.PromptCompressor` takes and gives back the same mapping.

    `model_name` is a name of ours (`smollm2`), a folder or a hub id; with `use_llmlingua2` it is
    a token classifier. Nothing is downloaded. The rest of the constructor is accepted and has no
    effect, which a warning tells once, as it does for parameters of the methods.
    """

    def __init__(
        self,
        model_name: str = "",
        device_map: str = "auto",
        model_config: Mapping[str, Any] | None = None,
        open_api_config: Mapping[str, Any] | None = None,
        use_llmlingua2: bool = False,
        llmlingua2_config: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises MissingExtra, UnknownName or ModelError when the model can't be had here."""
        self.model_name = model_name or ("" if use_llmlingua2 else "smollm2")
        self.use_llmlingua2 = use_llmlingua2
        self._count: TokenCounter = counter(COUNTED_AS)
        self._told: set[str] = set()
        self._tell(idle(device_map, model_config, open_api_config, llmlingua2_config), 3)
        _stage("llmlingua2" if use_llmlingua2 else "llmlingua", self.model_name)

    def compress_prompt(
        self,
        context: str | Sequence[str] = (),
        instruction: str = "",
        question: str = "",
        rate: float = 0.5,
        target_token: float = -1,
        *more: Any,
        **named: Any,
    ) -> dict[str, Any]:
        """Compress the contexts so that the whole prompt keeps `rate` or `target_token`."""
        given = (instruction, question, rate, target_token, *more)
        settings = self._settings("compress_prompt", NAMES, given, named)
        if self.use_llmlingua2:
            return self._by_classifier(_listed(context), settings)
        return self._compressed(_parts(_listed(context), settings), settings)

    def __call__(self, *given: Any, **named: Any) -> dict[str, Any]:
        """The same as `compress_prompt`."""
        return self.compress_prompt(*given, **named)

    def structured_compress_prompt(
        self,
        context: str | Sequence[str],
        instruction: str = "",
        question: str = "",
        rate: float = 0.5,
        target_token: float = -1,
        *more: Any,
        **named: Any,
    ) -> dict[str, Any]:
        """The same for contexts with `<llmlingua, rate=..., compress=...>` around their parts.

        A part's own rate holds for that part, `rate` for each of the others; `compress=False`
        leaves a part byte for byte.
        """
        given = (instruction, question, rate, target_token, *more)
        settings = self._settings("structured_compress_prompt", STRUCTURED, given, named)
        contexts = [list(parts_of(text)) for text in _listed(context)]
        return self._compressed(contexts, settings, structured=True)

    def compress_prompt_llmlingua2(
        self,
        context: str | Sequence[str],
        rate: float = 0.5,
        target_token: float = -1,
        *more: Any,
        **named: Any,
    ) -> dict[str, Any]:
        """Compress the contexts alone, by a token classifier."""
        given = (rate, target_token, *more)
        settings = self._settings("compress_prompt_llmlingua2", TRAINED, given, named)
        return self._by_classifier(_listed(context), settings)

    def recover(self, original_prompt: str, compressed_prompt: str, response: str) -> str:
        """The response, with what it quotes across a cut as the original prompt has it."""
        before, after = (
            Prompt((Segment(text=text),)) for text in (original_prompt, compressed_prompt)
        )
        report = Report(mode="optimize", surface="text", counter="", exact=True, before=0, after=0)
        return Result(compressed_prompt, report, Trace(before, after, report)).recover(response)

    def _compressed(
        self, contexts: Sequence[Sequence[Part]], settings: Settings, *, structured: bool = False
    ) -> dict[str, Any]:
        """Compress contexts that were cut into parts, between instruction and question."""
        whole = ["".join(part.text for part in parts) for parts in contexts]
        before = self._count(JOINT.join([settings.instruction, *whole, settings.question]).strip())
        around = (settings.instruction, settings.question if settings.concate_question else "")
        rows = [_closed(around[0]), *rows_of(contexts, settings), _closed(around[1])]
        pieces = joined(row for row in rows if row)
        work = Work(
            stage=_recipe(self.model_name, settings, len(contexts), _aim(settings, before)),
            count=self._count,
            question=settings.asked if settings.compared else "",
            kind="context" if settings.use_sentence_level_filter else "example",
        )
        segments = work.at_rates(pieces, work.segments(pieces))
        if structured and settings.target_token < 0:
            segments = work.by_share(pieces, segments, settings.rate)
        else:
            segments = work.to_limit(pieces, segments, settings, before)
        return _answer(texts_of(pieces, segments), before, self._count)

    def _by_classifier(self, contexts: Sequence[str], settings: Settings) -> dict[str, Any]:
        """Compress contexts by a token classifier; neither instruction nor question is sent."""
        settings = settings.model_copy(update={"reorder_context": "original"})
        pieces = joined(rows_of([[Part(text)] for text in contexts], settings))
        stage = _stage(
            "llmlingua2",
            self.model_name,
            forced=tuple(settings.force_tokens),
            digits=settings.force_reserve_digit,
            drop_consecutive=settings.drop_consecutive,
        )
        work = Work(stage, self._count)
        before = self._count(JOINT.join(contexts).strip())
        segments = work.to_limit(pieces, work.segments(pieces), settings, before)
        texts = texts_of(pieces, segments)
        answer = _answer(texts, before, self._count) | {"compressed_prompt_list": texts}
        if settings.return_word_label:
            labels = labels_of(pieces, segments, settings.label_sep)
            answer["fn_labeled_original_prompt"] = settings.word_sep.join(labels)
        return answer

    def _settings(
        self, method: str, names: Sequence[str], given: Sequence[Any], named: Mapping[str, Any]
    ) -> Settings:
        settings = Settings.of(method, names, given, named)
        self._tell(settings.idle, 4)
        return settings

    def _tell(self, idle: Mapping[str, str], callers: int) -> None:
        """Warn once of parameters that have no effect, where so many callers up asked for them."""
        new = {name: reason for name, reason in idle.items() if name not in self._told}
        if new:
            self._told |= set(new)
            told = "; ".join(f"{name} ({reason})" for name, reason in new.items())
            warnings.warn(f"without effect here: {told}", stacklevel=callers)


def _recipe(model: str, settings: Settings, contexts: int, aim: float) -> Stage:
    """The stage that does what the settings ask for; `aim` are the tokens to be left."""
    order = ORDERS[settings.reorder_context]
    coarse = ALL
    if settings.use_sentence_level_filter:
        coarse = settings.token_budget_ratio
    elif settings.use_context_level_filter and contexts > 1:
        coarse = budgeted(settings.context_budget, aim) / max(aim, 1.0)
    coarse = max(coarse, 1.0)
    whole = {} if settings.use_token_level_filter else {"unit": "sentence", "fill": None}
    if settings.compared:
        dynamic = settings.dynamic_context_compression_ratio
        return _stage("longllmlingua", model, order, coarse=coarse, dynamic=dynamic, **whole)
    if whole:
        return _stage("selective_context", model, order, **whole)
    return _stage("llmlingua", model, order, coarse=coarse)


def _stage(name: str, model: str, order: str = "kept", **settings: Any) -> Stage:
    """A stage with a model. Raises when it can't work here."""
    made = as_stage({name: {"model": model, "order": order, **settings}})
    if isinstance(made, StageModel):
        made.ready()
    return made


def _answer(texts: Sequence[str], before: int, count: TokenCounter) -> dict[str, Any]:
    """The mapping that llmlingua's callers expect."""
    text = JOINT.join(texts)
    after = count(text)
    ratio = before / after if after else 1.0
    return {
        "compressed_prompt": text,
        "origin_tokens": before,
        "compressed_tokens": after,
        "ratio": f"{ratio:.1f}x",
        "rate": f"{100 / ratio if ratio else 100:.1f}%",
        "saving": f", Saving {before - after} tokens.",
    }


def _listed(context: str | Sequence[str]) -> list[str]:
    """The contexts as a list. Raises ConfigError when one is no text."""
    texts = [context] if isinstance(context, str) else list(context or ())
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ConfigError(f"context[{i}] must be a text, was {text!r}")
    return texts


def _parts(contexts: Sequence[str], settings: Settings) -> list[list[Part]]:
    """Each context as its parts, as the caller cut it or in one."""
    if settings.context_segs is None:
        return [[Part(text)] for text in contexts]
    texts = settings.context_segs
    rates: Sequence[Sequence[float | None]]
    rates = settings.context_segs_rate or [[None] * len(row) for row in texts]
    flags = settings.context_segs_compress or [[True] * len(row) for row in texts]
    try:
        return [
            [Part(*part) for part in zip(*row, strict=True)]
            for row in zip(texts, rates, flags, strict=True)
        ]
    except ValueError as error:
        raise ConfigError(
            "context_segs, context_segs_rate and context_segs_compress must be of like shape"
        ) from error


def _closed(text: str) -> list[Piece]:
    return [Piece(text=text)] if text.strip() else []


def _aim(settings: Settings, before: int) -> float:
    """The tokens that are to be left, nearly."""
    return settings.target_token if settings.target_token >= 0 else before * settings.rate
