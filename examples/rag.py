"""Keep a folder of texts in an index, and answer questions from it with the embedded model.

The texts are this project's own documents, or a folder of yours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tersely import registry
from tersely.errors import TerselyError
from tersely.middleware.answer import stream_answer

DOCS = Path(__file__).resolve().parents[1] / "docs"
QUESTION = "What is done with a text that is in the index already?"


def main(
    question: Annotated[str, typer.Argument(help="What you want to know.")] = QUESTION,
    folder: Annotated[Path, typer.Option(help="Texts of yours.")] = DOCS,
    index: Annotated[Path, typer.Option(help="Where the index goes.")] = Path("out/rag"),
    embedder: Annotated[str, typer.Option(help="static, onnx, a model, or ''.")] = "static",
    plan: Annotated[str, typer.Option(help="rag, flare, self_rag, two_hop, replug.")] = "rag",
) -> None:
    """Bring the index up to date, search it, and ask."""
    try:
        collection = registry.collection("faiss", folder=index, embedder=embedder)
        print(f"embedder: {collection.ready()}")
        added = collection.add(collection.files([folder], ["*.md", "*.txt"]))
        print(f"{added.passages} passages of {added.files} files, {added.new} of them new\n")
        print("Asking smollm2 (a model of 135 million parameters: it errs).\n")
        model = registry.backend("local", model="smollm2")
        telling = stream_answer(
            question,
            searcher=collection.searcher(),
            backend=model,
            plan=plan,
            max_tokens=80,
            evidence={"tokens": 400},
        )
        for piece in telling:
            print(piece, end="", flush=True)
    except TerselyError as error:
        print(f"error: {error}")
        raise typer.Exit(1) from error
    answer = telling.answer
    print("\n")
    for number, one in enumerate(answer.passages, 1):
        print(f"[{number}] {one.source}:{one.start}-{one.end}")
    print("\n".join([f"{answer.account.spent} tokens", *answer.account.notes]))


if __name__ == "__main__":
    typer.run(main)
