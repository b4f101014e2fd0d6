"""What all plans that look things up have in common: their settings, and plain retrieval."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tersely.asking import question_of
from tersely.contracts import Context, Request
from tersely.plans import Steps
from tersely.rag.asking import SOURCES, without_context
from tersely.rag.desk import Desk
from tersely.rag.evidence import Evidence
from tersely.rag.gate import ENOUGH_WORDS
from tersely.rag.placing import Place
from tersely.rag.purse import Purse


class Active(BaseModel):
    """Base of the plans that look things up: a frozen value whose fields are its settings.

    Open segments of the kind `context` in the request are left out: they are what is searched, or
    else lock them. `tokens` bounds prompts and answers of all calls together: where they run out,
    the plan stops and answers with what it has. A search gives `k` passages; where they cover less
    than `threshold` of the question's words they are taken to be about something else, and nothing
    is added. `evidence` packs what is added, and `instruction` is what the prompt says of it. The
    answer is a `tersely.account.RagAnswer`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    place: ClassVar[Place] = "before"

    k: int = Field(default=8, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    threshold: float = Field(default=ENOUGH_WORDS, ge=0, le=1)
    evidence: Evidence = Evidence()
    instruction: str = SOURCES

    def steps(self, request: Request, context: Context, /) -> Steps:
        raise NotImplementedError

    def desk(self, request: Request, context: Context) -> Desk:
        """A place to work at. Raises ConfigError when the request asks nothing."""
        return Desk(
            name=self.name,
            request=request,
            context=context,
            evidence=self.evidence,
            instruction=self.instruction,
            place=self.place,
            threshold=self.threshold,
            purse=Purse(context, self.tokens),
            prompt=without_context(request.prompt),
            question=question_of(request.prompt),
        )
