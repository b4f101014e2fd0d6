"""The contract of all backends, kept by a real engine: see `make engines`.

`TERSELY_ENGINE_URL` is where the engine's API begins, `TERSELY_ENGINE_MODEL` the model it serves
and `TERSELY_ENGINE` its name; without them nothing is tested. `TERSELY_ENGINE_WEIGHTS` is the same
model on this machine.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from backend_contract import BackendContract, asked, one

from tersely.backends.http import HttpBackend
from tersely.backends.local import LocalBackend
from tersely.contracts import Request
from tersely.prompt import Prompt, Segment
from tersely.soft import SoftPrompt
from tersely.sot.probing import measured

NOTE = "The kettle is blue. It holds 1.7 litres."
WEIGHTS = os.environ.get("TERSELY_ENGINE_WEIGHTS", "smollm2")
"""Where the engine's model lies on this machine."""

URL = os.environ.get("TERSELY_ENGINE_URL", "")
ENGINE = os.environ.get("TERSELY_ENGINE", "")

pytestmark = pytest.mark.skipif(not URL, reason="TERSELY_ENGINE_URL names no engine")

JOB = (6, 80, 36, 155, 107)
"""Six points of eighty tokens after a skeleton of 36; prompts of 155 tokens share 107."""

PAYS = {"vllm": True, "llama.cpp": False}
"""Whether a skeleton pays: llama.cpp's four-bit weights on a CPU gain nothing from a batch."""


@pytest.fixture(scope="module")
def answers() -> HttpBackend:
    model = os.environ.get("TERSELY_ENGINE_MODEL", "smollm2")
    return HttpBackend(base_url=URL, model=model).recognised()


class TestEngine(BackendContract):
    def test_it_is_recognised(self, answers: HttpBackend) -> None:
        assert answers.engine == ENGINE

    def test_what_it_declares_is_what_it_does(self, answers: HttpBackend) -> None:
        found = answers.probe()
        wavering = {"prefill"}  # half a word may be too hard for a tiny model
        assert found - wavering == answers.capabilities - wavering

    def test_a_beginning_that_was_read_is_told(self, answers: HttpBackend) -> None:
        long = asked("The kettle holds 1.7 litres and is blue. " * 12, max_tokens=2)
        one(answers, long)
        assert one(answers, long).cached_tokens >= 32

    def test_the_gate_takes_the_faster_road(
        self, answers: HttpBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if ENGINE not in PAYS:
            pytest.skip("not known which road is faster")
        monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
        profile = measured(answers, again=True)
        print(profile.model_dump_json(), profile.reason(*JOB))
        assert profile.pays(*JOB) is PAYS[ENGINE], profile.reason(*JOB)

    @pytest.mark.parametrize("raw", [True, False], ids=["raw", "chat"])
    def test_vectors_say_what_their_text_says(self, answers: HttpBackend, raw: bool) -> None:
        if ENGINE != "vllm":
            pytest.skip("takes no vectors here")
        able = answers.model_copy(update={"can": answers.capabilities | {"embeds"}})
        note = LocalBackend(model=WEIGHTS).embed(NOTE)
        question = Segment(text=" What colour is the kettle?", kind="question")
        soft = Segment(text="[note]", kind="soft", soft=SoftPrompt(note.vectors, able.model))
        text, vectors = (
            Request(prompt=Prompt((begin, question)), raw=raw, max_tokens=8)
            for begin in (Segment(text=NOTE), soft)
        )
        (wanted,) = able.complete([text])
        ways = [able.model_copy(update={"weights": WEIGHTS}), *([] if raw else [able])]
        for way in ways:
            (made,) = way.complete([vectors])
            assert made.text == wanted.text
            assert "".join(chunk.text for chunk in way.stream(vectors)) == wanted.text
