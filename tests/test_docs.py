"""Every code block in the documents runs; every command in them exists."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tersely.middleware.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)


def blocks(page: Path, language: str) -> list[str]:
    return [body for tag, body in FENCE.findall(page.read_text()) if tag == language]


def _log() -> str:
    """What an agent asked: each request holds all that was said before."""
    said: list[Any] = [{"role": "user", "content": "Which orders are late?"}]
    lines = []
    for i in range(4):
        function = {"name": "orders", "arguments": "{}"}
        call = {"id": f"c{i}", "type": "function", "function": function}
        rows = [{"id": f"{i}-{row}", "state": "sent", "late": False} for row in range(99)]
        said.append({"role": "assistant", "content": None, "tool_calls": [call]})
        said.append({"role": "tool", "tool_call_id": f"c{i}", "content": json.dumps(rows)})
        body = {"model": "gpt-4.1", "messages": said}
        lines.append(json.dumps({"timestamp": f"2026-11-01T12:0{i}:00Z", "body": body}))
    return "\n".join(lines)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with the files that the documents speak of, and a server to ask."""
    from loopback import Loopback

    (tmp_path / "notes.txt").write_text("The kettle holds 1.7 litres. It is blue. " * 40)
    (tmp_path / "log.jsonl").write_text(_log())
    (tmp_path / "request.json").write_text('{"messages": [{"role": "user", "content": "Hello"}]}')
    (tmp_path / "in.jsonl").write_text('{"text": "The kettle is blue. It holds 1.7 litres."}\n' * 5)
    (tmp_path / "pipeline.yaml").write_text("stages: [lexical]\nbudget: {ratio: 0.3}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the network
    with Loopback() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        yield tmp_path


@each_page
def test_no_block_is_left_untagged(page: Path) -> None:
    tags = {tag for tag, _ in FENCE.findall(page.read_text())}
    assert tags <= {"python", "sh", "yaml", "text"}


@each_page
def test_python_blocks_run(page: Path, desk: Path) -> None:
    code = blocks(page, "python")
    if code:
        exec(compile("\n".join(code), page.name, "exec"), {"__name__": "__main__"})


@each_page
def test_yaml_blocks_are_pipelines(page: Path) -> None:
    for text in blocks(page, "yaml"):
        assert yaml.safe_load(text)
        Pipeline.from_yaml(text)


def test_the_page_of_stages_is_up_to_date() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "stages.py"))
    assert (ROOT / "docs" / "stages.md").read_text() == written["page"]()


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def commands(page: Path) -> list[str]:
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


@each_page
def test_commands_run(page: Path, desk: Path) -> None:
    """`tersely` commands run for real; of `make` ones the targets must exist."""
    for line in commands(page):
        words = shlex.split(line)
        if words[0] == "make":
            args = ["make", "-n", *words[1:], "-o", ".venv/.ready"]
            done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
        elif "tersely" in words and "pip" not in words:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            done = subprocess.run(
                line,
                shell=True,
                cwd=desk,
                capture_output=True,
                text=True,
                env={**os.environ, "PATH": path},
            )
        else:
            assert words[:2] == ["pip", "install"], f"nothing runs this: {line}"
            continue
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_the_page_of_results_is_up_to_date() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "results.py"))
    assert (ROOT / "docs" / "results.md").read_text() == written["page"]()
