"""A model reads on: behind a text, behind what is shorter, behind what was learned in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tersely.errors import ConfigError, ModelError
from tersely.prompt import sendable
from tersely.soft_artefact import Role
from tersely.weights import CausalLM, caching, empty_cache, keeps

if TYPE_CHECKING:
    from torch import Tensor

Begun = Sequence[tuple["Tensor", "Tensor"]]
"""Keys and values of what is read, for each layer. Shape: (1, heads, tokens, width) each."""

MARK = "\uf8ff\uf8fe\uf8ff"
"""Stands for the text while a chat template is filled in."""

APART = "\n\n"
"""What stands between the text and the user's own words in one turn."""

AT_ONCE = 32
"""Streams that are spoken side by side."""


@dataclass(frozen=True)
class Rendering:
    """Where a text stands in the prompts of a model, as its chat template makes them."""

    lm: CausalLM
    role: Role

    def head(self, text: str) -> list[int]:
        """The tokens of all that a prompt begins with, up to and including the text."""
        return self._tokens(self._around("")[0] + text, begins=True)

    @cached_property
    def before(self) -> list[int]:
        """The tokens that stand before the text."""
        return self._tokens(self._around("")[0], begins=True)

    def rest(self, question: str) -> list[int]:
        """The tokens behind the text, up to where the assistant begins to speak."""
        return self._tokens(self._around(question)[1], begins=False)

    def asked(self, message: str) -> list[int]:
        """The tokens of a prompt without the text: a message of the user's and nothing more."""
        return self._tokens(self._filled([{"role": "user", "content": message}]), begins=True)

    def _around(self, question: str) -> tuple[str, str]:
        if self.role == "user":
            messages = [{"role": "user", "content": MARK + APART + question}]
        else:
            messages = [
                {"role": "system", "content": MARK},
                {"role": "user", "content": question},
            ]
        before, found, after = self._filled(messages).partition(MARK)
        if not found:
            raise ModelError(f"the chat template leaves out what the {self.role} says")
        return before, after

    def _filled(self, messages: list[dict[str, str]]) -> str:
        tokenizer = self.lm.tokenizer
        if not tokenizer.chat_template:
            return "".join(one["content"] + APART for one in messages)
        try:
            text: str = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template raises what it likes
            raise ModelError(f"the model's chat template refused: {error}") from error
        return text

    def _tokens(self, text: str, *, begins: bool) -> list[int]:
        bare = begins and not self.lm.tokenizer.chat_template
        ids: list[int] = self.lm.tokenizer.encode(sendable(text), add_special_tokens=bare)
        return ids


def check(lm: CausalLM, model: str) -> None:
    """Raise ConfigError unless all that the model keeps of a text are keys and values."""
    if not keeps(lm, {"DynamicLayer"}):
        raise ConfigError(f"{model!r} has a window or a state of its own: nothing can begin for it")


def begun(lm: CausalLM, ids: Sequence[int], vectors: Tensor | None = None) -> Begun:
    """What a model keeps of tokens that it has read, and of vectors behind them.

    Gradients reach the vectors. Shape: (tokens,), (length, hidden size).
    """
    import torch

    row = torch.tensor([list(ids)], dtype=torch.long, device=lm.device)
    embeds = lm.model.get_input_embeddings()(row)
    if vectors is not None:
        embeds = torch.cat((embeds, vectors[None].to(lm.device, lm.dtype)), dim=1)
    past = empty_cache(lm)
    lm.model(inputs_embeds=embeds, logits_to_keep=1, **caching(lm.model, past))
    return [(layer.keys, layer.values) for layer in past.layers]


def length(beginning: Begun) -> int:
    """How many tokens it counts as."""
    return int(beginning[0][0].shape[2])


