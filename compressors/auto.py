"""Compress every text by what it is: the stage that takes it apart is found by its form."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tersely.compressors.code import Code
from tersely.compressors.diffs import Diff
from tersely.compressors.html import Html
from tersely.compressors.json_stage import Json
from tersely.compressors.logs import Logs
from tersely.compressors.markdown import Markdown
from tersely.compressors.rows import Rows
from tersely.compressors.search_hits import SearchHits
from tersely.compressors.structured import Folding, Structured
from tersely.contracts import Context
from tersely.errors import MissingExtra
from tersely.forms import Form, form_of
from tersely.named import Named
from tersely.prompt import Prompt


class Auto(Structured):
    """Takes each text apart by its form: JSON, logs, tests, diffs, code, tables, hits, pages.

    It does what `json`, `logs`, `diff`, `code`, `rows`, `search_hits`, `html` and `markdown` do,
    each for its own form. All texts together keep the budget: nothing is lost as long as nothing
    has to be, and then all lose the same share of what may go. Prose, and what looks like a form
    and is none, stays as it is: put a pruner behind it. Forms whose parser is not installed are
    left alone, and the report tells.
    """

    name = "auto"
    leap = True

    def recognises(self, text: str) -> bool:
        """Whether a stage that can work here takes texts of this form."""
        return form_of(text) in _stages()

    def fold(self, text: str, asked: Named) -> Folding | None:
        return _stages()[form_of(text)].fold(text, asked)

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        for name, why in _lacking().items():
            context.say(f"auto leaves {name} alone: {why}")
        return super().__call__(prompt, context)


JSON, LOGS = Json(), Logs()

FORMS: Mapping[Form, Structured] = {
    "json": JSON,
    "ndjson": JSON,
    "log": LOGS,
    "tests": LOGS,
    "traceback": LOGS,
    "diff": Diff(),
    "code": Code(),
    "table": Rows(),
    "search": SearchHits(),
    "html": Html(),
    "markdown": Markdown(),
}
"""Who takes a form apart."""


@cache
def _lacking() -> Mapping[str, str]:
    """The forms whose parser is not installed, by their stages, and the mend."""
    found: dict[str, str] = {}
    for stage in FORMS.values():
        try:
            stage.ready()
        except MissingExtra as error:
            found[str(stage.name)] = str(error)
    return found


@cache
def _stages() -> Mapping[Form, Structured]:
    """The stages that can work here."""
    return {form: stage for form, stage in FORMS.items() if stage.name not in _lacking()}
