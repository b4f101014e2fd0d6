"""Answers that follow a grammar: which tokens may come next."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tersely.backends.decode import ends_of
from tersely.backends.gbnf import lark
from tersely.contracts import FinishReason
from tersely.errors import ConfigError, require
from tersely.weights import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 64
"""Grammars that are kept ready."""


class Guide:
    """Follows one answer through its grammar.

    `may` tells of each token whether it may come next. Shape: vocabulary, or more.
    `finish` is why the answer ends here, None while more may come: "stop" where the grammar is
    complete, "other" where the grammar became too much for the library that follows it.
    """

    def __init__(self, matcher: Any, ends: frozenset[int]) -> None:
        self.finish: FinishReason | None = None
        self._matcher = matcher
        self._ends = [*ends]
        self.may = self._look()

    def take(self, token: int) -> None:
        """Go on by a token; call it for all but those that end the answer."""
        self._matcher.consume_token(token)
        self.may = self._look()
        over = self.may.copy()
        over[self._ends] = False
        if not over.any():
            self.finish = "stop" if self._matcher.is_accepting() else "other"

    def bend(self, scores: Tensor) -> Tensor:
        """The scores, with minus infinity for all tokens that may not come. Shape: vocabulary."""
        import torch

        may = torch.from_numpy(self.may)[: len(scores)]
        return scores.masked_fill(~may.to(scores.device), -torch.inf)

    @property
    def stuck(self) -> bool:
        """Whether nothing may come, not even an end."""
        return not self.may.any()

    def _look(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        may = np.unpackbits(bits, bitorder="little").astype(np.bool_)
        return may & (not self._matcher.is_error())


def guide(lm: CausalLM, grammar: str) -> Guide:
    """A guide for a new answer of this model.

    Raises ConfigError that names the fault of a grammar, and MissingExtra.
    """
    return Guide(_matcher(lm, grammar).deep_copy(), ends_of(lm))


@lru_cache(KEPT)
def _matcher(lm: CausalLM, grammar: str) -> Any:
    return matcher(_vocabulary(lm), ends_of(lm), grammar)


def matcher(vocabulary: Any, ends: frozenset[int], grammar: str) -> Any:
    """A grammar made ready for tokens, at its beginning. A guide takes a `deep_copy` of it.

    Raises ConfigError that names the fault of a grammar, and MissingExtra.
    """
    from llguidance import LLMatcher

    made = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(lark(grammar)), log_level=0)
    if made.is_error():
        raise ConfigError(f"the grammar can't be followed: {made.get_error()}")
    if Guide(made.deep_copy(), ends).stuck:
        raise ConfigError("the grammar allows no text that this model's tokens can spell")
    return made


@cache
def _vocabulary(lm: CausalLM) -> Any:
    """A model's tokens as the library takes them; it is half a second's work."""
    require("llguidance", extra="local")
    from llguidance.hf import from_tokenizer

    size = max(len(lm.tokenizer), lm.model.config.get_text_config().vocab_size)
    try:
        return from_tokenizer(lm.tokenizer, n_vocab=size, eos_token=sorted(ends_of(lm)))
    except Exception as error:  # the library raises bare ones
        raise ConfigError(f"this model's tokenizer can't follow a grammar: {error}") from error
