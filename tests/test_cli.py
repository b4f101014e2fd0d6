from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from first_words import CHAT_MESSAGES, LONG, SHORT
from loopback import Loopback
from typer.testing import CliRunner, Result

from tersely import __version__, registry
from tersely.middleware.cli import app

ROOT = Path(__file__).resolve().parents[1]
FIRST = "first_words:FirstWords"
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": CHAT_MESSAGES, "top_p": 0.5}
SMALL = ["--stage", "first_words", "--budget", "20%"]


@pytest.fixture(autouse=True)
def _a_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(registry.STAGES, "first_words", FIRST)
    registry.addresses.cache_clear()
    yield
    registry.addresses.cache_clear()


def run(*arguments: str | Path, given: str | bytes = "") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=given)


def failed(result: Result, code: int = 1) -> str:
    """What a failure said: one line, nothing on standard output."""
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    return result.stderr


# compress


def test_text_from_standard_input() -> None:
    done = run("compress", *SMALL, given=LONG)
    assert (done.exit_code, done.stdout) == (0, SHORT)
    assert "first_words" in done.stderr
    assert "fewer" in done.stderr


def test_quiet_says_nothing() -> None:
    done = run("compress", "-", *SMALL, "--quiet", given=LONG)
    assert (done.stdout, done.stderr) == (SHORT, "")


