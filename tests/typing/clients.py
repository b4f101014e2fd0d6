"""Never run, only type-checked: a wrapped client is of the type that it was."""

from __future__ import annotations

from typing import assert_type

import anthropic
import openai
from langchain_openai import ChatOpenAI

import tersely
from tersely.account import SotAccount
from tersely.backends.scripted import ScriptedBackend
from tersely.middleware.asker import Asker


def of_wrap() -> None:
    assert_type(tersely.wrap(openai.OpenAI()), openai.OpenAI)
    assert_type(tersely.wrap(openai.AsyncOpenAI()), openai.AsyncOpenAI)
    assert_type(tersely.wrap(openai.AzureOpenAI()), openai.AzureOpenAI)
    assert_type(tersely.wrap(anthropic.Anthropic()), anthropic.Anthropic)
    assert_type(tersely.wrap(anthropic.AsyncAnthropic()), anthropic.AsyncAnthropic)
    assert_type(tersely.wrap(ChatOpenAI()), ChatOpenAI)


def of_sot() -> None:
    assert_type(tersely.sot(openai.OpenAI()), openai.OpenAI)
    assert_type(
        tersely.sot(anthropic.AsyncAnthropic(), "force", points=5), anthropic.AsyncAnthropic
    )
    assert_type(tersely.sot(ChatOpenAI(), deadline=20), ChatOpenAI)
    assert_type(tersely.sot(ScriptedBackend(lambda request: "")), Asker)
    assert_type(tersely.sot.last_account(), SotAccount | None)
    tersely.wrap(openai.OpenAI(), sot={"points": 5})