def logits(lm: CausalLM, beginning: Begun, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """What the model expects behind each token of some rows, which go on from one beginning.

    Rows are padded at their end, where causal attention does not look: no mask is needed.
    Gradients reach the beginning. Shape: (tokens, vocabulary) each.
    """
    import torch

    width = max(len(row) for row in rows)
    padded = [[*row, *[0] * (width - len(row))] for row in rows]
    ids = torch.tensor(padded, dtype=torch.long, device=lm.device)
    read = lm.model(ids, **caching(lm.model, _past(lm, beginning, len(rows))))
    return [made[: len(row)] for made, row in zip(read.logits, rows, strict=True)]


def spoken(
    lm: CausalLM,
    beginning: Begun,
    rests: Sequence[Sequence[int]],
    *,
    most: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[list[int]]:
    """What the model says behind each rest, up to its end of turn, `most` tokens at most.

    All go on from one beginning, which is held and read once for many at a time. At temperature 0
    it is what is likeliest. Wherever work is stopped, the same is said by the same seed.
    """
    import torch

    for at in range(0, len(rests), AT_ONCE):
        draw = torch.Generator(lm.device).manual_seed(seed + at)
        streams = _Streams(lm, beginning, rests[at : at + AT_ONCE], temperature, draw)
        yield from streams.spoken(most)


def ends(lm: CausalLM) -> set[int]:
    """The tokens with which the model ends its turn."""
    told = getattr(lm.model.generation_config, "eos_token_id", None)
    known = told if isinstance(told, list) else [told, lm.tokenizer.eos_token_id]
    return {int(token) for token in known if token is not None}


class _Streams:
    """Several answers that grow side by side in one row: each sees the beginning and itself."""

    def __init__(
        self,
        lm: CausalLM,
        beginning: Begun,
        rests: Sequence[Sequence[int]],
        temperature: float,
        draw: Any,
    ) -> None:
        import torch

        self.lm, self.temperature, self.draw = lm, temperature, draw
        self.begun = length(beginning)
        self.past = _past(lm, beginning, 1)
        self.owners = torch.full((self.begun,), -1, device=lm.device)
        self.said = [list(rest) for rest in rests]
        self.from_ = [len(rest) for rest in rests]

    def spoken(self, most: int) -> list[list[int]]:
        import torch

        last, alive = ends(self.lm), list(range(len(self.said)))
        with torch.inference_mode():
            fed = [self.said[i] for i in alive]
            for _ in range(most):
                for i, token in zip(alive, self._next(alive, fed), strict=True):
                    self.said[i].append(token)
                alive = [i for i in alive if self.said[i][-1] not in last]
                if not alive:
                    break
                fed = [self.said[i][-1:] for i in alive]
        return [said[start:] for said, start in zip(self.said, self.from_, strict=True)]

    def _next(self, alive: Sequence[int], fed: Sequence[Sequence[int]]) -> list[int]:
        """The next token of each stream, after some more of its tokens were read."""
        import torch

        device = self.lm.device
        owner = torch.tensor([i for i, f in zip(alive, fed, strict=True) for _ in f], device=device)
        places = [
            self.begun + len(self.said[i]) - len(f) + at
            for i, f in zip(alive, fed, strict=True)
            for at in range(len(f))
        ]
        held = len(self.owners)
        self.owners = torch.cat((self.owners, owner))
        seen = (self.owners == owner[:, None]) | (self.owners == -1)
        seen &= torch.arange(len(self.owners), device=device) <= (
            held + torch.arange(len(owner), device=device)[:, None]
        )
        mask = torch.zeros(seen.shape, dtype=self.lm.dtype, device=device)
        mask.masked_fill_(~seen, torch.finfo(self.lm.dtype).min)
        last = torch.tensor([len(f) for f in fed], device=device).cumsum(0) - 1
        read = self.lm.model(
            torch.tensor([[token for f in fed for token in f]], device=device),
            attention_mask=mask[None, None],
            position_ids=torch.tensor([places], device=device),
            logits_to_keep=last,
            **caching(self.lm.model, self.past),
        )
        return self._drawn(read.logits[0])

    def _drawn(self, found: Tensor) -> list[int]:
        if not self.temperature:
            return [int(token) for token in found.argmax(-1)]
        import torch

        chances = (found.float() / self.temperature).softmax(-1)
        return [int(one) for one in torch.multinomial(chances, 1, generator=self.draw)[:, 0]]


def _past(lm: CausalLM, beginning: Begun, rows: int) -> Any:
    """A cache in which each row has read the beginning."""
    past = empty_cache(lm)
    for at, pair in enumerate(beginning):
        keys, values = (part.to(lm.device, lm.dtype).expand(rows, -1, -1, -1) for part in pair)
        past.update(keys, values, at)
    return past