def test_a_file_to_a_file(tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text(LONG)
    done = run("compress", source, *SMALL, "-o", target, "--html", tmp_path / "diff.html")
    assert (done.exit_code, done.stdout) == (0, "")
    assert target.read_text() == SHORT
    assert "<del> word5 " in (tmp_path / "diff.html").read_text()


def test_json_tells_output_and_report() -> None:
    done = run("compress", *SMALL, "--json", given=LONG)
    told = json.loads(done.stdout)
    assert told["output"] == SHORT
    assert told["report"]["decisions"][0]["stage"] == "first_words"
    assert done.stderr == ""


@pytest.mark.parametrize("indent", [None, 3])
def test_a_request_keeps_its_shape_and_spelling(indent: int | None) -> None:
    given = json.dumps(CHAT, indent=indent).replace("0.5", "0.50")
    done = run("compress", *SMALL, given=given)
    assert done.stdout == given.replace(LONG, SHORT)
    assert done.stdout != given


def test_a_request_can_be_taken_as_text() -> None:
    text = json.dumps({"messages": CHAT_MESSAGES})
    told = json.loads(run("compress", *SMALL, "--text", "--json", given=text).stdout)
    assert isinstance(told["output"], str)
    assert told["report"]["surface"] == "text"


@pytest.mark.parametrize("given", ["{not json", "[" * 3000, '{"no": "adapter"}', "[1, 2]", ""])
def test_json_that_is_no_request_is_text(given: str) -> None:
    done = run("compress", *SMALL, given=given)
    assert (done.exit_code, done.stdout) == (0, given)


def test_audit_changes_nothing() -> None:
    done = run("compress", *SMALL, "--mode", "audit", given=LONG)
    assert done.stdout == LONG
    assert "audit" in done.stderr


def test_a_pipeline_file_and_a_budget_that_goes_before_its_own(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("stages: [{first_words: {words: 3}}]\nbudget: 100%\n")
    assert run("compress", "-p", file, given=LONG).stdout == LONG
    assert run("compress", "-p", file, "-b", "20%", given=LONG).stdout == "word0 word1 word2"


def test_a_model_names_the_counter() -> None:
    done = run("compress", *SMALL, "--model", "gpt-4o", "--json", given=LONG)
    assert "o200k_base" in json.loads(done.stdout)["report"]["counter"]


def test_other_encodings_come_back_as_they_came() -> None:
    text = f"caf\xe9 {LONG}"
    done = run("compress", *SMALL, "--encoding", "latin-1", given=text.encode("latin-1"))
    assert done.stdout_bytes == "caf\xe9 word0 word1 word2 word3".encode("latin-1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "0"], "must be above 0, was 0"),
        (["--budget", "-5"], "was -5"),
        (["--budget", "1.5"], "was 1.5"),
        (["--budget", "150%"], "was 1.5"),
        (["--budget", "much"], "'much'"),
        (["--stage", "first_word"], "nearest: first_words"),
        (["--mode", "loud"], "'loud'"),
        (["--pipeline", "missing.yaml"], "missing.yaml"),
        (["--pipeline", "default", "--stage", "first_words"], "--stage"),
        (["--encoding", "klingon"], "'klingon'"),
        (["no/such/file"], "can't read no/such/file: No such file"),
        (["."], "can't read .: Is a directory"),
        (["-s", "first_words", "-o", "no/such/out"], "can't write no/such/out"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str) -> None:
    assert said in failed(run("compress", *arguments, given=LONG))


def test_a_strict_budget_that_cannot_be_met() -> None:
    request = json.dumps({"messages": [{"role": "system", "content": LONG}]})
    assert "budget" in failed(run("compress", *SMALL, "-b", "5", "--strict", given=request))


def test_bytes_that_are_no_text() -> None:
    told = failed(run("compress", *SMALL, given=b"abc \xff def"))
    assert "byte 0xff at 4" in told
    assert "--encoding" in told


@pytest.mark.parametrize("arguments", [["--nope"], ["compress", "--nope"], ["models", "nope"]])
def test_usage_errors_have_their_own_code(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "nope" in done.stderr


# explain


def test_explain_writes_the_page_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    page = tmp_path / "diff.html"
    done = run("explain", *SMALL, "-o", page, "--open", given=LONG)
    assert done.stdout == f"{page}\n"
    assert "<del> word5 " in page.read_text()
    assert opened == [page.as_uri()]
    told = json.loads(run("explain", *SMALL, "-o", page, "--json", given=LONG).stdout)
    assert told["html"] == str(page)
    assert told["report"]["before"] > told["report"]["after"]
    assert len(opened) == 1


# ask


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback(answer="It is sunny.") as running:
        yield running


def asking(server: Loopback, *arguments: str) -> list[str]:
    return ["ask", *SMALL, "--base-url", f"{server.url}/v1", "--model", "gpt-4o", *arguments]


def sent(server: Loopback) -> list[str]:
    return [
        "\n\n".join(message["content"] for message in body["messages"]) for body in server.bodies
    ]


def test_ask_sends_the_compressed_text_and_the_question(server: Loopback) -> None:
    done = run(*asking(server, "--question", "What is it?"), given=LONG)
    assert (done.exit_code, done.stdout) == (0, "It is sunny.\n")
    assert "fewer" in done.stderr
    assert sent(server) == [f"{SHORT}\n\nWhat is it?"]


def test_ask_compares_with_the_full_prompt(server: Loopback) -> None:
    done = run(*asking(server, "--question", "What is it?", "--compare"), given=LONG)
    assert done.stdout.count("It is sunny.") == 2
    assert done.stdout.count("## The answer to the ") == 2
    assert sent(server) == [f"{SHORT}\n\nWhat is it?", f"{LONG}\n\nWhat is it?"]


def test_ask_a_request_with_one_more_question(server: Loopback) -> None:
    done = run(*asking(server, "--question", "And tomorrow?", "--json"), given=json.dumps(CHAT))
    told = json.loads(done.stdout)
    assert told["answers"]["compressed"]["answer"] == "It is sunny."
    assert told["report"]["after"] < told["report"]["before"]
    (messages,) = (body["messages"] for body in server.bodies)
    assert messages[-1] == {"role": "user", "content": "And tomorrow?"}
    assert SHORT in messages[-2]["content"]


def test_ask_sends_the_key_of_the_variable(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "k-123")
    assert run(*asking(server, "--api-key-env", "SOME_KEY"), given=LONG).exit_code == 0
    assert server.seen[0].headers["authorization"] == "Bearer k-123"
    monkeypatch.delenv("SOME_KEY")
    assert "SOME_KEY" in failed(run(*asking(server, "--api-key-env", "SOME_KEY"), given=LONG))


def test_ask_without_a_model_for_the_server(server: Loopback) -> None:
    assert "--model" in failed(run("ask", "--base-url", server.url, given=LONG))


def test_ask_nothing(server: Loopback) -> None:
    assert "no text" in failed(run(*asking(server), given=""))
    assert server.seen == []


def test_ask_a_server_that_refuses(server: Loopback) -> None:
    server.faults.extend([400])
    done = run(*asking(server, "--quiet"), given=LONG)
    assert failed(done)


@pytest.fixture
def llama(tiny_llama: Path) -> Path:
    return tiny_llama


def test_ask_a_model_that_runs_here(llama: Path) -> None:
    arguments = ["--model", str(llama), "--max-tokens", "5", "--json", "--compare"]
    done = run("ask", *SMALL, *arguments, "-q", "Why?", given=LONG * 3)
    told = json.loads(done.stdout)["answers"]
    assert told["compressed"]["completion_tokens"] <= 5
    assert "exceed" in told["full"]["error"]  # the whole text is longer than it can read
    assert "the full prompt" in done.stderr


# batch


def test_batch_rows(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"text": LONG, "id": i}) + "\n" for i in range(3)))
    done = run("batch", source, "-o", target, *SMALL, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["rows"] == 3
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [(i, SHORT) for i in range(3)]
    again = run("batch", source, "-o", target, *SMALL)
    assert (again.exit_code, again.stdout) == (0, "")
    assert "nothing to do" in again.stderr


def test_batch_mistakes(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    assert "nope.jsonl" in failed(run("batch", "nope.jsonl", "-o", target))
    assert run("batch", "nope.jsonl").exit_code == 2


def test_batch_is_estimated_first(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"text": LONG, "id": i}) + "\n" for i in range(3)))
    told = json.loads(run("batch", source, "-o", target, *SMALL, "--dry-run", "--json").stdout)
    assert (told["rows"], told["tried"]) == (3, 3)
    assert not target.exists()
    done = run("batch", source, "-o", target, *SMALL, "--sample", "2")
    assert "2 of 3 rows were tried" in done.stderr
    assert len(target.read_text().splitlines()) == 3


