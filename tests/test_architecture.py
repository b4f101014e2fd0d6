"""The rules of the house, held by the code itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

import tersely
from tersely.registry import BACKENDS, COLLECTIONS, EMBEDDERS, PLANS, STAGES, TRAINERS

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("middleware", "compressors", "rag", "sot", "backends")
HEAVY = {
    *("torch", "transformers", "openai", "anthropic", "langchain_core", "tiktoken", "bm25s"),
    *("langchain", "llama_index", "faiss", "sentence_transformers", "wordllama"),
    *("onnxruntime", "onnx"),
    *("tree_sitter", "selectolax"),
}
MAY_OPEN_HEAVY = {
    "middleware/pipeline.py": {"langchain_core"},  # a Pipeline is a Runnable
    "middleware/asker.py": {"langchain_core"},  # of a type of theirs, as are the next
    "middleware/agent_langchain.py": {"langchain", "langchain_core"},
    "middleware/compressor_langchain.py": {"langchain_core"},
    "middleware/postprocessor_llamaindex.py": {"llama_index"},
    "middleware/recall_langchain.py": {"langchain", "langchain_core"},
    "middleware/summarizer_langchain.py": {"langchain_core"},
    "rag/retriever.py": {"langchain_core"},
    "rag/store.py": {"langchain_core"},
    "rag/store_finding.py": {"langchain_core"},
}
LINES_A_FILE, LINES_A_FUNCTION, LINES_A_CLASS, PARAMETERS = 300, 50, 150, 7

FILES = [
    *sorted((ROOT / "tersely").glob("*.py")),
    *(path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))),
]
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def room(path: Path) -> str:
    return "core" if path.parent.name == "tersely" else path.parent.name


def room_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "tersely" or len(parts) < 2:
        return None
    return parts[1] if parts[1] in ROOMS else "core"


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{a.name}" for a in node.names)}
    return found


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@each_file
def test_imports_point_inward(path: Path) -> None:
    if path.name == "__init__.py" and room(path) == "core":
        return  # the face opens the rooms on first use
    targets = {room_of(module) for module in imported(ast.walk(ast.parse(path.read_text())))}
    assert targets - {None} <= {"core", room(path)}


@each_file
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    top = iter(ast.parse(path.read_text()).body)  # `if TYPE_CHECKING:` is no import statement
    allowed = MAY_OPEN_HEAVY.get(str(path.relative_to(ROOT)), set())
    assert not {name.split(".")[0] for name in imported(top)} & (HEAVY - allowed)


@each_file
def test_sizes_stay_readable(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= LINES_A_FILE
    assert {f.name: length(f) for f in functions(tree) if length(f) > LINES_A_FUNCTION} == {}
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert {c.name: length(c) for c in classes if length(c) > LINES_A_CLASS} == {}


@each_file
def test_few_parameters(path: Path) -> None:
    """At most seven; what is named by keyword only (a setting) does not count."""
    for function in functions(ast.parse(path.read_text())):
        names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        assert len([n for n in names if n not in {"self", "cls"}]) <= PARAMETERS, function.name


def test_the_median_function_is_short() -> None:
    lengths = [length(f) for path in FILES for f in functions(ast.parse(path.read_text()))]
    assert median(lengths) <= 12


def test_no_import_cycle() -> None:
    graph = {}
    for path in FILES:
        here = (
            f"tersely.{path.stem}" if room(path) == "core" else f"tersely.{room(path)}.{path.stem}"
        )
        top = iter(ast.parse(path.read_text()).body)
        graph[here] = imported(top)
    seen: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in seen:
            return
        for target in graph.get(module, set()) & graph.keys():
            if target != module:
                visit(target, (*trail, module))
        seen.add(module)

    for module in graph:
        visit(module, ())


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_tersely_is_light() -> None:
    loaded = set(python("import sys, tersely; print(*sys.modules)").split())
    assert not loaded & {*HEAVY, "pydantic", "numpy", "rich", "typer"}


def test_every_module_is_loaded_under_one_name() -> None:
    loaded = set(python("import sys, tersely; tersely.Pipeline; print(*sys.modules)").split())
    assert not loaded & set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_every_room_is_linked_and_packaged(name: str) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'"tersely.{name}" = "{name}"' in pyproject
    assert (ROOT / "tersely" / name).resolve() == ROOT / name


def test_the_face_is_sorted_and_whole() -> None:
    assert sorted(tersely.__all__) == tersely.__all__
    assert len(tersely.__all__) <= 14
    assert all(getattr(tersely, name) for name in tersely.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="nope"):
        _ = tersely.nope


@pytest.mark.parametrize(
    "address",
    [
        address
        for table in (STAGES, PLANS, TRAINERS, BACKENDS, EMBEDDERS, COLLECTIONS)
        for address in table.values()
    ],
)
def test_every_address_opens(address: str) -> None:
    module, _, attribute = address.partition(":")
    file = ROOT / module.removeprefix("tersely.").replace(".", "/")
    tree = ast.parse(file.with_suffix(".py").read_text())
    assert attribute in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
