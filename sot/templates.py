"""What the model is told for a skeleton and for each of its points, and in what order.

What all prompts of an answer have in common stands first: the instruction, the question, then the
skeleton; the number of the point comes last. So a backend that shares prefixes reads it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from pydantic import BaseModel, ConfigDict, field_validator

from tersely.asking import NAME, after, before, begun, filled, next_turn, question_of
from tersely.contracts import Request
from tersely.prompt import Prompt, Segment
from tersely.sot.cutting import ended
from tersely.sot.grammar import Form
from tersely.sot.skeleton import Point, written

KNOWN = frozenset({"number", "next", "point", "details", "most", "parents", "skeleton", "length"})
"""The names that templates may have in braces."""


class Templates(BaseModel):
    """The words of a plan: frozen, each a setting.

    Names in braces are filled in: `{most}` points at most, `{number}` and `{point}` of the point
    to write, `{details}` below it, `{next}` number, the `{skeleton}` so far, the text of its
    `{parents}`, the `{length}` wanted. `opening` and `heading` are how the answers begin: they
    are forced where the backend goes on with an answer (`prefill`, or raw text), and else put in
    front. `stops` end a point. `formed` asks for a skeleton whose form a grammar holds (empty: as
    `outline`): what need not be told is not there to be copied. Raises ConfigError for a name that
    nobody fills in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: str = (
        "Different writers answer the question below. First its points are listed, then each of"
        " them writes one point."
    )
    outline: str = (
        "Now the points. List those that a good answer makes, one per line and numbered: three at"
        " least, {most} at most, only as many as the question needs. Each is three to six words"
        " that name what the point is about, and none overlaps with another. Write the list and"
        " nothing else."
    )
    formed: str = ""
    shown: str = "The points of the answer:\n{skeleton}"
    before_it: str = "What was written to the points that yours builds on:\n{parents}"
    point: str = "You write point {number} and no other: {point}\n{details}Explain it in {length}."
    item: str = (
        "Different writers answer this, each of them one item. You answer item {number} and no"
        " other: {point}\nWrite the answer to this item and nothing else."
    )
    short: str = "Answer only this part of it, in one or two sentences: {point}"
    opening: str = "1."
    heading: str = "{number}. {point}:"
    stops: tuple[str, ...] = ("\n{next}.", "\n{next})", "\n**{next}.")

    @field_validator("*")
    @classmethod
    def _known(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for template in (value,) if isinstance(value, str) else value:
            if unknown := set(NAME.findall(template)) - KNOWN:
                raise ValueError(f"nobody fills in {sorted(unknown)}; known: {sorted(KNOWN)}")
        return value

    def graph(self) -> Self:
        """The same, asking for what each point builds on."""
        return self._asking_more(
            " Where a point can only be written when another is known, end its line with an arrow"
            " and the numbers of those, as in `3. Costs of both ways <- 1, 2`."
        )

    def tagged(self) -> Self:
        """The same, asking which points are hard to write."""
        return self._asking_more(" Put [hard] behind a point that takes an expert to write.")

    def _asking_more(self, text: str) -> Self:
        formed = self.formed and self.formed + text
        return self.model_copy(update={"outline": self.outline + text, "formed": formed})


CHAT = Templates(
    formed="Now the points. List the main points of a good answer, each in three to six words, none"
    " of them twice."
)

RAW = Templates(
    instruction="Below are a question, the list of the points of its answer, and each point in"
    " two or three sentences.\n\nQuestion:",
    outline="The points of the answer, three to {most}, in three to six words each:",
    formed="The points of the answer, in three to six words each:",
    shown="The points of the answer, in three to six words each:\n{skeleton}",
    before_it="{parents}",
    point="Point {number} in {length}:",
    item="The answer for item {number} alone:",
    short="In one or two sentences:",
)
"""For models that only go on with a text."""


class Layout:
    """The prompts of one answer; `base` is what those of a skeleton and its points begin with.

    `goes_on` tells that the backend takes the beginning of an answer. With a `form` the skeleton
    keeps to it, and says everything itself.
    """

    def __init__(
        self, request: Request, templates: Templates, *, goes_on: bool, form: Form | None = None
    ) -> None:
        self.request, self.templates, self.form = request, templates, form
        self.goes_on = goes_on or request.raw
        self._asked = _asking(request.prompt)
        self.base = before(self._asked, templates.instruction)

    @property
    def opening(self) -> str:
        """What a skeleton begins with that the backend does not say."""
        return self.templates.opening if self.goes_on and self.form is None else ""

    @property
    def own(self) -> str:
        """What is said to the model that it is not to say again as a point."""
        return f"{self.templates.instruction}\n{self._outline}"

    def outline(self, most: int) -> Request:
        """The request for a skeleton of at most so many points."""
        request = self._begun(after(self.base, filled(self._outline, most=str(most))), self.opening)
        return request if self.form is None else self.form.put_on(request, most)

    @property
    def _outline(self) -> str:
        return (self.templates.formed if self.form else "") or self.templates.outline

    def point(
        self,
        point: Point,
        skeleton: Sequence[Point],
        *,
        parents: Sequence[str] = (),
        words: int = 60,
        so_far: str = "",
    ) -> Request:
        """The request for one point. `so_far` is what is written of it already."""
        told = filled(self.templates.shown, skeleton=written(skeleton))
        above = filled(self.templates.before_it, parents="\n\n".join(parents)) if parents else ""
        asked = filled(self.templates.point, **self._names(point), length=length(words))
        return self._pointed(after(self.base, told, above, asked), point, so_far)

    def item(self, item: Point, *, so_far: str = "") -> Request:
        """The request for one of the items that the question gives."""
        prompt = after(self._asked, filled(self.templates.item, **self._names(item)))
        return self._pointed(prompt, item, so_far, items=True)

    def short(self, point: Point, *, items: bool = False) -> Request:
        """The request for a point without anything around it, as the last resort."""
        prompt = after(self._asked, filled(self.templates.short, **self._names(point)))
        return self._pointed(prompt, point, "", items=items)

    def heading(self, point: Point, *, items: bool = False) -> str:
        """How the answer to a point begins: an item that is a sentence goes by its number."""
        if items and (len(point.text) > LONGEST_NAME or ended(point.text)):
            return f"{point.number}."
        return filled(self.templates.heading, **self._names(point)).strip()

    def _pointed(
        self, prompt: Prompt, point: Point, so_far: str, *, items: bool = False
    ) -> Request:
        stops = (filled(stop, **self._names(point)) for stop in self.templates.stops)
        head = self.heading(point, items=items)
        request = self._begun(prompt, f"{head} {so_far}" if so_far else head)
        return replace(request, stop=(*self.request.stop, *stops)[:FEW])

    def _begun(self, prompt: Prompt, opening: str) -> Request:
        """With the beginning of the answer, where the backend goes on with it."""
        prompt = begun(prompt, opening) if opening and self.goes_on else prompt
        return replace(self.request, prompt=prompt, logprobs=False, alternatives=0)

    def _names(self, point: Point) -> dict[str, str]:
        details = "".join(f"- {one}\n" for one in point.details)
        names = {"number": str(point.number), "next": str(point.number + 1)}
        return {**names, "point": point.text, "details": details}


FEW = 4
"""Stop strings in a request: servers take no more."""

SENTENCES = (
    (20, "one short sentence"),
    (40, "one or two sentences"),
    (70, "two or three sentences"),
    (110, "four or five sentences"),
)
"""How long so many words are at most."""

LONGEST_NAME = 48
"""Characters of an item that the answer still names."""


def length(words: int) -> str:
    """How a model is told about how many words are wanted: small ones count sentences better."""
    told = (text for most, text in SENTENCES if words <= most)
    return next(told, f"about {words} words")


def _asking(prompt: Prompt) -> Prompt:
    """The prompt with its question in a turn of the user's."""
    if any(one.role == "user" and one.text.strip() for one in prompt.segments):
        return prompt
    turn = next_turn(prompt.segments)
    asked = Segment(text=question_of(prompt), kind="question", turn=turn, path=("question",))
    return replace(prompt, segments=(*prompt.segments, asked), turns=prompt.turns + 1)
