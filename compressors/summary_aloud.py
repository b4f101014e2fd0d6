"""Say a summary while it is made: each sentence as soon as it is whole and checked."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

from tersely import plans
from tersely.compressors.summary_run import Run
from tersely.compressors.summary_words import said
from tersely.contracts import Completion
from tersely.errors import StageError
from tersely.plans import Reply, Step
from tersely.units import split

BRANCH = 0


def aloud(
    run: Run, template: str, values: Mapping[str, str], *, purpose: str, source: str
) -> Generator[Step, Reply, str]:
    """One answer, said sentence by sentence, and what of it was said.

    What its source does not hold is never said. The answer is broken off before the sentence that
    would be too much: what was said can't be asked for again. Raises what the backend raises.
    """
    run.context.check()
    request = run.asked(template, values, run.target)
    limit = min(run.target, run.size - 1)
    told, at, raw = "", 0, ""
    heard: Completion | None = None
    yield from plans.fork(BRANCH, request)
    while heard is None:
        event = yield from plans.hear()
        if event.error is not None:
            raise event.error
        if event.branch is None:
            raise StageError("the driver lost the summary that it was to listen to")
        raw, heard = raw + event.text, event.completion
        text = said(heard or Completion(text=raw))
        for start, end in _whole(text, at, ended=heard is not None):
            kept = run.checked(text[start:end], source)
            piece = f"{text[at:start] if told else ''}{kept}" if kept else ""
            at = end
            if run.tokens(told + piece) > limit:
                run.tell("the end was left out to meet the length")
                if heard is None:
                    yield from plans.drop(BRANCH)
                heard = heard or Completion(text=raw, finish_reason="cancelled")
                break
            if piece:
                yield from plans.say(piece)
                told, run.said = told + piece, True
    run.heard(purpose, request, heard)
    return told


def _whole(text: str, at: int, *, ended: bool) -> Iterator[tuple[int, int]]:
    """Where the sentences behind `at` stand that nothing can be added to any more."""
    units = split(text[at:], "sentence")
    places = zip(units.starts.tolist(), units.ends.tolist(), strict=True)
    found = [(at + start, at + end) for start, end in places]
    yield from found if ended else found[:-1]
