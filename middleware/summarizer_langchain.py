"""Old turns of a LangChain agent, compacted by our rules where a model would sum them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import Runnable, RunnableConfig

from tersely.contracts import Backend, Context, Request
from tersely.errors import require
from tersely.history import HEAD
from tersely.middleware.carrying import carried
from tersely.middleware.conversation import Conversation
from tersely.plans import Plan
from tersely.prompt import Prompt, Segment
from tersely.registry import plan
from tersely.tokens import counter

if TYPE_CHECKING:
    from langchain.agents.middleware import SummarizationMiddleware

NAMES = {"assistant": "assistant", "tool": "gave"}


class TerselySummarizer(Runnable[Any, str]):
    """What `SummarizationMiddleware` takes as its `summarizer`.

    It is given the messages that are to go and gives the text in their place: what the user said,
    calls, ids, decisions and facts word for word, and the rest in short; by a backend if one is
    given. `settings` are those of the plan `history`. An earlier text of it, found among the
    messages, is gone on from. `model` is who reads it, for counting.

    LangChain trims what it hands over to 4000 tokens unless it is told otherwise
    (`trim_tokens_to_summarize=None`, as `summarization` does): what is trimmed away is lost.
    """

    def __init__(self, backend: Backend | None = None, *, model: str = "", **settings: Any) -> None:
        """Raises ConfigError that names a wrong setting."""
        self.backend = backend
        self.model = model
        self.plan: Plan = plan("history", **settings)

    def invoke(
        self, input: Sequence[AnyMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> str:
        """The text that stands for some messages."""
        return self._call_with_config(self._text, input, config)

    def _text(self, messages: Sequence[AnyMessage]) -> str:
        chat = Conversation("langchain", (), list(messages))
        segments = [one for message in chat.messages for one in message.says]
        for message in chat.messages:
            if message.whole and message.role != "system":
                segments.append(Segment(text=f"[{message.whole}]", kind="history"))
        context = Context(count=counter(self.model), backend=self.backend)
        made = carried(self.plan.steps(Request(prompt=Prompt(tuple(segments))), context), context)
        return made.text or _all(segments)


def summarization(
    model: Any, *, backend: Backend | None = None, **settings: Any
) -> SummarizationMiddleware:
    """LangChain's `SummarizationMiddleware`, with the text written by our rules.

    It takes what that takes (`trigger`, `keep`, ...), and what the plan `history` takes as
    `history={...}`. Raises MissingExtra without the package `langchain`.
    """
    require("langchain", extra="langchain")
    from langchain.agents.middleware import SummarizationMiddleware

    how = dict(settings.pop("history", {}))
    given = {"trim_tokens_to_summarize": None} | settings
    return SummarizationMiddleware(model, summarizer=TerselySummarizer(backend, **how), **given)


def _all(segments: Sequence[Segment]) -> str:
    """Everything that was said, where nothing shorter holds it."""
    rows = (
        f"{NAMES.get(one.role, 'user') if one.kind != 'code' else 'call'}: "
        + "\n  ".join(filter(str.strip, one.text.splitlines()))
        for one in segments
    )
    return "\n".join([HEAD, *rows])
