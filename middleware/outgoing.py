"""What goes out of a request for the provider's cache: long enough for it, marked, and priced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tersely.budget import Budget
from tersely.contracts import Context
from tersely.middleware.adapters import Adapter
from tersely.middleware.breakpoints import Placed, breakpoints
from tersely.middleware.cacheable import Raised, raised
from tersely.middleware.pricing import Bill, Parcel, marks_of
from tersely.middleware.session import Session
from tersely.prompt import Prompt

if TYPE_CHECKING:
    from tersely.middleware.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Outgoing:
    """How a pipeline sends the requests of one reader's shape to a model."""

    pipeline: Pipeline
    budget: Budget
    reader: Adapter
    model: str

    def bill(self, session: Session, context: Context, request: Any, given: Prompt) -> Bill | None:
        """The account of what a request costs, if a price is known of its model."""
        terms = self.pipeline.history
        return session.pricing.bill(
            given,
            context,
            request,
            surface=self.reader.name,
            model=self.model,
            now=session.clock(),
            prices=terms.prices if terms else "",
        )

    def raised(self, bill: Bill | None, read: Prompt, made: Prompt, request: Any) -> Raised:
        """What was made of a prompt, long enough to be cached where it would have been.

        A budget in tokens or a ratio goes before that.
        """
        if bill is None:
            return Raised(made)
        goes = bill.parcel(made, marks_of(read, request, self.reader.name, self.model))
        if self.budget.tokens is not None or self.budget.ratio is not None:
            return Raised(made, goes)
        return raised(bill, read, made, goes, marked=self.pipeline.cache == "breakpoints")

    def placed(self, request: Any) -> Placed:
        """What goes out, with cache breakpoints where the pipeline asks for them."""
        if self.pipeline.cache != "breakpoints":
            return Placed(request)
        if self.reader.name != "anthropic":
            return Placed(request, notes=(f"breakpoint: none for {self.reader.name}",))
        return breakpoints(request, model=self.model)

    def parcel(self, sent: Raised, placed: Placed) -> Parcel:
        """What the provider's cache sees of what goes out."""
        goes = sent.parcel or Parcel((), None)
        if not placed.places:
            return goes
        read = self.reader.read(placed.request)
        return replace(goes, marks=marks_of(read, placed.request, self.reader.name, self.model))
