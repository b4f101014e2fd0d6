"""Only text leaves move: whatever a request holds, nothing else changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import REQUESTS, any_request, junk
from trees import differences, strings

from tersely.middleware import adapters
from tersely.prompt import Prompt


def rewritten(prompt: Prompt) -> Prompt:
    """The prompt with every open text as something else."""
    return prompt.with_texts({i: prompt.segments[i].text.swapcase() + "~" for i in prompt.open})


def listed(prompt: Prompt, *, locked: bool) -> set[Any]:
    return {leaf.path for leaf in prompt.leaves if leaf.segments[0].locked is locked}


each_shape = pytest.mark.parametrize("shape", REQUESTS)


@each_shape
@given(data=st.data())
def test_each_text_is_listed_for_what_it_is(shape: str, data: st.DataObject) -> None:
    request = data.draw(REQUESTS[shape])
    prompt = adapters.adapter(shape).read(request)
    texts = dict(strings(request))
    assert listed(prompt, locked=False) == {p for p, t in texts.items() if "OPEN" in t}
    shut = {path for path in listed(prompt, locked=True) if path in texts}
    assert shut == {path for path, text in texts.items() if "SHUT" in text}
    assert all(
        adapters.look(request, leaf.path) == leaf.text
        for leaf in prompt.leaves
        if leaf.path in texts
    )


@each_shape
@given(data=st.data())
def test_only_listed_texts_move(shape: str, data: st.DataObject) -> None:
    request = data.draw(REQUESTS[shape])
    before = copy.deepcopy(request)
    prompt = adapters.adapter(shape).read(request)
    after = adapters.write(request, prompt, rewritten(prompt))
    assert set(differences(before, after)) == listed(prompt, locked=False)
    assert not list(differences(before, request))


@given(any_request())
def test_an_unchanged_prompt_gives_the_request_itself(request: Any) -> None:
    reader = adapters.find(request)
    if reader is not None:
        prompt = reader.read(request)
        assert adapters.write(request, prompt, replace(prompt)) is request


@each_shape
@given(data=st.data())
def test_a_shape_is_told_from_the_others(shape: str, data: st.DataObject) -> None:
    request = data.draw(REQUESTS[shape])
    found = adapters.find(request)
    assert found is not None
    assert found.name == shape


@given(
    st.one_of(
        junk(),
        st.dictionaries(
            st.sampled_from(("messages", "input", "system", "context", "instructions", "tools")),
            junk(),
        ),
    )
)
def test_what_is_no_request_is_read_without_an_error(request: Any) -> None:
    before = copy.deepcopy(request)
    for name in adapters.ADAPTERS:
        reader = adapters.adapter(name)
        if reader.matches(request):
            prompt = reader.read(request)
            adapters.write(request, prompt, rewritten(prompt))
    assert not list(differences(before, request))
