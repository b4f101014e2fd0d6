"""One run of a plan: what it was asked, found, showed and spent."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace

from tersely import plans
from tersely.asking import after, before, begun, filled
from tersely.contracts import Capability, Context, Request
from tersely.lexical import terms_of
from tersely.plans import Reply, Step
from tersely.prompt import Prompt
from tersely.rag.asking import GO_ON
from tersely.rag.bundle import Bundle
from tersely.rag.evidence import Evidence
from tersely.rag.gate import Signs, verdict
from tersely.rag.placing import Place, with_evidence
from tersely.rag.purse import Purse
from tersely.rag.words import words_of
from tersely.retrieval import Passage

RESERVE = 4
"""The part of what is left that evidence always leaves to the answer: one in so many tokens."""


@dataclass(slots=True, kw_only=True)
class Desk:
    """What a plan works with. `blocks` are the evidence, in the order in which it came."""

    name: str
    request: Request
    context: Context
    evidence: Evidence
    instruction: str
    place: Place
    purse: Purse
    threshold: float
    prompt: Prompt
    question: str
    blocks: list[Bundle] = field(default_factory=list)
    first: list[Passage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _found: dict[str, list[Passage]] = field(default_factory=dict)
    _seen: set[tuple[object, ...]] = field(default_factory=set)

    def can(self, capability: Capability) -> bool:
        """Whether the backend can do something beyond answering."""
        backend = self.context.backend
        return backend is not None and capability in backend.capabilities

    def tell(self, note: str) -> None:
        """Tell the caller which way was taken, and why."""
        if note not in self.notes:
            self.notes.append(note)
        self.context.say(f"{self.name}: {note}")

    def search(self, question: str, k: int) -> Generator[Step, Reply, list[Passage]]:
        """The best passages for a question; the same question is looked up once."""
        key = f"{k} {' '.join(question.split())}"
        if key not in self._found:
            found = yield from plans.search(question, k)
            self._found[key] = found[:k]
            self.first = self.first or found[:k]
        return self._found[key]

    @property
    def searches(self) -> int:
        """How many different searches there were."""
        return len(self._found)

    def related(self, passages: Sequence[Passage], *about: str) -> list[Passage]:
        """The passages, or none where they are about something else than what is asked.

        `about` is what they were looked up for, beside the question.
        """
        if not passages:
            self.tell("nothing was found, and nothing added")
            return []
        texts = [one.text for one in passages]
        best = max(covered(texts, wanted) for wanted in (self.question, *about))
        signs = Signs(coverage=best, enough=self.threshold, text="\n\n".join(texts))
        judged = verdict(self.question, signs)
        if judged.action != "drop":
            return list(passages)
        self.tell(f"nothing added: {judged.reason}")
        return []

    def fresh(self, passages: Iterable[Passage]) -> list[Passage]:
        """Those that were not brought along before, each once."""
        found = {_key(one): one for one in reversed([*passages]) if one.text.strip()}
        return [one for key, one in reversed(found.items()) if key not in self._seen]

    def bring(self, passages: Iterable[Passage], share: float = 1.0) -> bool:
        """Bring passages along, the best first, as one more block; whether any came along.

        What is there already stays as it is, and is not brought again. `share` is the part of the
        room that the block may take.
        """
        new = self.fresh(passages)
        room = int(self.room() * share)
        if not new or room < 1:
            return False
        evidence = self.evidence.model_copy(update={"tokens": room})
        bundle = evidence.bundle(new, self.question, self.context, first=len(self.passages) + 1)
        self._seen |= {_key(one) for one in new} - {_key(one) for one in bundle.dropped}
        self.blocks += [bundle] if bundle else []
        return bool(bundle)

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The passages shown, in the order of their numbers."""
        return tuple(passage for block in self.blocks for passage in block.passages)

    def asked(
        self, *more: str, answer: str = "", blocks: Sequence[Bundle] | None = None
    ) -> Request:
        """The request with evidence, more words of the plan's, and an answer that has begun.

        `blocks` are all so far, unless given. Without any, and without words, it is the request
        as it came.
        """
        shown = self.blocks if blocks is None else blocks
        prompt = self.with_texts(self.instruction) if shown else self.prompt
        for block in shown:
            prompt = with_evidence(prompt, block, place=self.place)
        going_on = answer and not self.can("prefill")
        prompt = after(prompt, *more, filled(GO_ON, answer=answer) if going_on else "")
        if answer and not going_on:
            prompt = begun(prompt, answer)
        return replace(self.request, prompt=prompt)

    def with_texts(self, *texts: str) -> Prompt:
        """What was asked, with texts where the evidence belongs."""
        return (before if self.place == "before" else after)(self.prompt, *texts)

    def room(self, prompts: int = 1) -> int:
        """The tokens that more evidence may have, in each of so many prompts."""
        room = self.evidence.tokens - sum(block.tokens for block in self.blocks)
        left = self.purse.left
        if left is None:
            return room
        now = self.context.tokens(self.asked().prompt)
        now += 0 if self.blocks else self.context.count(self.instruction)
        answer = min(self.request.max_tokens, max(left // RESERVE, 1))
        return min(room, (left - now * prompts - answer) // prompts)


def covered(texts: Sequence[str], question: str) -> float:
    """How much of a question's words some texts hold, 0 to 1."""
    return words_of(texts, terms_of(question)).coverage()


def _key(passage: Passage) -> tuple[object, ...]:
    """What a passage is known by."""
    return (passage.id,) if passage.id else (passage.source, passage.start, passage.text)
