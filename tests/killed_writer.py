"""Adds to a store and saves it until it is killed; what was acknowledged is noted beside it.

Run as `python killed_writer.py FOLDER NOTES`: for each line it reads (a seed) it forks a writer,
tells its process id, and waits for its end. Each line of the notes is what held when a call had
returned: ids and the number that their texts carry, or ids that were deleted.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from little_embedder import Hashing

from tersely.rag import FaissStore

WIDTH = 16
NAMES = 40


def open_store(path: Path) -> FaissStore:
    settings = {"kind": ("flat", "sq8", "ivf")[os.getpid() % 3], "save_every": 0}
    return FaissStore(path, embedder=Hashing(WIDTH), settings=settings)


def text_of(name: str, number: int) -> str:
    return f"passage {name} number{number} " + "kettle " * (number % 50)


def main(path: Path, notes: Path, seed: int) -> None:
    store, random = open_store(path), np.random.default_rng(seed)
    with notes.open("a", encoding="utf-8") as file:
        note(file, {"ready": True})
        for step in range(1, 10_000):
            number = seed * 10_000 + step
            names = [str(n) for n in random.choice(NAMES, random.integers(1, 20), replace=False)]
            if random.random() < 0.2:
                note(file, {"deleting": names})
                store.delete(names)
                note(file, {"deleted": names})
                continue
            note(file, {"adding": names, "number": number})
            store.add_texts([text_of(name, number) for name in names], ids=names)
            note(file, {"added": names, "number": number})
            if random.random() < 0.5:
                note(file, {"saving": True})
                store.save()
                note(file, {"saved": True})


def note(file: Any, what: dict[str, Any]) -> None:
    file.write(json.dumps(what) + "\n")
    file.flush()


def possible(notes: Path) -> dict[str, set[int | None]]:
    """What each name may hold: the number of its text, None for nothing.

    What was acknowledged must hold; what was only begun when the process died may or may not.
    """
    held: dict[str, set[int | None]] = {str(n): {None} for n in range(NAMES)}
    begun: tuple[list[str], int | None] = ([], None)
    for line in notes.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if "ready" in one:  # the process before died: what it had begun may have been done
            held |= {name: held[name] | {begun[1]} for name in begun[0]}
            begun = ([], None)
        elif "adding" in one or "deleting" in one:
            begun = (one.get("adding") or one["deleting"], one.get("number"))
        elif "added" in one or "deleted" in one:
            held |= {name: {begun[1]} for name in begun[0]}
            begun = ([], None)
    return held | {name: held[name] | {begun[1]} for name in begun[0]}


def verify(path: Path, notes: Path) -> tuple[int, bool]:
    """Raise AssertionError unless a store holds what it must; passages, and if it had damage."""
    store = open_store(path)
    held = possible(notes)
    found = {str(one.id): one.page_content for one in store.get_by_ids(list(held))}
    for name, numbers in held.items():
        texts = {None if number is None else text_of(name, number) for number in numbers}
        if found.get(name) not in texts:
            raise AssertionError(f"{name} holds {found.get(name)!r}, not one of {texts}")
    stats = store.stats()
    dense = {name for name, _ in store.dense(np.ones(WIDTH), 999)}
    words = {name for name, _ in store.lexical("passage kettle", 999)}
    if not (found.keys() == words and stats.passages == len(found)):
        raise AssertionError(f"{len(found)} passages, {len(words)} by words, {stats}")
    if not (dense == found.keys() or ("ivf" in stats.kinds and dense <= found.keys())):
        raise AssertionError(f"{len(found)} passages, {len(dense)} by vectors, {stats}")
    vectors = Hashing(WIDTH).queries(list(found.values()))
    if found and not np.allclose(store.vectors(list(found)), vectors, atol=2e-3):
        raise AssertionError("vectors and texts do not belong together")
    store.close()
    return len(found), bool(stats.damaged)


def serve(path: Path, notes: Path) -> None:
    """Fork a writer for each seed: packages are imported once, before all of them."""
    for line in sys.stdin:
        writer = os.fork()
        if not writer:
            main(path, notes, int(line))
        print(writer, flush=True)
        os.waitpid(writer, 0)
        print("dead", flush=True)


class Writers:
    """Writers to kill, one after another."""

    def __init__(self, path: Path, notes: Path) -> None:
        self.path, self.notes = path, notes
        notes.touch()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
        command = [sys.executable, str(HERE), str(path), str(notes)]
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def kill_one(self, seed: int, steps: int, after: float) -> tuple[int, bool]:
        """Let one note so many steps, and go on for `after` seconds; then kill it, and verify."""
        goal = self.notes.read_text().count("\n") + steps
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(f"{seed}\n")
        self.server.stdin.flush()
        writer = int(self.server.stdout.readline())
        while self.notes.read_text().count("\n") < goal:
            time.sleep(0.002)
        time.sleep(after)
        os.kill(writer, signal.SIGKILL)
        if self.server.stdout.readline() != "dead\n":
            raise AssertionError("the server of writers died")
        return verify(self.path, self.notes)

    def close(self) -> None:
        assert self.server.stdin and self.server.stdout
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()


HERE = Path(__file__)

if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
