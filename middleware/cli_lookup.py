"""`tersely ask --index`: answer a question from what is found in an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from tersely.errors import ConfigError, RequestError
from tersely.middleware.cli_index import FilterOption, TenantOption, collection, filter_of, place
from tersely.middleware.cli_io import Say, tell, write_json
from tersely.middleware.cli_options import Display, Wishes

if TYPE_CHECKING:
    from tersely.account import Account, RagAnswer
    from tersely.contracts import Backend

PLAN = "rag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Where to look things up, and how."""

    index: Annotated[
        Path | None, Option(help="Answer from this index, which `tersely index add` made.")
    ] = None
    plan: Annotated[
        str | None, Option(help="With --index: rag, flare, self_rag, two_hop or replug.")
    ] = None
    k: Annotated[int | None, Option("--k", "-k", min=1, help="Passages that a search gives.")] = (
        None
    )
    evidence_tokens: Annotated[
        int | None, Option(min=1, help="Tokens that passages may take in the prompt.")
    ] = None
    only: FilterOption = None
    tenant: TenantOption = ""

    def __post_init__(self) -> None:
        if self.index is None and (stray := [*_given(self, "index")]):
            raise ConfigError(f"--{stray[0]} goes with --index FOLDER")

    def answer(
        self, question: str, backend: Backend, wishes: Wishes, max_tokens: int, say: Say
    ) -> RagAnswer:
        """Ask, and say every piece of the answer as it comes. Raises ConfigError."""
        from tersely.middleware.answer import stream_answer

        searcher = collection(self.index or Path(), self.tenant).searcher(filter_of(self.only))
        telling = stream_answer(
            question,
            searcher=searcher,
            backend=backend,
            plan=self.plan or PLAN,
            max_tokens=max_tokens,
            **self._settings(wishes),
        )
        for piece in telling:
            say(piece)
        say("\n")
        return telling.answer

    def _settings(self, wishes: Wishes) -> dict[str, Any]:
        """The settings of the plan. Raises ConfigError for wishes that mean nothing here."""
        if stray := [*_given(wishes, "question", "model", "stage")]:
            raise ConfigError(f"--{stray[0]} is for a text; with --index use --evidence-tokens")
        if len(wishes.stage) > 1:
            raise ConfigError(f"with --index one --stage prunes passages, was {wishes.stage!r}")
        recipe = {"recipe": wishes.stage[0]} if wishes.stage else {}
        tokens = {"tokens": self.evidence_tokens} if self.evidence_tokens else {}
        evidence = {"evidence": {**tokens, **recipe}} if tokens or recipe else {}
        return {**evidence, **({"k": self.k} if self.k else {})}


def ask_index(
    lookup: Lookup,
    question: str,
    backend: Backend,
    wishes: Wishes,
    max_tokens: int,
    *,
    display: Display,
    say: Say,
) -> None:
    """Answer a question, then tell what the answer rests on and what it cost."""
    if not question.strip():
        raise RequestError("there is no question: give it as TEXT, or with --question")
    answer = lookup.answer(question, backend, wishes, max_tokens, say)
    if display.as_json:
        account = answer.account
        sums = {name: getattr(account, name) for name in ("spent", "saved", "wasted")}
        write_json({"question": question, **asdict(answer), "account": asdict(account) | sums})
    elif not display.quiet:
        for line in told(answer):
            tell(line, "dim")


def told(answer: RagAnswer) -> Iterator[str]:
    """What an answer rests on and what it cost, for people to read."""
    yield from (f"[{number}] {place(one)}" for number, one in enumerate(answer.passages, 1))
    if answer.citations:
        held = sum(one.supported for one in answer.citations)
        yield f"{held} of {len(answer.citations)} sentences rest on these passages"
    account = answer.account
    yield f"{_spent(account)}; {_saved(account)}"
    yield from account.notes


def _spent(account: Account) -> str:
    about = "" if account.exact else "about "
    wasted = f", {account.wasted:,} of them in vain" if account.wasted else ""
    return (
        f"{about}{account.spent:,} tokens ({account.prompt:,} read, {account.completion:,} made"
        f"{wasted}); calls: {len(account.calls)}, searches: {account.searches}"
    )


def _saved(account: Account) -> str:
    compared = "more" if account.saved < 0 else "fewer"
    return f"{abs(account.saved):,} {compared} than with all that was found, whole"


def _given(values: Lookup | Wishes, *but: str) -> Iterator[str]:
    """The options that were given, as they are spelled. What is not given is empty."""
    for name in (one.name for one in fields(values) if one.name not in but):
        if getattr(values, name):
            yield {"only": "filter"}.get(name, name).replace("_", "-")
