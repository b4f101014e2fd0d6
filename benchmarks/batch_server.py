"""A process that runs batch jobs to be measured, each in a fork, so that it can be killed.

Everything is imported once. For each line it reads (a job's settings as JSON) it forks, tells the
process id, and in the end how the process ended: its exit code, or below 0 the signal.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.batch_rows import Fatal
from tersely.errors import TerselyError
from tersely.middleware.batch import batch
from tersely.middleware.pipeline import Pipeline

PIPELINES: dict[str, Any] = {
    "lexical": {"stages": "lexical", "budget": 0.5},
    "fatal": {"stages": Fatal(), "budget": 0.5},
    "json": {"stages": "json"},
}


def work(told: dict[str, Any]) -> int:
    """Run a job; what it came to is written to the file `said`."""
    if room := told.pop("room", 0):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    pipeline = pipeline_of(told.pop("pipeline"))
    file = Path(told.pop("said"))
    began = time.process_time()
    try:
        done = batch(told.pop("source"), told.pop("target"), pipeline=pipeline, **told)
    except TerselyError as error:
        said: dict[str, Any] = {"error": str(error)}
        code = 1
    else:
        said = {**done.model_dump(mode="json"), "message": done.message}
        said["cpu"] = time.process_time() - began
        code = done.exit_code
    file.write_text(json.dumps(said))
    return code


def pipeline_of(name: str) -> Pipeline:
    """A pipeline without a model."""
    given = dict(PIPELINES[name])
    return Pipeline(given.pop("stages"), model="gpt-4o", **given)


def serve() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 70
            try:
                code = work(json.loads(line))
            finally:
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


class Server:
    """Jobs to be begun, one after the other, and disturbed."""

    def __init__(self, said: Path) -> None:
        self.file = said
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.batch_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def begin(self, **told: Any) -> int:
        """Begin a job. Its process id."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({**told, "said": str(self.file)}) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """Wait for the end of the job: its exit code, or below 0 the signal that ended it."""
        return int(self._line())

    def run(self, **told: Any) -> Any:
        """Run a job to its end. What it came to."""
        self.begin(**told)
        self.end()
        return self.said

    @property
    def said(self) -> Any:
        """What the last job that came to an end came to."""
        return json.loads(self.file.read_text())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()


if __name__ == "__main__":
    if len(sys.argv) > 1:  # one job, alone in its process
        sys.exit(work(json.loads(sys.argv[1])))
    serve()
