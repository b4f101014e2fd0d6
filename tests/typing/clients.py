"""Never run, only type-checked: a wrapped client is of the type that it was."""

from __future__ import annotations

from typing import assert_type

import anthropic
import openai
from langchain_openai import ChatOpenAI

import tersely


def of_wrap() -> None:
    assert_type(tersely.wrap(openai.OpenAI()), openai.OpenAI)
    assert_type(tersely.wrap(openai.AsyncOpenAI()), openai.AsyncOpenAI)
    assert_type(tersely.wrap(openai.AzureOpenAI()), openai.AzureOpenAI)
    assert_type(tersely.wrap(anthropic.Anthropic()), anthropic.Anthropic)
    assert_type(tersely.wrap(anthropic.AsyncAnthropic()), anthropic.AsyncAnthropic)
    assert_type(tersely.wrap(ChatOpenAI()), ChatOpenAI)
