"""What type checkers see of us."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHECKED = sorted((ROOT / "tests" / "typing").glob("*.py"))


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: path.stem)
def test_the_public_names_keep_their_types(path: Path) -> None:
    pytest.importorskip("mypy")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
