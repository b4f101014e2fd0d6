"""Train the classifier of the stage `llmlingua2`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator

from tersely.artefact import About, save
from tersely.compressors.alignment import survivors
from tersely.compressors.asking import rows_of
from tersely.compressors.chances import around, chances, padded, tokens_of, windows
from tersely.compressors.self_information import surprise
from tersely.contracts import Context
from tersely.convert import quiet
from tersely.errors import ConfigError, require
from tersely.models import resolve
from tersely.tokens import counter
from tersely.training import Checkpoints, Fit, TrainerModel, Training
from tersely.units import Bools, Floats, Ints, Units, split
from tersely.weights import TokenClassifier, new_classifier

if TYPE_CHECKING:
    from torch import Tensor

TEXTS = 16
"""Texts that the teacher reads between two saves."""

IGNORED = -100
"""The label of tokens that teach nothing."""


class Example(BaseModel):
    """A text to learn from, or a text and what somebody made of it."""

    text: str = ""
    original: str = ""
    compressed: str = ""

    @model_validator(mode="after")
    def _some(self) -> Example:
        if bool(self.text) == bool(self.original):
            raise ValueError("`text` is needed, or `original` and `compressed`")
        return self


class WordPruner(TrainerModel):
    """Trains the classifier of the stage `llmlingua2` on your own texts.

    Of a row with `text` the words to keep are the `keep` share that the `teacher`, a causal
    language model, finds most surprising: the classifier learns to tell them from the text
    alone, in both directions and many times faster. Of a row with `original` and `compressed`
    they are those that survive; a row where more than `variation` of the compressed words are
    not from the original is left out. Words are looked for up to `window` words from the last.

    `base` is the encoder to start from: a name of ours, a folder or hub id. `learns` says what
    of it learns too: `all`, `layers` (all but the table of token vectors), or the `head` alone.
    Figures are measured on rows held out: the `loss` and `f1` of words, and the `agreement` when
    as many words are kept (`chance` is what drawing lots would agree).

    What differs from the paper: any teacher or pairs of your own instead of GPT-4's answers.
    """

    name = "pruner"
    needs = frozenset({"encoder"})
    paper = "Pan et al. 2024, https://arxiv.org/abs/2403.12968"
    columns = ("text",)
    other_columns = ("original", "compressed")

    base: str = "minilm"
    teacher: str = "smollm2"
    keep: float = Field(default=0.5, gt=0, lt=1)
    window: int = Field(default=150, ge=1)
    variation: float = Field(default=0.3, ge=0, le=1)
    learns: Literal["all", "layers", "head"] = "layers"
    steps: int = Field(default=500, ge=1)
    batch: int = Field(default=16, ge=1)
    rate: float = Field(default=1e-4, gt=0)
    max_tokens: int = Field(default=256, ge=16)
    held: float = Field(default=0.1, ge=0, lt=1)
    every: int = Field(default=50, ge=1)

    def ready(self) -> None:
        require("torch", "transformers", "safetensors", extra="local")
        resolve(self.base)

    def train(self, training: Training, /) -> Path:
        self.ready()
        examples = rows_of(Example, training)
        checkpoints = self.checkpoints(training)
        labelled = [one for one in self._labelled(examples, training, checkpoints) if one.usable]
        order = np.random.default_rng(self.seed).permutation(len(labelled))
        held, learnt = np.split(order, [min(round(self.held * len(order)), max(len(order) - 1, 0))])
        student = self._student()
        lessons = [
            lesson for i in learnt for lesson in _lessons(labelled[i], student, self.max_tokens)
        ]
        if not lessons:
            raise ConfigError(f"none of the {len(examples)} rows teaches anything: see `variation`")
        losses = Fit(
            module=student.model.train(),
            loss=lambda step: self._loss(step, lessons, student),
            steps=self.steps,
            rate=self.rate,
            every=self.every,
            checkpoints=checkpoints,
            progress=training.progress,
        ).run()
        figures = _figures([labelled[i] for i in held], student) | {"train_loss": losses[-1]}
        self._save(training.out, student, figures, len(examples))
        checkpoints.clear()
        return training.out

    def _labelled(
        self, examples: Sequence[Example], training: Training, checkpoints: Checkpoints
    ) -> list[_Labelled]:
        """Every row with the words to keep."""
        texts = [split(one.text, "word") for one in examples if one.text]
        taught = iter(self._taught(texts, training, checkpoints) if texts else [])
        return [next(taught) if one.text else self._paired(one) for one in examples]

    def _taught(
        self, texts: Sequence[Units], training: Training, checkpoints: Checkpoints
    ) -> list[_Labelled]:
        """Texts with the words that the teacher would keep; what it has read is not read again."""
        import torch

        place = Checkpoints(checkpoints.folder / "labels", checkpoints.key)
        found = place.load()
        done: Bools = found[0]["keep"].numpy() if found else np.zeros(0, np.bool_)
        ends = np.cumsum([len(one) for one in texts])
        context = Context(count=counter())
        first = int(np.searchsorted(ends, len(done), "right"))
        for at in range(first, len(texts), TEXTS):
            some = texts[at : at + TEXTS]
            read = surprise([one.text for one in some], self.teacher, context)
            kept = [_best(s.means(one), self.keep) for s, one in zip(read, some, strict=True)]
            done = np.concatenate((done, *kept))
            place.save({"keep": torch.from_numpy(done)}, {})
            training.progress(at + len(some), len(texts), {})
        return [_Labelled(*pair) for pair in zip(texts, np.split(done, ends[:-1]), strict=True)]

    def _paired(self, example: Example) -> _Labelled:
        words = split(example.original, "word")
        kept, strange = survivors(words, split(example.compressed, "word"), self.window)
        return _Labelled(words, kept, strange <= self.variation)

    def _student(self) -> TokenClassifier:
        """The encoder with a new head; what is not to learn is frozen."""
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            student = new_classifier(self.base, ("drop", "keep"))
        model = student.model.requires_grad_(True)
        if self.learns == "head":
            model.base_model.requires_grad_(False)
        elif self.learns == "layers":
            model.get_input_embeddings().requires_grad_(False)
        return student

    def _loss(self, step: int, lessons: Sequence[_Lesson], student: TokenClassifier) -> Tensor:
        """The mean loss of the tokens of a batch, which is drawn by the step's number alone."""
        import torch
        from torch.nn.functional import cross_entropy

        wanted = np.arange(step * self.batch, (step + 1) * self.batch)
        batch = [lessons[i] for i in _drawn(wanted, len(lessons), self.seed)]
        ids, mask = padded([one.ids for one in batch], student)
        labels = torch.full_like(ids, IGNORED)
        labels[mask.bool()] = torch.from_numpy(np.concatenate([one.labels for one in batch])).to(
            ids.device
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed + step)
            logits = student.model(input_ids=ids, attention_mask=mask).logits
        return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)

    def _save(
        self, out: Path, student: TokenClassifier, figures: dict[str, float], rows: int
    ) -> None:
        out.mkdir(parents=True, exist_ok=True)
        with quiet():
            student.model.save_pretrained(out)
            student.tokenizer.save_pretrained(out)
        about = About(
            recipe="llmlingua2",
            model=self.base,
            settings=self.model_dump(mode="json"),
            figures=figures,
            rows=rows,
        )
        save(out, about)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The words of a text, and which of them to keep."""

    words: Units
    kept: Bools
    usable: bool = True


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What the student reads at a time, and what it should say. Shape: (tokens,) each."""

    ids: Ints
    labels: Ints