def test_batch_with_too_many_failures(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"text": LONG}) + "\n{broken\n")
    done = run("batch", source, "-o", target, *SMALL, "--max-error-rate", "0.1", "--quiet")
    assert done.exit_code == 1


# models


def test_models_listed_found_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    rows = json.loads(run("models", "list", "--json").stdout)
    names = {"smollm2", "smollm2-gguf", "minilm"}
    assert {row["name"]: row["path"] for row in rows} == dict.fromkeys(names)
    assert "tersely models pull smollm2" in run("models", "list").stdout
    assert "tersely models pull minilm" in failed(run("models", "path", "minilm"))
    assert "nearest: minilm" in failed(run("models", "pull", "mini"))
    assert "not on this machine" in failed(run("models", "remove", "minilm"))
    folder = tmp_path / "models" / "minilm"
    folder.mkdir(parents=True)
    done = run("models", "remove", "minilm")
    assert (done.stdout, folder.exists()) == (f"{folder}\n", False)
    assert "nearest: smollm2" in failed(run("models", "remove", "smollm"))


def test_models_export(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    done = run("models", "export", tiny_bert, "--precision", "fp32")
    place = Path(done.stdout.strip())
    assert (place / "model.onnx").is_file()
    assert "tracing the graph" in done.stderr
    again = run("models", "export", tiny_bert, "--precision", "fp32", "--json")
    assert json.loads(again.stdout)["path"] == str(place)
    assert "exported already" in again.stderr
    assert "precision" in failed(run("models", "export", tiny_bert, "--precision", "int4"))
    assert "nearest: minilm" in failed(run("models", "export", "minilmm"))


def test_models_path_of_a_folder(llama: Path) -> None:
    assert run("models", "path", llama).stdout == f"{llama}\n"
    assert json.loads(run("models", "path", llama, "--json").stdout)["path"] == str(llama)


# stages


def test_stages_tells_every_name() -> None:
    done = run("stages", "--json")
    entries = {(entry["type"], entry["name"]): entry for entry in json.loads(done.stdout)}
    assert {name for sort, name in entries if sort == "stage"} == set(registry.addresses())
    assert {name for sort, name in entries if sort == "plan"} == set(registry.PLANS)
    assert {name for sort, name in entries if sort == "embedder"} == set(registry.EMBEDDERS)
    assert entries["embedder", "static"]["summary"].startswith("Adds up one learned vector")
    assert ("pipeline", "default") in entries
    mine = entries["stage", "first_words"]
    assert mine["summary"] == "Keeps the first words of every text that it may change."
    assert mine["settings"] == {"words": {"default": 5, "type": "integer"}}
    assert "context" in mine["kinds"]
    assert "words=5" in run("stages").stdout


def test_stages_that_cannot_be_opened_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.STAGES, "broken", "no_such_module:Stage")
    registry.addresses.cache_clear()
    entries = {entry["name"]: entry for entry in json.loads(run("stages", "--json").stdout)}
    assert "no_such_module" in entries["broken"]["error"]
    assert "can't be used here" in run("stages").stdout


