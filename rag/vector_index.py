"""Vectors to search in: a piece of an index that never changes once it is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from math import isqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tersely.errors import require
from tersely.rag.rows import Halves
from tersely.units import Bools, Floats, Ints

Kind = Literal["flat", "sq8", "ivf", "hnsw"]

LINKS = 32
"""Neighbours a vector is linked to in a graph; twice as many at its lowest level."""

CARE = 80
"""How many are looked at for each link while a graph is made."""

SAMPLE_PER_LIST = 40
"""Vectors that a list's centre is learnt from: faiss asks for 39 at least."""

TO_LEARN_RANGES = 20_000
"""Vectors from which the range of each dimension is learnt."""


class IndexSettings(BaseModel):
    """Which index searches, and how well.

    `auto` goes by the number of passages. Up to `flat_rows` all are compared exactly, at half
    precision, as they are kept (measured: 2.8 ms at 100,000 by 384 on one thread, where full
    precision takes 4.7 ms and twice the memory). Up to `sq8_rows` in one byte a number, which
    halves the memory at recall 0.98 before rescoring. Above, lists (`ivf`), or where nothing
    will be removed (`mutable=False`) a graph (`hnsw`): it answers in half a millisecond, but it
    can't forget, takes long to make, and is no help to narrow filters. Candidates of all but
    `flat` are scored again by the vectors that are kept. `recall` is the share of the true best
    10 that lists and graphs are tuned to, by searching for passages of their own (questions far
    from all passages find less). A search index is made and
    saved when `save_every` passages, and a quarter of all, are new (0: only by `save()`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["auto", Kind] = "auto"
    mutable: bool = True
    flat_rows: int = Field(100_000, ge=0)
    sq8_rows: int = Field(200_000, ge=0)
    recall: float = Field(0.98, gt=0, le=1)
    save_every: int = Field(10_000, ge=0)

    def kind_for(self, rows: int) -> Kind:
        """The kind of index for so many passages."""
        if self.kind != "auto":
            return self.kind
        if rows <= self.flat_rows:
            return "flat"
        if rows <= self.sq8_rows:
            return "sq8"
        return "ivf" if self.mutable else "hnsw"


@dataclass(frozen=True, slots=True)
class Segment:
    """Some rows with their vectors, ready to be searched. It is never changed.

    Row `rows[i]` (rising) has place i in the faiss `index`. `effort` is how many lists (ivf) or
    candidates (hnsw) are looked at.
    """

    kind: Kind
    rows: Ints
    index: Any
    effort: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """The length of a vector."""
        return int(self.index.d)

    def search(self, vector: Floats, k: int, open_: Bools | None = None) -> tuple[Ints, Floats]:
        """The k nearest rows and their dot products, the best first.

        `open_` are the places that may be found (None: all). Safe from several threads.
        """
        places, scores = self.places(np.asarray([vector], np.float32), k, open_)
        there = places[0] >= 0
        return self.rows[places[0][there]], scores[0][there].astype(np.float64)

    def places(
        self, queries: NDArray[np.float32], k: int, open_: Bools | None = None, effort: int = 0
    ) -> tuple[Ints, NDArray[np.float32]]:
        """The k nearest places for each query (-1: no more). Shape: (queries, k), twice."""
        with one_thread():
            params = _parameters(self, effort or self.effort, k, open_)
            scores, places = self.index.search(queries, min(k, len(self)), params=params)
        return places, scores


@cache
def library() -> Any:
    """faiss, whose own type stubs tell of another interface than it has. Raises MissingExtra."""
    require("faiss", extra="rag")
    return import_module("faiss")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let faiss work in this thread alone: one query is too little to be shared out."""
    faiss = library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _parameters(segment: Segment, effort: int, k: int, open_: Bools | None) -> Any:
    """How to search this once. Nothing is set on the index, which others search as well."""
    faiss = library()
    selector, share = None, 1.0
    if open_ is not None:
        selector = faiss.IDSelectorBitmap(np.packbits(open_, bitorder="little"))
        share = max(float(open_.mean()), 1 / len(segment))
    if segment.kind == "ivf":  # the fewer may be found, the more lists hold too few of them
        probes = min(segment.index.nlist, round(effort / share))
        return faiss.SearchParametersIVF(sel=selector, nprobe=probes)
    if segment.kind == "hnsw":
        reach = min(len(segment), max(k, round(effort / share)))
        return faiss.SearchParametersHNSW(sel=selector, efSearch=reach)
    return faiss.SearchParameters(sel=selector)


def flat(pieces: Iterable[tuple[Ints, Halves]]) -> Segment:
    """A segment that compares with every vector exactly, as it is kept. Takes one piece at least.

    Pieces are rows, rising, and their vectors; they may come as a stream.
    """
    index: Any = None
    numbers: list[Ints] = []
    for rows, vectors in pieces:
        index = index or exact(vectors.shape[1])
        codes = np.ascontiguousarray(vectors).view(np.uint8)
        index.add_sa_codes(codes.reshape(len(vectors), -1))
        numbers.append(rows)
    return Segment("flat", np.concatenate(numbers), index)


def exact(width: int) -> Any:
    """An empty faiss index that compares with every vector, at half precision."""
    faiss = library()
    halves = faiss.ScalarQuantizer.QT_fp16
    return faiss.IndexScalarQuantizer(width, halves, faiss.METRIC_INNER_PRODUCT)


def unpacked(segment: Segment) -> Halves:
    """The vectors of a flat segment. Shape: (rows, width)."""
    faiss = library()
    codes = faiss.vector_to_array(segment.index.codes)
    halves: Halves = codes.view(np.float16)
    return halves.reshape(len(segment), segment.width)


def empty(kind: Kind, rows: int, sample: NDArray[np.float32]) -> Any:
    """A faiss index without vectors, trained on a sample, for so many rows."""
    faiss = library()
    width, product = sample.shape[1], faiss.METRIC_INNER_PRODUCT
    bytes_ = faiss.ScalarQuantizer.QT_8bit
    if kind == "sq8":
        index = faiss.IndexScalarQuantizer(width, bytes_, product)
    elif kind == "hnsw":
        index = faiss.IndexHNSWSQ(width, bytes_, LINKS, product)
        index.hnsw.efConstruction = CARE
    else:
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(width), width, min(lists(rows), len(sample)), bytes_, product
        )
        index.cp.spherical = True
        index.cp.min_points_per_centroid = 1  # a sample is never refused
    index.train(sample)
    return index


def lists(rows: int) -> int:
    """How many lists so many rows are shared out among."""
    return max(1, 4 * isqrt(rows))


def sample_size(kind: Kind, rows: int) -> int:
    """How many vectors an index of that kind learns from."""
    return lists(rows) * SAMPLE_PER_LIST if kind == "ivf" else TO_LEARN_RANGES
