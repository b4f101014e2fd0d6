"""Have an answer told, go on with one, and hand it over with its account."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

from tersely.account import Account, RagAnswer
from tersely.contracts import Completion, FinishReason, Request
from tersely.plans import Reply, Step, Until
from tersely.rag.citations import cited
from tersely.rag.desk import Desk
from tersely.rag.draft import Draft, between, repeated


def told(desk: Desk, *more: str) -> Generator[Step, Reply, tuple[str, Completion | None]]:
    """The answer to all that is on the desk, shown as it comes; "" where nothing can be paid."""
    heard = yield from desk.purse.listen(desk.asked(*more), "answer", aloud=True)
    if heard is None:
        desk.tell("no answer: the tokens do not reach for the prompt")
        return "", None
    return heard.text, heard


def go_on(
    desk: Desk, answer: str, request: Request, purpose: str, until: Until | None = None
) -> Generator[Step, Reply, tuple[Completion, Draft] | None]:
    """What follows the beginning of an answer, without what is said twice.

    The draft begins with the space that belongs between both. None where nothing more can
    be paid.
    """
    fresh = partial(_less_repeated, "" if desk.can("prefill") else answer)

    def enough(text: str) -> bool:
        return until is not None and until(text[fresh(text) :])

    heard = yield from desk.purse.listen(request, purpose, until=enough)
    if heard is None:
        return None
    again = fresh(heard.text)
    desk.purse.waste(heard.text[:again])
    draft = Draft.of(heard).after(again)
    return heard, Draft().joined(draft, between(answer, draft.text))


def answered(desk: Desk, text: str, heard: Completion | None) -> RagAnswer:
    """The answer with its sources, its citations and the account."""
    made = desk.context.count(text) if text else 0
    return RagAnswer(
        text=text,
        prompt_tokens=sum(call.prompt for call in desk.purse.calls),
        completion_tokens=made,
        finish_reason=_ended(heard),
        model=heard.model if heard else "",
        evidence="\n\n".join(block.text for block in desk.blocks),
        passages=desk.passages,
        citations=cited(text, desk.passages),
        account=_account(desk, made),
    )


def _account(desk: Desk, made: int) -> Account:
    whole = desk.request.prompt if desk.prompt != desk.request.prompt else None
    plain = desk.with_texts(desk.instruction, *(one.text for one in desk.first))
    return Account(
        calls=tuple(desk.purse.calls),
        searches=desk.searches,
        limit=desk.purse.limit,
        plain=desk.context.tokens(plain) + made,
        whole=desk.context.tokens(whole) + made if whole else None,
        exact=desk.context.count.exact,
        notes=tuple(desk.notes),
    )


def _ended(heard: Completion | None) -> FinishReason:
    """How the whole answer ended: one that a plan broke off was cut for its length."""
    if heard is None or heard.finish_reason == "cancelled":
        return "length"
    return heard.finish_reason


def _less_repeated(said: str, more: str) -> int:
    """Where in `more` begins what was not said before."""
    bare = more.lstrip()
    again = repeated(said, bare)
    return again + len(more) - len(bare) if again else 0
