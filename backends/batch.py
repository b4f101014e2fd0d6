"""Answers that are made together: they come and go between tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from tersely.backends.decode import Answer, choose, ends_of
from tersely.backends.lookup import guesses
from tersely.backends.memory import holds
from tersely.backends.packing import packed
from tersely.backends.places import Places, together
from tersely.backends.prefix import can_pad, can_share
from tersely.backends.reader import Reader
from tersely.backends.rows import Rows
from tersely.backends.slots import Slots
from tersely.backends.ticket import Limits
from tersely.weights import CausalLM

if TYPE_CHECKING:
    from torch import Tensor


class Standing(Protocol):
    """The rows of a batch, as the model has read them.

    Scores are those of the next token: rows x vocabulary, float32.
    """

    @property
    def open(self) -> bool:
        """Whether more rows may enter now."""
        ...

    @property
    def single(self) -> bool:
        """Whether there may be no more rows than one."""
        ...

    @property
    def can_return(self) -> bool:
        """Whether tokens that were read can be taken back: `ahead` and `back`."""
        ...

    def enter(self, prompts: Sequence[Sequence[int]], given: Places) -> Tensor: ...
    def scores(self, tokens: Tensor) -> Tensor: ...
    def ahead(self, tokens: Sequence[int]) -> Tensor: ...
    def back(self, tokens: int) -> None: ...
    def keep(self, rows: Sequence[int]) -> None: ...
    def remember(self, row: int, tokens: Sequence[int]) -> None: ...
    def forget(self, upto: int) -> None: ...


class Batch:
    """Answers under way. Finished and dropped ones leave; others may enter at any time."""

    def __init__(self, lm: CausalLM) -> None:
        self.answers: list[Answer] = []
        self.rows: Standing = Free(lm) if can_share(lm) else Bound(lm)
        self._alone: set[Answer] = set()  # what may be gone on with: not a whole crowd's answers
        self._lm = lm
        self._ends: frozenset[int] = frozenset()

    @cached_property
    def room(self) -> int:
        """How many tokens' keys and values there was room for when this was first asked."""
        return holds(self._lm)

    def fits(self, entering: Sequence[Answer], limits: Limits) -> bool:
        """Whether the last of these may enter, with those before it and those under way.

        The longest row sets how much memory each takes, and how far each prompt is padded.
        """
        if self.answers and not self.rows.open:
            return False
        rows = len(self.answers) + len(entering)
        if rows > 1 and self.rows.single:
            return False
        longest = max(answer.size for answer in (*self.answers, *entering))
        if rows > 1 and (rows > limits.rows or rows * longest > (limits.held or self.room)):
            return False
        prompt = max(len(answer.prompt) for answer in entering)
        return len(entering) == 1 or prompt * len(entering) <= limits.read

    def enter(self, answers: Sequence[Answer]) -> None:
        """Read prompts, together, and make the first token of their answers.

        Raises what the model raises; then none of them has entered.
        """
        import torch

        self._ends = ends_of(self._lm)
        with torch.inference_mode(), packed(self._lm):
            given = together(answer.soft for answer in answers)
            scores = self.rows.enter([answer.prompt for answer in answers], given)
            self.answers.extend(answers)
            self._alone |= set(answers) if len(answers) == 1 else set()
            self._take(scores, answers)
        self.leave()

    def step(self) -> None:
        """Make the next token of every answer; several of one that is alone and foretold.

        Raises what the model raises.
        """
        import torch

        alone = self.answers[0] if len(self.answers) == 1 and self.rows.can_return else None
        if alone and (guess := alone.guess()):
            self._check(alone, guess)
            return
        with torch.inference_mode(), packed(self._lm):
            last = torch.tensor([answer.last_token for answer in self.answers])
            self._take(self.rows.scores(last), self.answers)
        self.leave()

    def leave(self) -> None:
        """Let go of the answers that are finished or dropped."""
        import torch

        staying = [i for i, answer in enumerate(self.answers) if answer.going]
        if len(staying) == len(self.answers):
            return
        rows = filled(staying, len(staying))
        with torch.inference_mode():
            for row, answer in enumerate(self.answers):
                if answer.finish and answer in self._alone:
                    self.rows.remember(row, [*answer.prompt, *answer.made])
            self.rows.keep(rows)
        self.answers = [self.answers[row] for row in rows]
        self._alone &= set(self.answers)

    def forget(self, upto: int) -> None:
        """Remember so many tokens of what was read, at most."""
        self.rows.forget(upto)

    def _check(self, answer: Answer, guess: Sequence[int]) -> None:
        """Read a guess at once, and make tokens as ever for as long as they are the guess.

        Speculative decoding: Leviathan et al. 2023, https://arxiv.org/abs/2211.17192
        """
        import torch

        true = 0
        with torch.inference_mode(), packed(self._lm):
            for scores in self.rows.ahead([answer.last_token, *guess]):
                self._take(scores.unsqueeze(0), [answer])
                if not answer.going or true == len(guess) or answer.last_token != guess[true]:
                    break
                true += 1
            self.rows.back(len(guess) - true)
        count = guesses(self._lm)
        count.proposed, count.accepted = count.proposed + len(guess), count.accepted + true
        self.leave()

    def _take(self, scores: Tensor, answers: Sequence[Answer]) -> None:
        chosen, logprobs, likeliest = choose(scores, answers)
        made = zip(answers, chosen.tolist(), logprobs, likeliest, strict=True)
        for answer, token, logprob, others in made:
            answer.take(token, logprob, token in self._ends, others)


