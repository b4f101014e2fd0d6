"""Prompts learned by the project's own trainer, and where it starts from.

It learns from real turns, none of which is held out, and from turns that the model makes itself
from the text. What all sizes and forms of one prompt learn from is made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import MODEL
from benchmarks.soft_prompts import Fixed
from benchmarks.soft_speed import asked
from benchmarks.sot_kept import Found, Kept
from tersely.backends.local import LocalBackend
from tersely.compressors.soft_course import PROBES, read
from tersely.compressors.soft_distil import Student
from tersely.compressors.soft_reading import Rendering
from tersely.compressors.soft_start import Start, keys_and_values
from tersely.compressors.soft_turns import self_study
from tersely.models import home
from tersely.registry import trainer
from tersely.soft import KVPrefix, SoftPrompt
from tersely.soft_artefact import Form, SoftAbout, SoftArtefact
from tersely.training import Training
from tersely.weights import causal_lm, encode

LEARNED: Sequence[tuple[Form, int]] = (
    ("kv", 32),
    ("embeds", 32),
    ("kv", 128),
    ("kv", 8),
    ("kv", 64),
)
"""Forms and sizes, the most wanted ones first."""

STARTS: Sequence[Start] = ("averaged", "matched")
OWN = 24
"""Turns that the model makes itself."""

ANSWER = 40
SETTINGS: Mapping[str, Any] = {"role": "system", "held": 6, "every": 12}


def learned(
    fixed: Fixed, form: Form, tokens: int, rows: Kept, *, steps: int, quick: bool
) -> SoftArtefact:
    """The artefact of a prompt: trained, or gone on with, or taken from where it lies."""
    name = f"{fixed.name}-{form}-{tokens}"
    folder = folder_of(name, quick=quick)
    if not (folder / "tersely.json").is_file():
        made = trainer(
            "soft",
            text=fixed.text,
            model=MODEL,
            form=form,
            tokens=tokens,
            turns=0,
            answer_tokens=ANSWER,
            steps=3 if quick else steps,
            **SETTINGS,
        )
        turns = turns_of(fixed, rows, quick=quick)
        made.train(Training(rows=turns, out=folder, progress=_told(name)))
    return SoftArtefact.load(folder)


def folder_of(name: str, *, quick: bool) -> Path:
    """Where what was learned lies until it is forgotten."""
    return home() / "benchmarks" / f"soft{'-quick' if quick else ''}" / name


def turns_of(fixed: Fixed, rows: Kept, *, quick: bool) -> list[dict[str, str]]:
    """Turns with the model's own answers to the full prompt."""
    lm = causal_lm(MODEL)

    def make() -> Found:
        count = 4 if quick else OWN
        turns = [*fixed.learned, *self_study(Rendering(lm, "system"), fixed.text, count, 0)]
        turns = turns[-12:] if quick else turns
        requests = [asked(fixed, fixed.text, turn, ANSWER) for turn in turns]
        said = [done.text for done in LocalBackend(model=MODEL).complete(requests)]
        return {"turns": [*zip(turns, said, strict=True)]}

    told = rows.once(f"{fixed.name} turns", make)["turns"]
    return [{"question": turn, "answer": answer} for turn, answer in told]


def untrained(
    fixed: Fixed, tokens: int, start: Start, rows: Kept, *, quick: bool
) -> KVPrefix | SoftPrompt:
    """Where learning begins, unchanged; what is matched is matched to turns and answers."""
    lm = causal_lm(MODEL)
    rendering = Rendering(lm, "system")
    full, _ = read(rendering, fixed.text)
    turns = turns_of(fixed, rows, quick=quick)[:PROBES] if start == "matched" else []
    probes = [
        (*rendering.rest(one["question"]), *encode(one["answer"], lm)[0].tolist()) for one in turns
    ]
    return Student.new(lm, keys_and_values(lm, full, tokens, start, probes)).soft(MODEL)


def cost(about: SoftAbout) -> dict[str, Any]:
    """What training took, and for what."""
    saved = about.text_tokens - about.tokens
    return {
        "steps": about.steps,
        "seconds": about.seconds,
        "seconds a step": about.seconds_per_step,
        "tokens saved": saved,
        "seconds a saved token": about.seconds / saved,
        "pays back after requests": about.pays_back,
        "fit": about.passed,
        "shortfall": about.shortfall,
    }


def _told(name: str) -> Any:
    def progress(done: int, total: int, figures: Mapping[str, float]) -> None:
        if done % 10 == 0:
            print(f"soft, {name}: {done} of {total} {dict(figures)}", flush=True)

    return progress
