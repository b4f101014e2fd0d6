"""Find out which constituents of a task definition a backend can do without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from tersely.artefact import About
from tersely.compressors.asking import Answers, Score, begun, rows_of, scored
from tersely.compressors.definition import RECIPE, Definition, closed_up, write
from tersely.compressors.syntax import DEFAULT, Tree, parsed, ready
from tersely.contracts import Request
from tersely.errors import ConfigError, require
from tersely.prompt import Prompt, Segment
from tersely.render import render
from tersely.tokens import counter
from tersely.training import TrainerModel, Training
from tersely.units import Bools, Floats, Ints

SLACK = 1e-9
"""What rounding may add to the tolerance."""


class Case(BaseModel):
    """An input of the task, with its right outputs."""

    input: str
    output: str | list[str]

    @property
    def outputs(self) -> list[str]:
        """Every right output."""
        return [self.output] if isinstance(self.output, str) else self.output


class SearchDefinition(TrainerModel):
    """Finds what the stage `stdc` may drop of a task `definition`, a text or a file.

    The constituents of its syntax are tried once each, from large to small: one is dropped when
    the `score` of the backend's answers on the rows then stays within `tolerance` of that of the
    whole definition. It ends when all were tried or `share` of the tokens (as `tokens` counts)
    is left. `least` is the number of words in the smallest constituent that is tried. The
    figures are the score of the whole and of the cut definition on the `held` rows, which the
    search does not see, and on the others.

    What differs from the paper: constituents are those of a dependency parse, a comma goes with
    what it sets apart, and facts (see `tersely.protect`) are dropped whole or not at all.
    """

    name = "definition"
    paper = "Yin et al. 2023, https://arxiv.org/abs/2306.01150"
    needs = frozenset({"llm", "syntax"})
    columns = ("input", "output")

    definition: str = Field(min_length=1)
    syntax: str = DEFAULT
    score: Score = "exact"
    tolerance: float = Field(default=0.0, ge=0)
    share: float = Field(default=0.0, ge=0, lt=1)
    least: int = Field(default=1, ge=1)
    tokens: str = "gpt-4o"
    max_tokens: int = Field(default=64, ge=1)
    batch: int = Field(default=16, ge=1)
    held: float = Field(default=0.2, ge=0, lt=1)

    def ready(self) -> None:
        require("torch", extra="local")
        ready(self.syntax)

    def train(self, training: Training, /) -> Path:
        self.ready()
        rows = rows_of(Case, training)
        text = _text(self.definition)
        checkpoints, answers = begun(self, training, self.batch, text)
        held = int(self.held * len(rows))
        order = np.random.default_rng(self.seed).permutation(len(rows)).tolist()
        if not len(order[held:]):
            raise ConfigError("trainer 'definition' needs rows to try the definition on")
        search = _Search(
            trainer=self,
            training=training,
            tree=parsed(text, self.syntax),
            rows=[rows[i] for i in order[held:]],
            answers=answers,
        )
        search.run()
        figures = search.figures([rows[i] for i in order[:held]])
        settings = self.model_dump(mode="json")
        about = About(recipe=RECIPE, settings=settings, figures=figures, rows=len(rows))
        folder = write(training.out, about, search.found())
        checkpoints.clear()
        return folder


@dataclass(slots=True, kw_only=True)
class _Search:
    """One search: what is kept, and what it cost to try to drop the rest."""

    trainer: SearchDefinition
    training: Training
    tree: Tree
    rows: Sequence[Case]
    answers: Answers
    kept: Bools = field(init=False)
    falls: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.kept = np.ones(len(self.tree), np.bool_)
        self.falls = np.full(len(self.tree), np.nan)

    @property
    def whole(self) -> Bools:
        """All words."""
        return np.ones(len(self.tree), np.bool_)

    def run(self) -> None:
        """Try to drop each constituent, from large to small."""
        trainer, parts = self.trainer, self._constituents()
        best = score = self.score(self.whole, self.rows)
        if best <= 0:
            raise ConfigError(
                f"the backend scores 0 ({trainer.score}) with the whole definition: what it can do"
                " without cannot be told"
            )
        enough = trainer.share * self.size(self.whole)
        for done, (head, part) in enumerate(parts):
            left = self.size(self.kept)
            told = {"score": score, "score_whole": best, "tokens": float(left)}
            self.training.progress(done, len(parts), told)
            if left <= enough:
                break
            trial = self.kept.copy()
            trial[part] = False
            if not self.kept[part].any() or not self._says_something(trial):
                continue
            reached = self.score(trial, self.rows)
            self.falls[head] = best - reached
            if reached >= best - trainer.tolerance - SLACK:
                self.kept, score = trial, reached
        told = {"score": score, "score_whole": best, "tokens": float(self.size(self.kept))}
        self.training.progress(len(parts), len(parts), told)

    def found(self) -> Definition:
        """What the stage takes."""
        units = self.tree.units
        words = np.column_stack((units.starts, units.ends))
        return Definition(units.text, words, self.kept, _climbing(self.tree, self.falls))

    def figures(self, held: Sequence[Case]) -> dict[str, float]:
        """How long and how good the definition was and is."""
        told = {
            "tokens_before": float(self.size(self.whole)),
            "tokens_after": float(self.size(self.kept)),
            "searched_before": self.score(self.whole, self.rows),
            "searched_after": self.score(self.kept, self.rows),
        }
        if held:
            told["score_before"] = self.score(self.whole, held)
            told["score_after"] = self.score(self.kept, held)
        return told

    def score(self, kept: Bools, rows: Sequence[Case]) -> float:
        """How good the answers to some rows are under what is left of the definition."""
        text = self.text(kept)
        said = self.answers.to([self._request(text, row) for row in rows])
        how = self.trainer.score
        scores = [scored(how, one, row.outputs) for one, row in zip(said, rows, strict=True)]
        return float(np.mean(scores))

    def size(self, kept: Bools) -> int:
        """The tokens of what is left of the definition."""
        return counter(self.trainer.tokens)(self.text(kept))

    def text(self, kept: Bools) -> str:
        """What is left of the definition, as the stage will write it."""
        return render(closed_up(self.tree.units, kept), kept)

    def _constituents(self) -> list[tuple[int, Ints]]:
        """What is tried, with the head of each: the largest first, then as they stand."""
        labels = self.tree.labels
        parts = [
            (head, part)
            for head, part in enumerate(self.tree.below())
            if labels[head] != "punct" and len(part) >= self.trainer.least
        ]
        return sorted(parts, key=lambda one: -len(one[1]))

    def _says_something(self, kept: Bools) -> bool:
        return any(map(str.isalnum, self.text(kept)))

    def _request(self, definition: str, row: Case) -> Request:
        texts = (
            Segment(text=definition, role="system", kind="instruction", path=(0,)),
            Segment(text=row.input, kind="question", turn=1, path=(1,)),
        )
        prompt = Prompt(texts, question=row.input)
        return Request(prompt=prompt, max_tokens=self.trainer.max_tokens)


def _climbing(tree: Tree, falls: Floats) -> Floats:
    """Falls that are nowhere lower than those of the words below, so that heads go last.

    A word that was not tried by itself has the fall of what it hangs on.
    """
    down = np.argsort(tree.depths(), kind="stable").tolist()
    climbing = falls.copy()
    for i in down:
        if np.isnan(climbing[i]):
            above = int(tree.heads[i])
            climbing[i] = 0.0 if above == i else climbing[above]
    for i in reversed(down):
        above = int(tree.heads[i])
        climbing[above] = max(climbing[above], climbing[i] + (SLACK if above != i else 0.0))
    return climbing


def _text(definition: str) -> str:
    """The definition itself, or what the file of that name holds."""
    path = Path(definition)
    try:
        named = path.is_file()
    except OSError:  # too long for the name of a file
        named = False
    if not named and path.suffix and len(definition.split()) == 1:
        raise ConfigError(f"no file {definition!r}, and it does not look like a definition")
    try:
        text = path.read_text(encoding="utf-8") if named else definition
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the definition {definition!r} can't be read: {error}") from error
    if not text.strip():
        raise ConfigError(f"the definition is empty (given: {definition!r})")
    return text.strip()
