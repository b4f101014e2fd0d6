"""Answers that llama.cpp makes together: they come and go between tokens."""

from __future__ import annotations

from collections.abc import Sequence

from tersely.backends.choice import choose
from tersely.backends.decode import Answer
from tersely.backends.llamacpp_context import Context
from tersely.backends.llamacpp_weights import Weights
from tersely.backends.places import together
from tersely.backends.sequences import Floats, Sequences
from tersely.backends.ticket import Limits

KEPT = 2
"""So many times as many beginnings are remembered as answers are made at once."""


class LlamaBatch:
    """Answers under way, each in a sequence of its own; see `batch.Batch` and `engine.Making`.

    What a lone answer has read is kept, to be gone on from, as common beginnings are.
    """

    def __init__(self, weights: Weights, *, rows: int, tokens: int, threads: int) -> None:
        self.answers: list[Answer] = []
        self.weights = weights
        most = rows * KEPT
        whole = rows + most
        self.context = Context(weights, tokens=tokens, sequences=whole, threads=threads)
        self.sequences = Sequences(self.context, sequences=whole, most=most, shares=weights.shares)
        self._rows: dict[Answer, int] = {}
        self._alone: set[Answer] = set()

    @property
    def room(self) -> int:
        """How many tokens' keys and values can be held."""
        return self.context.tokens

    def fits(self, entering: Sequence[Answer], limits: Limits) -> bool:
        """Whether the last of these may enter, with those before it and those under way."""
        if len(self.answers) + len(entering) > limits.rows:
            return False
        prompts = [answer.prompt for answer in entering]
        if len(entering) > 1 and self.sequences.costs(prompts) > limits.read:
            return False
        cells = self.sequences.cells(self._rows.values(), prompts) + self._to_come(entering)
        return cells <= min(limits.held or self.room, self.room)

    def enter(self, answers: Sequence[Answer]) -> None:
        """Read prompts, together, and make the first token of their answers.

        Raises RuntimeError when llama.cpp fails; then none of them has entered.
        """
        prompts = [answer.prompt for answer in answers]
        soft = together(answer.soft for answer in answers).vectors
        vectors = {number: vector.numpy() for number, vector in soft.items()}
        rows, scores = self.sequences.enter(prompts, self._to_come(answers), vectors)
        self.answers.extend(answers)
        self._rows |= dict(zip(answers, rows, strict=True))
        self._alone |= set(answers) if len(answers) == 1 else set()
        self._take(scores, answers)
        self.leave()

    def step(self) -> None:
        """Make the next token of every answer. Raises RuntimeError when llama.cpp fails."""
        last = [(self._rows[answer], [answer.last_token]) for answer in self.answers]
        self._take(self.sequences.read(last), self.answers)
        self.leave()

    def leave(self) -> None:
        """Let go of the answers that are finished or dropped."""
        for answer in [answer for answer in self.answers if not answer.going]:
            row = self._rows.pop(answer)
            if answer.finish and answer in self._alone:
                self.sequences.keep(row)
            else:
                self.sequences.drop([row])
        self.answers = [answer for answer in self.answers if answer.going]
        self._alone &= set(self.answers)

    def forget(self, upto: int) -> None:
        """Remember so many tokens of what was read, at most."""
        self.sequences.forget(upto)

    def close(self) -> None:
        """Give the memory back; call it when nothing is under way."""
        self.context.close()

    def _take(self, scores: Floats, answers: Sequence[Answer]) -> None:
        chosen = choose(scores, answers)
        for answer, (token, logprob, likeliest) in zip(answers, chosen, strict=True):
            answer.take(token, logprob, token in self.weights.ends, likeliest)

    def _to_come(self, entering: Sequence[Answer]) -> int:
        """The cells that answers may take yet, besides what was read of them and the prompts."""
        rows = self._rows.items()
        left = sum(answer.size - self.sequences.length(row) for answer, row in rows)
        return left + sum(answer.request.max_tokens for answer in entering)
