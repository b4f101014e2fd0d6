"""Which piece of an answer's text belongs to which of its tokens."""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tersely.backends.detokenize import BROKEN
from tersely.contracts import Chunk, Completion


def by_text(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Log-probabilities by text, the likeliest first; tokens of the same text are added up."""
    found: dict[str, float] = {}
    for text, logprob in pairs:
        found[text] = float(np.logaddexp(found[text], logprob)) if text in found else logprob
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def mended(tokens: Sequence[str], text: str) -> list[str]:
    """The tokens of a text, where a server spelled each by itself and so tore characters.

    A torn character goes to the last token of its row of torn ones, and the others are empty.
    """
    whole: list[str] = []
    at, torn = 0, -1
    for token in tokens:
        if BROKEN in token:
            torn = len(whole)
            whole.append("")
            continue
        if torn >= 0 and token:
            found = text.find(token, at + 1)  # a torn character is one at least
            end = found if found >= 0 else len(text)
            whole[torn], torn, at = text[at:end], -1, end
        whole.append(token)
        at += len(token)
    if torn >= 0:
        whole[torn] = text[at:]
    return whole


def _utf8() -> IncrementalDecoder:
    return getincrementaldecoder("utf-8")(errors="replace")


@dataclass(slots=True)
class Tokens:
    """The tokens of an answer, as an OpenAI-compatible server tells of them part by part.

    At each place at most `most` alternatives are kept: servers add the token that they chose.
    """

    most: int = 0
    texts: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[Mapping[str, float]] = field(default_factory=list)
    _bytes: IncrementalDecoder = field(default_factory=_utf8)
    _taken: int = 0

    def add(self, given: Mapping[str, Any], text: str) -> None:
        """Add the `logprobs` of a part, in the chat or the completions format.

        `text` is the text of that part.
        """
        begun = len(self.texts)
        if entries := given.get("content"):
            for entry in entries:
                self._add(entry)
        else:
            self._add_columns(given)
        self.texts[begun:] = mended(self.texts[begun:], text)

    def chunk(self, text: str, completion: Completion | None = None) -> Chunk:
        """A piece of the answer, with the tokens that came since the piece before."""
        since, self._taken = self._taken, len(self.logprobs)
        return Chunk(
            text=text,
            completion=completion,
            tokens=tuple(self.texts[since:]),
            logprobs=tuple(self.logprobs[since:]),
        )

    def likeliest(self) -> tuple[Mapping[str, float], ...]:
        """The alternatives at each place; empty when the server told of none."""
        return tuple(self.alternatives) if any(self.alternatives) else ()

    def _add(self, entry: Mapping[str, Any]) -> None:
        before = self._bytes.getstate()
        pairs = []
        for other in (entry.get("top_logprobs") or ()) if self.most else ():
            pairs.append((self._spelled(other), float(other["logprob"])))
            self._bytes.setstate(before)
        self._keep(pairs)
        self.texts.append(self._spelled(entry))
        self.logprobs.append(float(entry["logprob"]))

    def _add_columns(self, given: Mapping[str, Any]) -> None:
        texts, tops = given.get("tokens") or [], given.get("top_logprobs") or []
        for place, logprob in enumerate(given.get("token_logprobs") or []):
            if logprob is None:  # nothing stands before the first token of a prompt
                continue
            self._keep((tops[place] or {}).items() if place < len(tops) else ())
            self.texts += texts[place : place + 1]
            self.logprobs.append(float(logprob))

    def _keep(self, pairs: Iterable[tuple[str, float]]) -> None:
        self.alternatives.append(dict([*by_text(pairs).items()][: self.most]))

    def _spelled(self, entry: Mapping[str, Any]) -> str:
        """The text that a token completes; its bytes tell more than its spelling."""
        if entry.get("bytes") is None:
            return str(entry.get("token") or "")
        return self._bytes.decode(bytes(entry["bytes"]))
