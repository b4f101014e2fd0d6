"""Compress real long prompts, and answer them in full and compressed with the embedded model.

The text is Python's own language reference, which every machine has, or a file of yours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

import tersely
from tersely.contracts import Backend, Completion, Request
from tersely.errors import ContextLengthError, TerselyError
from tersely.middleware.diff import html
from tersely.middleware.passage import Result
from tersely.prompt import Prompt
from tersely.registry import backend

QUESTIONS = [
    ("string-methods", "Which method removes a prefix from a string?"),
    ("typesmapping", "What does popitem() do?"),
    ("types", "What is a user-defined function?"),  # longer than the model can read
]
INSTRUCTION = "Answer the question from the text, in one short sentence."
MODEL = "smollm2"

console = Console()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and how long it took."""

    text: str
    seconds: float


def main(
    file: Annotated[Path | None, typer.Option(help="A text of yours.")] = None,
    question: Annotated[str, typer.Option(help="What you want to know from it.")] = "",
    budget: Annotated[str, typer.Option(help="Tokens, or a share such as 15%.")] = "15%",
    stage: Annotated[str, typer.Option(help="A stage by its registry name.")] = "query",
    out: Annotated[Path, typer.Option(help="Where the HTML diffs go.")] = Path("out/demo"),
) -> None:
    """Run the main job, end to end."""
    try:
        cases = own_case(file, question) if file or question else reference_cases()
        out.mkdir(parents=True, exist_ok=True)
        console.print(
            f"Compressing to {budget} with {stage!r}, and asking {MODEL} with the full and the"
        )
        console.print("compressed prompt (a model of 135 million parameters: it errs).")
        with console.status("loading the embedded model"):
            engine = backend("local", model=MODEL)
            engine.complete([Request(prompt=Prompt(()), raw=True, max_tokens=1)])
        for name, text, asked in cases:
            show(name, asked, text, budget=budget, stage=stage, engine=engine, out=out)
    except TerselyError as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(1) from error


def reference_cases() -> list[tuple[str, str, str]]:
    """Three topics of the language reference, each with a question."""
    return [(name, topics[name], asked) for name, asked in QUESTIONS]


def own_case(file: Path | None, question: str) -> list[tuple[str, str, str]]:
    """The user's own text and question."""
    if file is None or not question:
        raise typer.BadParameter("give both: make demo FILE=notes.txt QUESTION='What ...?'")
    if not file.is_file():
        raise typer.BadParameter(f"no such file: {file}")
    return [(file.stem, file.read_text(encoding="utf-8", errors="replace"), question)]


def show(
    name: str, question: str, text: str, *, budget: str, stage: str, engine: Backend, out: Path
) -> None:
    """One long prompt: before, after, both answers, and where the diff lies."""
    messages = [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"{text}\n\nQuestion: {question}"},
    ]
    start = perf_counter()
    result = tersely.compress(messages, stage, budget=budget, model=MODEL)
    seconds = perf_counter() - start
    assert result.trace is not None
    page = out / f"{name}.html"
    page.write_text(html(result.trace), encoding="utf-8")
    with console.status(f"{name}: answering from the full prompt"):
        full = ask(engine, result.trace.before)
    with console.status(f"{name}: answering from the compressed prompt"):
        brief = ask(engine, result.trace.after)
    console.print(Panel(drawn(result, seconds, full, brief), title=question, subtitle=str(page)))


def ask(engine: Backend, prompt: Prompt) -> Answer:
    """The model's answer, or why it can't give one."""
    start = perf_counter()
    try:
        (made,) = engine.complete([Request(prompt=prompt, max_tokens=60, stop=("\n\n",))])
    except ContextLengthError as error:
        made = Completion(text=f"(no answer: {error})")
    return Answer(made.text.strip(), perf_counter() - start)


def drawn(result: Result, seconds: float, full: Answer, brief: Answer) -> Table:
    """The figures and answers side by side."""
    report = result.report
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "tokens", "compress", "answer", "what the model says"):
        table.add_column(
            heading, justify="left" if heading in ("", "what the model says") else "right"
        )
    table.add_row("full", f"{report.before:,}", "-", f"{full.seconds:.1f} s", full.text)
    table.add_row(
        "compressed",
        f"{report.after:,} ({report.ratio:.0%})",
        f"{seconds * 1000:.0f} ms",
        f"{brief.seconds:.1f} s",
        brief.text,
    )
    return table


if __name__ == "__main__":
    typer.run(main)