def _lessons(labelled: _Labelled, student: TokenClassifier, longest: int) -> list[_Lesson]:
    """A text in windows, as the student will read it, with the label of every token."""
    words, tokens = labelled.words, tokens_of(labelled.words.text, student)
    before, after = around(student)
    own = np.searchsorted(words.starts, tokens.starts, "right") - 1
    labels = np.full(len(own), IGNORED)
    labels[tokens.solid] = labelled.kept[own[tokens.solid]]
    longest = min(longest, student.max_length) - len(before) - len(after)
    return [
        _Lesson(
            np.concatenate((before, tokens.ids[start:end], after)),
            np.pad(labels[start:end], (len(before), len(after)), constant_values=IGNORED),
        )
        for start, end in windows(words.text, tokens, longest)
    ]


def _best(values: Floats, share: float) -> Bools:
    """The share of the values that are highest."""
    kept = np.zeros(len(values), np.bool_)
    kept[np.argsort(-values, kind="stable")[: round(share * len(values))]] = True
    return kept


def _drawn(places: Ints, size: int, seed: int) -> Ints:
    """What stands at some places in a row of endless rounds, each through all in its own order."""
    rounds = places // size
    orders = {r: np.random.default_rng([seed, r]).permutation(size) for r in set(rounds.tolist())}
    return np.array([orders[r][i] for r, i in zip(rounds.tolist(), places % size, strict=True)])


def _figures(held: Sequence[_Labelled], student: TokenClassifier) -> dict[str, float]:
    """How well the student does on texts that it has not seen."""
    student.model.eval()
    if not held:
        return {}
    read = chances([one.words.text for one in held], student, Context(count=counter()))
    guesses = [found.of(one.words) for found, one in zip(read, held, strict=True)]
    alike = [
        _best(guess, one.kept.mean()) == one.kept
        for guess, one in zip(guesses, held, strict=True)
        if len(one.kept)
    ]
    guess, kept = np.concatenate(guesses), np.concatenate([one.kept for one in held])
    if not len(kept):
        return {}
    right = np.clip(np.where(kept, guess, 1 - guess), 1e-7, 1)
    both = float(((guess > 0.5) & kept).sum())
    share = float(kept.mean())
    return {
        "loss": float(-np.log(right).mean()),
        "f1": 2 * both / max(float((guess > 0.5).sum() + kept.sum()), 1),
        "agreement": float(np.concatenate(alike).mean()),
        "chance": share**2 + (1 - share) ** 2,
    }
