"""Prompts read by a model; what is known already is not read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tersely.backends.places import Places, inputs
from tersely.backends.read import Memory, Piece, Read, beginnings
from tersely.backends.rows import takes_positions
from tersely.weights import CausalLM, caching, empty_cache

if TYPE_CHECKING:
    from torch import Tensor

SPREAD = 64
"""Tokens of padding that a pass over several prompts may have beside those it reads."""


class Reader:
    """Reads prompts, each common beginning once, and remembers what it read."""

    def __init__(self, lm: CausalLM) -> None:
        self.lm = lm
        self.memory = Memory()
        self._takes_positions = takes_positions(lm)

    def read(
        self, prompts: Sequence[Sequence[int]], given: Places | None = None
    ) -> tuple[Tensor, list[Read]]:
        """The scores of what comes next, and what each prompt became.

        `given` is what stands behind numbers below 0. Shape: prompts x vocabulary, float32. Raises
        what the model raises.
        """
        import torch

        given = given or Places()
        for begin in beginnings(prompts):
            self._learn(begin, given)
        known = [self._known(prompt[:-1], given) for prompt in prompts]
        own = [prompt[alike:] for prompt, (alike, _) in zip(prompts, known, strict=True)]
        scores: dict[int, Tensor] = {}
        reads: dict[int, Read] = {}
        for group in groups([len(tokens) for tokens in own]):
            pieces = [known[i][1] for i in group]
            last, found = self._pass([own[i] for i in group], pieces, given)
            scores |= dict(zip(group, last, strict=True))
            reads |= dict(zip(group, found, strict=True))
        if len(prompts) == 1:
            self.memory.keep(prompts[0], whole(reads[0]))
        every = range(len(prompts))
        return torch.stack([scores[i] for i in every]), [reads[i] for i in every]

    def _known(self, tokens: Sequence[int], given: Places) -> tuple[int, list[Piece]]:
        """How many of the tokens need not be read, and what they became."""
        remembered, brought = self.memory.longest(tokens), given.known(tokens)
        return remembered if remembered[0] >= brought[0] else brought

    def _learn(self, tokens: Sequence[int], given: Places) -> None:
        """Have a beginning in memory."""
        alike, pieces = self._known(tokens, given)
        if alike < len(tokens):
            _, (read,) = self._pass([tokens[alike:]], [pieces], given)
            self.memory.keep(tokens, whole(read))

    def _pass(
        self, own: Sequence[Sequence[int]], known: Sequence[Sequence[Piece]], given: Places
    ) -> tuple[Tensor, list[Read]]:
        """Read tokens that go on from what is known, padded on the left between the two."""
        import torch

        before = [pieces[0][0].shape[2] if pieces else 0 for pieces in known]
        past, longest = max(before), max(map(len, own))
        mask = torch.zeros(len(own), past + longest, dtype=torch.long)
        for row, (ids, begin) in enumerate(zip(own, before, strict=True)):
            mask[row, past - begin : past] = 1
            mask[row, past + longest - len(ids) :] = 1
        options: dict[str, Any] = {}
        if self._takes_positions:
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, past:]
            options["position_ids"] = positions.to(self.lm.device)
        cache = empty_cache(self.lm)
        for layer, (keys, values) in enumerate(side_by_side(known, past)):
            cache.update(keys, values, layer)
        made = self.lm.model(
            **inputs(self.lm, [[0] * (longest - len(ids)) + [*ids] for ids in own], given),
            attention_mask=mask.to(self.lm.device),
            logits_to_keep=1,
            **caching(self.lm.model, cache),
            **options,
        )
        return made.logits[:, -1].float(), list(_rows(cache, own, known))


def _rows(
    cache: Any, own: Sequence[Sequence[int]], known: Sequence[Sequence[Piece]]
) -> Iterator[Read]:
    """What each row of a pass became: what it had, and what it read itself."""
    for row, (ids, pieces) in enumerate(zip(own, known, strict=True)):
        part = slice(row, row + 1), slice(None), slice(-len(ids), None)
        fresh = [(layer.keys[part], layer.values[part]) for layer in cache.layers]
        had = [[piece] for piece in pieces] if pieces else [[] for _ in fresh]
        yield Read([[*old, new] for old, new in zip(had, fresh, strict=True)])


def side_by_side(known: Sequence[Sequence[Piece]], past: int) -> Iterator[Piece]:
    """For each layer what the rows have read, as one batch whose rows end in the same column."""
    import torch
    from torch.nn.functional import pad

    like = next((pieces for pieces in known if pieces), ())
    for layer, piece in enumerate(like):
        parts: list[Tensor] = []
        for which, kind in enumerate(piece):
            rows = [pieces[layer][which] if pieces else kind[:, :, :0] for pieces in known]
            padded = [pad(row, (0, 0, past - row.shape[2], 0)) for row in rows]
            parts.append(torch.cat(padded) if len(padded) > 1 else padded[0])
        yield parts[0], parts[1]


def whole(read: Read) -> list[Piece]:
    """What a row became, as one piece for each layer that holds no other row alive."""
    import torch

    return [
        (torch.cat([keys for keys, _ in pieces], 2), torch.cat([values for _, values in pieces], 2))
        for pieces in read.layers
    ]


def groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Which prompts are read in one pass: those of about one length."""
    group: list[int] = []
    total = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        padded = lengths[i] * (len(group) + 1)
        if group and padded > 2 * (total + lengths[i]) + SPREAD:
            yield group
            group, total = [], 0
        group.append(i)
        total += lengths[i]
    if group:
        yield group
