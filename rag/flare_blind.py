"""Look up what is unsure where a backend does not tell how sure it is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from tersely import plans
from tersely.contracts import Completion, Request
from tersely.errors import BackendError
from tersely.plans import Reply, Step
from tersely.rag.answering import told
from tersely.rag.asking import SHORT
from tersely.rag.desk import Desk
from tersely.rag.doubt import agreement, facts, marks, masked, unmarked
from tersely.rag.draft import Draft, Word, sentences
from tersely.retrieval import Passage

MARKS = "Write [?] right after every name, number and date in the answer that you are not sure of."

SAMPLE_TOKENS = 48
WARMTH = 0.7
"""The temperature of the samples."""

AGREED = 0.5
"""The share of names and numbers that two samples must have in common to be taken for sure."""

Told = Generator[Step, Reply, tuple[str, Completion | None]]


@dataclass(slots=True)
class Blind:
    """Three ways to find what is unsure, the next where the one before tells nothing."""

    desk: Desk
    k: int
    searches: int
    marks: str

    def answer(self) -> Told:
        """The answer. It is shown when it is whole, since it may yet be thrown away."""
        heard = yield from self.desk.purse.listen(self.desk.asked(self.marks), "answer")
        if heard is None or not heard.text.strip():
            return (yield from self._plain("there is no answer that marks what is unsure"))
        if any(marks(heard.text)):
            return (yield from self._marked(heard))
        return (yield from self._compared(heard))

    def _marked(self, heard: Completion) -> Told:
        """Look up the sentences that the answer marks as unsure."""
        spans = [span for span in sentences(heard.text) if marks(heard.text[slice(*span)])]
        self.desk.tell(
            "the backend tells no log-probabilities: looked up what the answer itself marks as"
            f" unsure, {len(spans)} sentences"
        )
        new: list[Passage] = []
        for start, end in spans[: self.searches]:
            sentence = Draft(heard.text[start:end])
            unsure = [Word(*span, 0.0) for span in marks(sentence.text)]
            query = unmarked(masked(sentence, (0, end - start), unsure)).replace("[?]", "")
            new += yield from self._found(" ".join(f"{self.desk.question} {query}".split()))
        at = len(self.desk.purse.calls) - 1
        return (yield from self._settled(heard, new, at))

    def _compared(self, heard: Completion) -> Told:
        """Look up the question where two short answers drawn at random tell different things."""
        at = len(self.desk.purse.calls) - 1
        samples = yield from self._samples()
        if len(samples) < 2:
            why = "the answer marks nothing and no samples can be had"
            return (yield from self._plain(why, heard, at))
        agreed = agreement(samples, self.desk.question)
        sure = agreed >= AGREED
        self.desk.tell(
            "the backend tells no log-probabilities and the answer marks nothing as unsure: two"
            f" samples agree in {agreed:.0%} of their names and numbers,"
            f" {'and the answer stands' if sure else 'and the question is looked up'}"
        )
        new: list[Passage] = []
        if not sure and self.searches:
            unlike = frozenset.symmetric_difference(*(facts(text) for text in samples))
            new = yield from self._found(" ".join([self.desk.question, *sorted(unlike)]))
        return (yield from self._settled(heard, new, at))

    def _samples(self) -> Generator[Step, Reply, list[str]]:
        """Two short answers, fewer where they can't be had."""
        asked = self.desk.asked(SHORT)
        size = min(SAMPLE_TOKENS, asked.max_tokens)
        warm = replace(asked, temperature=WARMTH, max_tokens=size)
        requests: Sequence[Request] = [replace(warm, seed=seed) for seed in (1, 2)]
        try:
            answers = yield from self.desk.purse.ask(requests, "sample", 0.5)
        except BackendError as error:
            self.desk.tell(f"no samples: {error}")
            return []
        return [one.text for one in answers if one.text.strip()]

    def _plain(self, why: str, heard: Completion | None = None, at: int = -1) -> Told:
        """Retrieve for the question, and ask; what was heard stands where nothing more can be."""
        self.desk.tell(f"the backend tells no log-probabilities, {why}: the question is looked up")
        new = yield from self._found(self.desk.question)
        if heard is not None:
            return (yield from self._settled(heard, new, at))
        self.desk.bring(new)
        return (yield from told(self.desk))

    def _found(self, query: str) -> Generator[Step, Reply, list[Passage]]:
        found = yield from self.desk.search(query, self.k)
        return self.desk.related(found, query)

    def _settled(self, heard: Completion, new: Sequence[Passage], at: int) -> Told:
        """The answer made anew with what was found; as it is where nothing was."""
        if self.desk.bring(new):
            again, anew = yield from told(self.desk)
            if again.strip():
                self.desk.purse.waste(heard.text, at)
                return again, anew
        text = unmarked(heard.text).strip()
        yield from plans.say(text)
        return text, heard
