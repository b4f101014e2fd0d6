"""How engines spell, in the OpenAI-compatible API, what that API has no words for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tersely.contracts import Capability, Request

EngineName = Literal["openai", "vllm", "sglang", "llama.cpp", "llama-cpp-python", "transformers"]
"""The servers whose ways are known; `openai` is any other one."""

Prefill = Literal["", "last", "prefix", "vllm"]
"""How a server is asked to go on with a last turn of the assistant.

`last`: it does so unasked, as Anthropic's. `prefix`: the message is marked, as for DeepSeek and
Mistral. `vllm`: by vLLM's fields of the body.
"""

Embeds = Literal["", "vllm", "sglang"]
"""How a server takes vectors: not at all, or in one engine's way.

`vllm`: as parts of messages, or whole prompts of them (see `whole`). `sglang`: whole prompts only.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The ways of one engine.

    `grammar` is the path of fields under which a grammar in GBNF is sent, `penalty` the field of a
    repetition penalty, with `besides` sent beside it; empty: the engine takes none. `embeds` is
    how it takes vectors where it was started so, and `can` tells of that. `repeats`: a whole answer
    begins with the text that it goes on with. `at_once` is how many requests the engine answers
    side by side, where that is known.
    """

    can: frozenset[Capability] = frozenset({"alternatives", "logprobs", "stream"})
    prefill: Prefill = ""
    repeats: bool = False
    grammar: tuple[str, ...] = ()
    penalty: str = ""
    besides: Mapping[str, Any] | None = None
    embeds: Embeds = ""
    at_once: int | None = None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the engine can do, as far as there is a way to ask it."""
        ways: dict[Capability, bool] = {
            "grammar": bool(self.grammar),
            "repetition_penalty": bool(self.penalty),
            "parallel": self.at_once != 1,
            "embeds": bool(self.embeds) and "embeds" in self.can,
            "kv_prefix": False,
        }
        goes_on: tuple[Capability, ...] = ("prefill",) if self.prefill else ()
        return self.can.difference(ways).union(goes_on, (way for way in ways if ways[way]))

    def fields(self, request: Request) -> dict[str, Any]:
        """The fields of a body that ask for what the API itself has no field for."""
        found: dict[str, Any] = {}
        if self.grammar and request.grammar.strip():
            *outer, last = self.grammar
            found[last] = request.grammar
            for name in reversed(outer):
                found = {name: found}
        if self.penalty and request.repetition_penalty != 1:
            found |= {self.penalty: request.repetition_penalty, **(self.besides or {})}
        return found


TELLS: frozenset[Capability] = frozenset({"alternatives", "logprobs", "stream"})
SHARES: frozenset[Capability] = TELLS | {"prefix_sharing"}

DIALECTS: Mapping[EngineName, Dialect] = {
    "openai": Dialect(),
    "vllm": Dialect(
        can=SHARES,
        prefill="vllm",
        grammar=("structured_outputs", "grammar"),
        penalty="repetition_penalty",
        embeds="vllm",
    ),
    "sglang": Dialect(
        can=SHARES,
        prefill="vllm",
        grammar=("ebnf",),
        penalty="repetition_penalty",
        embeds="sglang",
    ),
    # a slot keeps its own last prompt only: requests at the same time share nothing
    # and it looks back over 64 tokens unless told; -1, the whole context, is refused since 2026
    "llama.cpp": Dialect(
        can=TELLS,
        prefill="last",
        repeats=True,
        grammar=("grammar",),
        penalty="repeat_penalty",
        besides={"repeat_last_n": 8192},
    ),
    # streams at the same time cut one another off
    "llama-cpp-python": Dialect(
        can=frozenset({"stream"}), grammar=("grammar",), penalty="repeat_penalty", at_once=1
    ),
    "transformers": Dialect(can=frozenset({"stream"})),
}