def filled(staying: Sequence[int], size: int) -> list[int]:
    """The same rows, in an order in which the last ones fill the gaps of the first `size`."""
    late = [row for row in staying if row >= size]
    there = set(staying)
    return [row if row in there else late.pop() for row in range(size)]


class Free:
    """Rows of a model with plain attention: they enter at any time, and share what they can."""

    open = True
    single = False
    can_return = True

    def __init__(self, lm: CausalLM) -> None:
        self._device = lm.device
        self._reader = Reader(lm)
        self._slots = Slots(lm)

    def enter(self, prompts: Sequence[Sequence[int]], given: Places) -> Tensor:
        scores, reads = self._reader.read(prompts, given)
        self._slots.enter(reads)
        return scores

    def scores(self, tokens: Tensor) -> Tensor:
        return self._slots.scores(tokens.to(self._device).unsqueeze(1))[:, -1]

    def ahead(self, tokens: Sequence[int]) -> Tensor:
        """Read several tokens in the only row. Shape of the scores: tokens x vocabulary."""
        import torch

        return self._slots.scores(torch.tensor([[*tokens]], device=self._device))[0]

    def back(self, tokens: int) -> None:
        """Take back so many of the last tokens of the only row."""
        self._slots.back(tokens)

    def keep(self, rows: Sequence[int]) -> None:
        self._slots.keep(rows)

    def remember(self, row: int, tokens: Sequence[int]) -> None:
        read = tokens[: self._slots.lengths[row]]
        self._reader.memory.keep(read, self._slots.read(row))

    def forget(self, upto: int) -> None:
        self._reader.memory.shrink(upto)


class Bound:
    """Rows of a model with a window or a state of its own: they enter together or not at all.

    What they have in common is read by each (see `prefix.can_share`). With a state there is one row
    at a time.
    """

    can_return = False

    def __init__(self, lm: CausalLM) -> None:
        self.single = not can_pad(lm)
        self._lm = lm
        self._rows: Rows | None = None

    @property
    def open(self) -> bool:
        return self._rows is None

    def enter(self, prompts: Sequence[Sequence[int]], given: Places) -> Tensor:
        rows = Rows(self._lm, prompts, given=given)
        scores = rows.scores()
        self._rows = rows
        return scores

    def scores(self, tokens: Tensor) -> Tensor:
        if self._rows is None:
            raise ValueError("no rows have entered")
        self._rows.add(tokens.to(self._lm.device))
        return self._rows.scores()

    def ahead(self, tokens: Sequence[int]) -> Tensor:
        raise NotImplementedError("a state can't be taken back")

    def back(self, tokens: int) -> None:
        raise NotImplementedError("a state can't be taken back")

    def keep(self, rows: Sequence[int]) -> None:
        if self._rows is not None and rows:
            self._rows.keep(rows)
        else:
            self._rows = None

    def remember(self, row: int, tokens: Sequence[int]) -> None:
        """Nothing is kept: a state can't be cut to a common beginning."""

    def forget(self, upto: int) -> None:
        """Nothing is kept."""