def test_version() -> None:
    assert run("--version").stdout == f"tersely {__version__}\n"


# the real thing: processes, pipes and signals


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with another package that adds a stage."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "first_words.py").write_text((ROOT / "tests/first_words.py").read_text())
    package = folder / "acme-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[tersely.stages]\nfirst_words = {FIRST}\n")
    return os.environ | {"PYTHONPATH": str(folder)}


COMMAND = [sys.executable, "-c", "from tersely.middleware.cli import main; main()"]


def process(
    environment: dict[str, str], *arguments: str, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments], input=given, capture_output=True, env=environment, check=False
    )


def test_a_pipe_with_another_packages_stage(elsewhere: dict[str, str]) -> None:
    done = process(elsewhere, "compress", *SMALL, given=LONG.encode())
    assert (done.returncode, done.stdout) == (0, SHORT.encode())
    assert b"first_words" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "given", "code", "said"),
    [
        (["compress", "--stage", "frist_words"], b"x", 1, b"nearest: first_words"),
        (["compress", "-s", "first_words", "--budget", "0"], b"x", 1, b"was 0"),
        (["compress", "no-such-file"], b"", 1, b"can't read no-such-file"),
        (["compress", "-s", "first_words"], b"\xff", 1, b"byte 0xff at 0"),
        (["compress", "--nope"], b"", 2, b"--nope"),
    ],
)
def test_mistakes_show_no_traceback(
    elsewhere: dict[str, str], arguments: list[str], given: bytes, code: int, said: bytes
) -> None:
    done = process(elsewhere, *arguments, given=given)
    assert (done.returncode, done.stdout) == (code, b"")
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_ends_with_130(elsewhere: dict[str, str]) -> None:
    running = subprocess.Popen(
        [*COMMAND, "compress", "-s", "first_words", "-o", os.devnull],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=elsewhere,
    )
    assert running.stdin is not None and running.stderr is not None
    running.stdin.write(b"x" * 100_000)  # more than a pipe holds: it is read, so all is set up
    running.stdin.flush()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert b"Traceback" not in said


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tersely.middleware.cli import main\nsys.argv[1:] = ['--help']\n"
        "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "langchain_core", "openai", "pydantic", "numpy", "tiktoken"}
    assert not set(done.stderr.split()) & heavy
    assert "compress" in done.stdout
