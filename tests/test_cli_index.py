"""`tersely index` and `tersely ask --index`, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback
from typer.testing import CliRunner, Result

from tersely import registry
from tersely.middleware.cli import app
from tersely.rag import FaissStore

TEXTS = {
    "docs/kettle.md": "# Kettle\n\nThe kettle holds 1.7 litres of water. It is blue.\n",
    "docs/bread.txt": "Bread rises slowly in a cold kitchen. A knife wants to be sharp.\n",
    "rows.jsonl": '{"text": "Copper pipes.", "id": "a", "metadata": {"year": 2024, "by": "x=y"}}\n',
}
QUESTION = "How much water does the kettle hold?"


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with texts."""
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    return tmp_path


@pytest.fixture
def index(desk: Path) -> str:
    assert run("index", "add", "shelf", "docs", "rows.jsonl", "--embedder", "").exit_code == 0
    return "shelf"


def run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


def told(*arguments: str) -> Any:
    """What a command writes as JSON."""
    done = run(*arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return json.loads(done.stdout)


def failed(*arguments: str, given: str = "") -> str:
    """What a failure said: one line, nothing on standard output."""
    done = run(*arguments, given=given)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


# index add


def test_files_and_folders_are_added() -> None:
    done = run("index", "add", "shelf", "docs", "rows.jsonl", "--embedder", "static")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == ("embedder: static\n3 files, 3 passages: 3 new, 0 as before, 0 deleted\n")
    Path("docs/bread.txt").unlink()
    Path("docs/kettle.md").write_text("The kettle is red.")
    Path("docs/dump").write_bytes(b"\0\1")
    done = run("index", "add", "shelf", "docs", "--prune")
    assert "1 files, 1 passages: 1 new, 0 as before, 2 deleted" in done.stderr
    assert "skipped 1: docs/dump (it is binary)" in done.stderr
    assert told("index", "stats", "shelf")["passages"] == 2


def test_adding_tells_all_as_json() -> None:
    first = told("index", "add", "shelf", "docs", "--glob", "*.md", "--embedder", "")
    assert first == {
        "files": 1,
        "passages": 1,
        "new": 1,
        "deleted": 0,
        "skipped": {},
        "pruned": 0,
        "embedder": "none: found by words alone",
    }
    assert told("index", "add", "shelf", "docs", "--size", "8")["passages"] > 3


def test_many_skipped_files_are_not_all_named() -> None:
    for number in range(9):
        Path(f"docs/{number}.bin").write_bytes(b"\0")
    done = run("index", "add", "shelf", "docs", "--embedder", "")
    assert "skipped 9: docs/0.bin (it is binary), " in done.stderr
    assert done.stderr.count("it is binary") == 5
    assert run("index", "add", "shelf", "docs", "--quiet").stderr == ""


def test_a_bar_is_drawn_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    done = run("index", "add", "shelf", "docs", "--embedder", "")
    assert "2 passages" in done.stderr
    assert "100%" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "can't read nope: no such file or folder"),
        (["docs", "--glob", "*.pdf"], "no file that fits *.pdf in docs"),
        (["docs", "--embedder", "statics"], "nearest: static"),
        (["docs", "--encoding", "klingon"], "klingon"),
    ],
)
def test_what_cannot_be_added(arguments: list[str], said: str) -> None:
    assert said in failed("index", "add", "shelf", *arguments, "--quiet")


def test_another_embedder_than_before(index: str) -> None:
    said = failed("index", "add", index, "docs", "--embedder", "static")
    assert "was made with the embedder '', not 'static'" in said


def test_a_file_where_the_folder_should_be() -> None:
    assert "docs/kettle.md" in failed("index", "add", "docs/kettle.md", "docs", "--embedder", "")


def test_wrong_options_have_their_own_code() -> None:
    assert run("index", "add", "shelf").exit_code == 2
    assert run("index", "add", "shelf", "docs", "--size", "0").exit_code == 2
    assert run("index", "nope").exit_code == 2


# index search


