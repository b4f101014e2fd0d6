"""Killed at any moment, a store opens again, and holds whatever it had acknowledged."""

from __future__ import annotations

import random
from pathlib import Path

from killed_writer import Writers

KILLS = 12


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    writers = Writers(tmp_path / "store", tmp_path / "notes")
    drawn = random.Random(0)
    try:
        found = [
            writers.kill_one(seed, drawn.randint(1, 15), drawn.random() * 0.03)
            for seed in range(KILLS)
        ]
    finally:
        writers.close()
    assert max(count for count, _ in found) > 10
    assert not any(damaged for _, damaged in found)
    assert '"saved"' in (tmp_path / "notes").read_text()
