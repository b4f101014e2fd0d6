"""Names for stages: opened on first use, and helpful when mistyped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tersely import registry, stage
from tersely.contracts import Stage
from tersely.errors import ConfigError, UnknownName


@pytest.mark.parametrize("name", registry.STAGES)
def test_every_name_builds_a_stage(name: str) -> None:
    made = stage(name)
    assert isinstance(made, Stage)
    assert made.name == name  # type: ignore[attr-defined]


def test_a_mistyped_name_answers_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no stage named 'lexcal'; nearest: lexical"):
        stage("lexcal")


def test_a_wrong_setting_is_named_with_its_value() -> None:
    with pytest.raises(ConfigError, match=r"stage 'lexical': kinds.*poem"):
        stage("lexical", kinds=("poem",))


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        stage("truncate", nonsense=1)


def test_another_package_adds_a_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real distribution on the path, with an entry point and no line of ours."""
    (tmp_path / "thirdparty.py").write_text(
        "from tersely.contracts import StageModel\n"
        "class Shout(StageModel):\n"
        "    name = 'shout'\n"
        "    def __call__(self, prompt, context):\n"
        "        texts = {i: prompt.segments[i].text.upper() for i in prompt.open}\n"
        "        return prompt.with_texts(texts)\n"
    )
    info = tmp_path / "thirdparty-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tersely.stages]\nshout = thirdparty:Shout\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.addresses.cache_clear()
    try:
        from tersely import compress

        assert compress("a b", "shout", budget=None).output == "A B"
    finally:
        registry.addresses.cache_clear()


def test_an_unknown_backend_answers_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="nearest: local"):
        registry.backend("locl")