def test_search_shows_scores_places_and_texts(index: str) -> None:
    done = run("index", "search", index, QUESTION, "-k", "1")
    head, *text = done.stdout.splitlines()
    assert head.startswith("[1] docs/kettle.md:0-59  score ")
    assert "lexical " in head
    assert text[:3] == TEXTS["docs/kettle.md"].splitlines()
    assert done.stderr == ""


def test_search_as_json(index: str) -> None:
    found = told("index", "search", index, QUESTION)
    (first,) = found["passages"]
    assert first["text"] == TEXTS["docs/kettle.md"].strip()
    assert (first["source"], first["start"]) == ("docs/kettle.md", 0)
    assert first["metadata"]["tersely"]["lexical"] == pytest.approx(first["score"], abs=1e-4)
    assert "1 passages to choose from" in found["reason"]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (["source=docs/kettle.md"], 1),
        (["source=docs/bread.txt"], 0),
        (["year=2024"], 1),
        (['year="2024"'], 0),
        (['year={"$gte": 2000}', "by=x=y"], 1),
        (["year=2024", "year=2023"], 0),
    ],
)
def test_search_among_some(index: str, wanted: list[str], count: int) -> None:
    options = [word for one in wanted for word in ("--filter", one)]
    found = told("index", "search", index, "kettle water copper pipes", *options)
    assert len(found["passages"]) == count


def test_nothing_is_good_enough(index: str) -> None:
    done = run("index", "search", index, "kettle of gold and silver", "--threshold", "0.9")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "0 of 5 passages found: 1 of 1 passages are below a share of the words" in done.stderr
    done = run("index", "search", index, "zeppelin")
    assert "no passage holds a word of the question" in done.stderr


def test_what_a_terminal_would_act_on_is_shown(index: str) -> None:
    Path("docs/kettle.md").write_text("The kettle is \x1b[31mred.")
    run("index", "add", index, "docs")
    assert "kettle is \u241b[31mred." in run("index", "search", index, "kettle").stdout


def test_where_there_is_no_index() -> None:
    for command in (["search", "shelf", "x"], ["stats", "shelf"], ["delete", "shelf", "--id", "x"]):
        assert "there is no index at 'shelf'" in failed("index", *command)
    assert not Path("shelf").exists()
    assert "a filter is KEY=VALUE" in failed("index", "search", "shelf", "x", "--filter", "year")


# index stats, index delete, tenants


def test_stats_and_delete(index: str) -> None:
    stats = run("index", "stats", index).stdout
    assert "passages     3\n" in stats
    assert "embedder     none: found by words alone\n" in stats
    (found,) = told("index", "search", index, QUESTION)["passages"]
    assert told("index", "delete", index, "--id", found["id"]) == {"deleted": 1}
    done = run("index", "delete", index, "--source", "rows.jsonl#a", "--source", "nope")
    assert (done.stdout, done.stderr) == ("", "1 passages deleted\n")
    assert told("index", "stats", index)["passages"] == 1
    assert "say what to delete" in failed("index", "delete", index)


def test_tenants_do_not_see_each_other(index: str) -> None:
    run("index", "add", index, "rows.jsonl", "--tenant", "acme", "--embedder", "static")
    assert told("index", "stats", index, "--tenant", "acme")["passages"] == 1
    assert told("index", "stats", index)["passages"] == 3
    assert "of tenant 'other'" in failed("index", "search", index, "x", "--tenant", "other")


# ask --index


@pytest.fixture
def answering(desk: Path) -> Any:
    with Loopback(answer="It holds 1.7 litres of water [1].") as running:
        yield running


def asking(server: Loopback, *arguments: str) -> list[str]:
    return ["ask", "--base-url", f"{server.url}/v1", "--model", "gpt-4o", *arguments]


def sent(server: Loopback) -> str:
    (body,) = (seen.body for seen in server.take())
    return "\n\n".join(message["content"] for message in body["messages"])


@pytest.mark.parametrize(
    ("arguments", "given"),
    [([QUESTION], ""), (["--question", QUESTION], ""), ([], f"{QUESTION}\n"), (["-"], QUESTION)],
)
def test_ask_an_index(answering: Loopback, index: str, arguments: list[str], given: str) -> None:
    done = run(*asking(answering, *arguments, "--index", index), given=given)
    assert (done.exit_code, done.stdout) == (0, "It holds 1.7 litres of water [1].\n")
    lines = done.stderr.splitlines()
    assert lines[:2] == ["[1] docs/kettle.md:0-59", "1 of 1 sentences rest on these passages"]
    assert "calls: 1, searches: 1; " in lines[2]
    body = sent(answering)
    assert TEXTS["docs/kettle.md"].strip() in body
    assert body.endswith(QUESTION)


