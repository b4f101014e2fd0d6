"""The parameters of `llmlingua`'s methods: which count here, and why the others do not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tersely.errors import ConfigError, first_fault

_BUDGET = re.compile(r"\s*([-+*/])\s*(\d{1,9}(?:\.\d{1,9})?)\s*")

Condition = Literal[
    "none", "before", "after", "none_condition", "before_condition", "after_condition"
]
Ranker = Literal[
    "llmlingua",
    "longllmlingua",
    "bm25",
    "gzip",
    "sentbert",
    "openai",
    "bge",
    "bge_reranker",
    "bge_llmembedder",
    "jinza",
    "voyageai",
    "cohere",
]

ONE_PASS = "the text is scored in one pass, and not again after each cut"
BY_LIKELIHOOD = "documents are ranked by how likely the question is after them"
BY_BUDGET = "how many contexts stay follows from the budget"
WHOLE_CALL = "the words of all contexts are compared at once"


LLMLINGUA2 = ("max_batch_size", "max_force_token")
"""What `llmlingua2_config` may hold."""


def _without(default: Any, reason: str) -> Any:
    """A parameter that is accepted and has no effect, and the reason."""
    return Field(default=default, json_schema_extra={"reason": reason})


class Settings(BaseModel):
    """All parameters of the methods but `context`, with the defaults that they have there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: str = ""
    question: str = ""
    rate: float = Field(default=0.5, ge=0, le=1)
    target_token: float = -1
    iterative_size: int = _without(200, ONE_PASS)
    force_context_ids: Sequence[int] | None = None
    force_context_number: int | None = _without(None, BY_BUDGET)
    use_sentence_level_filter: bool = False
    use_context_level_filter: bool = True
    use_token_level_filter: bool = True
    keep_split: bool = False
    keep_first_sentence: int = Field(default=0, ge=0)
    keep_last_sentence: int = Field(default=0, ge=0)
    keep_sentence_number: int = _without(0, "how many sentences stay follows from the budget")
    high_priority_bonus: int = _without(100, "what is to be kept is kept whatever its score")
    context_budget: str = "+100"
    token_budget_ratio: float = Field(default=1.4, ge=0)
    condition_in_question: Condition = "none"
    reorder_context: Literal["original", "sort", "two_stage"] = "original"
    dynamic_context_compression_ratio: float = Field(default=0.0, ge=0, le=1)
    condition_compare: bool = False
    add_instruction: bool = False
    rank_method: Ranker = "llmlingua"
    concate_question: bool = True
    context_segs: Sequence[Sequence[str]] | None = None
    context_segs_rate: Sequence[Sequence[float]] | None = None
    context_segs_compress: Sequence[Sequence[bool]] | None = None
    target_context: int = _without(-1, BY_BUDGET)
    context_level_rate: float = _without(1.0, BY_BUDGET)
    context_level_target_token: int = _without(-1, BY_BUDGET)
    return_word_label: bool = False
    word_sep: str = "\t\t|\t\t"
    label_sep: str = " "
    token_to_word: Literal["mean", "first"] = "mean"
    force_tokens: Sequence[str] = ()
    force_reserve_digit: bool = False
    drop_consecutive: bool = False
    chunk_end_tokens: Sequence[str] = _without([".", "\n"], WHOLE_CALL)
    strict_preserve_uncompressed: bool = _without(True, "what is not to be compressed always stays")

    @classmethod
    def of(cls, method: str, names: Sequence[str], given: Sequence[Any], named: Any) -> Settings:
        """The parameters of a call. Raises TypeError as a call does, and ConfigError."""
        if len(given) > len(names):
            raise TypeError(f"{method}() takes {len(names)} parameters, got {len(given)}")
        placed = dict(zip(names, given, strict=False))
        for name in named:
            if name not in names:
                raise TypeError(f"{method}() got an unexpected keyword argument {name!r}")
            if name in placed:
                raise TypeError(f"{method}() got multiple values for argument {name!r}")
        try:
            made = cls(**placed, **named)
        except ValidationError as error:
            raise ConfigError(f"{method}() {first_fault(error)}") from error
        if made.rank_method == "longllmlingua" and not made.question.strip():
            raise ConfigError(f"{method}() rank_method='longllmlingua' needs a question")
        return made

    @property
    def compared(self) -> bool:
        """Whether words are to be scored by what the question changes."""
        asked = self.condition_compare or self.condition_in_question.endswith("_condition")
        return bool(self.question) and (asked or self.rank_method != "llmlingua")

    @property
    def asked(self) -> str:
        """What the contexts are read for."""
        return f"{self.question}\n\n{self.instruction}" if self.add_instruction else self.question

    @property
    def idle(self) -> dict[str, str]:
        """The parameters that were given and have no effect, each with the reason."""
        found = {
            name: str(extra["reason"])
            for name, field in type(self).model_fields.items()
            if isinstance(extra := field.json_schema_extra, Mapping)
            and getattr(self, name) != field.default
        }
        if self.condition_in_question.startswith("before"):
            found["condition_in_question"] = BY_LIKELIHOOD
        if self.rank_method not in ("llmlingua", "longllmlingua"):
            found["rank_method"] = BY_LIKELIHOOD
        if self.token_to_word == "first":
            found["token_to_word"] = "a word counts by all of its tokens"
        return found


NAMES = tuple(Settings.model_fields)
"""The parameters of `compress_prompt` after `context`, in order."""

STRUCTURED = (*NAMES[: NAMES.index("context_segs")], "strict_preserve_uncompressed")
"""Those of `structured_compress_prompt`."""

TRAINED = (
    "rate",
    "target_token",
    "use_context_level_filter",
    "use_token_level_filter",
    "target_context",
    "context_level_rate",
    "context_level_target_token",
    "force_context_ids",
    *NAMES[NAMES.index("return_word_label") : NAMES.index("strict_preserve_uncompressed")],
)
"""Those of `compress_prompt_llmlingua2`."""


def budgeted(spelled: str, target: float) -> float:
    """What a `context_budget` such as `+100`, `*1.3` or `-50` makes of a number of tokens.

    Raises ConfigError with the value.
    """
    found = _BUDGET.fullmatch(spelled)
    if found is None:
        raise ConfigError(
            f"context_budget is a sign and a number, as '+100' or '*1.3', was {spelled!r}"
        )
    number = float(found[2])
    match found[1]:
        case "+":
            return target + number
        case "-":
            return target - number
        case "*":
            return target * number
    if not number:
        raise ConfigError(f"context_budget can't divide by 0, was {spelled!r}")
    return target / number


def idle(
    device: str,
    model: Mapping[str, Any] | None,
    api: Mapping[str, Any] | None,
    trained: Mapping[str, Any] | None,
) -> dict[str, str]:
    """The parameters of the constructor that have no effect. Raises TypeError as a call does."""
    for name in trained or ():
        if name not in LLMLINGUA2:
            raise TypeError(f"llmlingua2_config got an unexpected keyword argument {name!r}")
    found: dict[str, str] = {}
    if device != "auto":
        found["device_map"] = "the GPU is taken where there is one, else the CPU"
    if model:
        found["model_config"] = "weights are loaded from this machine, and no code with them"
    if api:
        found["open_api_config"] = BY_LIKELIHOOD
    if trained:
        found["llmlingua2_config"] = "batches follow from the length of the texts"
    return found
