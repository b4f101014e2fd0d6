"""Cut an instruction by its syntax: whole constituents, the least needed first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import regex

from tersely.artefact import page
from tersely.compressors.definition import RECIPE, Definition, after_spaces, definition
from tersely.compressors.prune import Pruner
from tersely.compressors.syntax import DEFAULT, Tree, parsed, ready
from tersely.contracts import Context
from tersely.prompt import Kind, Prompt, Segment
from tersely.protect import protected
from tersely.select import FORCED, NEVER, Part
from tersely.units import Bools, Ints, Unit, Units

LADDER = {
    "advcl": 0,
    "relcl": 1,
    "acl": 1,
    "acl:relcl": 1,
    "appos": 2,
    "prep": 3,
    "nmod": 3,
    "obl": 3,
    "amod": 4,
    "advmod": 4,
    "npadvmod": 4,
}
"""The step at which a constituent of each label goes, the first first."""

CORE, SHIELDED = 5, 6
"""What goes when nothing else is left: the main clause, and then its head and what is shielded."""

SHIELD = regex.compile(
    r"(?i)\b(?:json|xml|yaml|csv|html|markdown|latex|sql|formats?|formatted|outputs?|answers?"
    r"|respon(?:d|ds|ses?)|repl(?:y|ies)|return|labels?|class(?:es)?|categor(?:y|ies)|options?"
    r"|lists?|tables?|fields?|keys?|words?|sentences?|characters?|tokens?|letters?|yes|no|true"
    r"|false|only|exactly|at (?:most|least)|not|n['\u2019]t|never|without|except|unless)\b"
)
"""Words that tell what must come out, and those that turn a sense round."""

LINKS = frozenset({"where", "when", "why", "how", "whether", "that", "which", "who", "whom"})
"""Words that go with their clause or not at all."""


class STDC(Pruner):
    """Cuts instructions by whole constituents of their syntax.

    `definition` is the folder of a trained one (`tersely train definition`): wherever that
    definition stands in a text, what the search found that the backend can do without is
    dropped, with or without a budget, and nothing else; a text without it is left alone. With
    `beyond`, what a tighter budget asks is dropped too, first what cost the score least.

    Without `definition` the syntax alone decides, down to the budget: first adverbial clauses,
    then relative clauses, appositions, prepositional phrases, adjectives and adverbs, the more
    deeply nested first; then main clauses from the end. The head of a sentence, facts,
    negations, and words about the output go last, and what holds one of the last three is not
    dropped as a whole. A prompt that is within its budget is left alone.

    What differs from the paper: constituents are those of a dependency parse, the ladder for
    instructions that were never searched is ours, and the budget is met exactly.
    """

    name = "stdc"
    paper = "Yin et al. 2023, https://arxiv.org/abs/2306.01150"
    needs = frozenset({"syntax"})

    kinds: tuple[Kind, ...] = ("instruction",)
    unit: Literal["phrase"] = "phrase"
    fill: Unit | None = None
    definition: str = ""
    beyond: bool = False
    syntax: str = DEFAULT

    def ready(self) -> None:
        if self.definition:
            page(self.definition, RECIPE)
        else:
            ready(self.syntax)

    def needless(self, prompt: Prompt, context: Context) -> bool:
        if self.definition and context.limit is None:
            return False
        return super().needless(prompt, context)

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        """Each segment cut into constituents: where they stand on the ladder, or what is known."""
        if self.definition:
            known = definition(self.definition)
            if not any(known.stands_in(segment.text) for segment in segments):
                context.say(f"stdc: no text holds the definition of {self.definition!r}")
            return [_known(segment, known, self.beyond) for segment in segments]
        return [
            _part(segment, parsed(segment.text, self.syntax, context, segment.spans))
            for segment in segments
        ]


def _known(segment: Segment, known: Definition, beyond: bool) -> Part:
    """What is left of a definition, and all that stands around it."""
    units, kept, falls = known.cut(segment)
    fixed = np.isinf(falls) | (not beyond)
    ranks = np.where(kept, np.where(fixed, FORCED, 0), NEVER)
    return Part(units=units, values=falls, ranks=ranks)


def _part(segment: Segment, tree: Tree) -> Part:
    """The constituents of a text as units, with what each is worth."""
    text = segment.text
    shields = [*protected(text), *(match.span() for match in SHIELD.finditer(text))]
    ranks, owners = _ladder(tree, tree.units.touching(shields))
    depths = tree.depths()
    early = np.arange(len(tree)) / max(len(tree), 1)
    values = np.where(ranks < CORE, -depths[owners] - early[owners], -early[owners])
    ranks = np.where(tree.units.touching(segment.spans), FORCED, ranks)
    opens = np.append(True, (np.diff(ranks) != 0) | (np.diff(owners) != 0))[: len(tree)]
    ends = tree.units.ends[np.append(opens[1:], True)[: len(tree)]]
    units = after_spaces(Units(text, tree.units.starts[opens], ends), ranks[opens] < CORE)
    return Part(units=units, values=values[opens], ranks=ranks[opens])


def _ladder(tree: Tree, shielded: Bools) -> tuple[Ints, Ints]:
    """The step at which each word goes, and the head of the constituent that it goes with.

    A word goes as soon as one of the constituents around it does. Of those that stand as they
    are the head is that of the sentence. Shape: (words,) each.
    """
    down = np.argsort(tree.depths(), kind="stable").tolist()
    heads = tree.heads.tolist()
    holding = shielded.tolist()
    for i in reversed(down):
        holding[heads[i]] |= holding[i]
    ranks = np.full(len(tree), CORE)
    owners = np.arange(len(tree))
    texts = tree.units.texts
    for i in down:
        above = heads[i]
        if above == i:
            continue
        own = CORE if holding[i] or texts[i].lower() in LINKS else _step(tree.labels[i])
        alone = own < CORE and own <= ranks[above]
        ranks[i], owners[i] = (own, i) if alone else (ranks[above], owners[above])
    marks = np.array([label == "punct" for label in tree.labels], np.bool_)
    last = np.array(holding, np.bool_) | tree.roots | (marks & tree.roots[tree.heads])
    return np.where(last & (ranks == CORE), SHIELDED, ranks), owners


def _step(label: str) -> int:
    return LADDER.get(label, CORE)