def test_ask_an_index_as_json(answering: Loopback, index: str) -> None:
    options = asking(answering, QUESTION, "--index", index, "-k", "1", "--filter", "source=x")
    found = told(*options)
    assert found["question"] == QUESTION
    assert found["text"] == "It holds 1.7 litres of water [1]."
    assert found["passages"] == []
    assert sent(answering) == QUESTION  # nothing was found: nothing is added
    account = found["account"]
    assert account["spent"] == account["calls"][0]["prompt"] + account["calls"][0]["completion"]
    assert account["notes"] == ["nothing was found, and nothing added"]


def test_evidence_keeps_to_its_tokens(answering: Loopback, index: str) -> None:
    Path("docs/long.md").write_text("The kettle holds water, and much of it. " * 40)
    run("index", "add", index, "docs")
    run(*asking(answering, QUESTION, "--index", index))
    whole = sent(answering)
    options = ["--evidence-tokens", "90", "--stage", "lexical"]
    done = run(*asking(answering, QUESTION, "--index", index, *options))
    assert len(sent(answering)) < len(whole) / 2
    assert "fewer than with all that was found" in done.stderr


@pytest.mark.parametrize(
    "plan", sorted(registry.PLANS.keys() - {"apar", "history", "sot", "summarise"})
)
def test_every_plan_can_be_asked(answering: Loopback, index: str, plan: str) -> None:
    options = ["--index", index, "--plan", plan, "--quiet", "--max-tokens", "30"]
    done = run(*asking(answering, QUESTION, *options))
    assert (done.exit_code, done.stderr) == (0, "")
    assert "1.7 litres" in done.stdout
    assert any(
        TEXTS["docs/kettle.md"].strip() in seen.raw.decode().encode().decode("unicode_escape")
        for seen in answering.seen
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan", "rga"], "nearest: rag"),
        (["--budget", "5"], "--budget is for a text"),
        (["--strict"], "--strict is for a text"),
        (["--compare"], "--compare is for a text"),
        (["-s", "lexical", "-s", "truncate"], "one --stage"),
        (["-s", "lexicl"], "nearest: lexical"),
        (["--question", "What?"], "one question is asked"),
        (["--tenant", "other"], "no index of tenant 'other'"),
    ],
)
def test_what_cannot_be_asked(
    answering: Loopback, index: str, arguments: list[str], said: str
) -> None:
    assert said in failed(*asking(answering, QUESTION, "--index", index, *arguments))
    assert answering.seen == []


def test_no_question_and_no_index(answering: Loopback, index: str) -> None:
    assert "there is no question" in failed(*asking(answering, "--index", index), given=" \n")
    assert "--plan goes with --index" in failed(*asking(answering, "--plan", "rag"), given="x")
    said = failed(*asking(answering, "--evidence-tokens", "9"), given="x")
    assert "--evidence-tokens goes with --index" in said


@pytest.mark.model
def test_the_embedded_model_answers_from_an_index(smollm2: Path, index: str) -> None:
    done = run("ask", QUESTION, "--index", index, "--max-tokens", "24")
    assert "1.7" in done.stdout
    assert "[1] docs/kettle.md:0-59" in done.stderr


# elsewhere


def test_help_of_the_index_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tersely.middleware.cli import main\n"
        "sys.argv[1:] = ['index', 'add', '--help']\n"
        "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stderr.split()) & {"torch", "langchain_core", "faiss", "numpy"}


def test_an_index_is_a_store_like_another(index: str) -> None:
    store = FaissStore(index)
    assert [name for name, _ in store.lexical("copper pipes", 3)]
    store.add_texts(["A kettle of tin."], [{"source": "mine"}])
    found = told("index", "search", index, "tin")["passages"]
    assert [one["source"] for one in found] == ["mine"]
