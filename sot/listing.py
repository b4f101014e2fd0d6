"""One run of a list that forks: the answer up to it, its headings, and the branches behind them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial

from tersely import plans
from tersely.account import SotAnswer
from tersely.contracts import Completion, Request
from tersely.plans import Reply, Step
from tersely.prompt import Prompt
from tersely.sot.branching import Branch, NotAsked, outcome
from tersely.sot.headings import first_heading, sayable
from tersely.sot.parent import Parent
from tersely.sot.plain import plain
from tersely.sot.run import FEWEST, Run
from tersely.sot.shares import LEAST, USUAL, Shares
from tersely.sot.templates import FEW
from tersely.sot.walk import told
from tersely.sot.writing import Job


class Listing:
    """Writes an answer whose list, if it comes to one, is forked into its points.

    `parent` writes the headings, and `said` is what the caller was shown besides the points.
    """

    def __init__(self, run: Run, prompt: Prompt, heading_tokens: int, reserve: float) -> None:
        self.run, self.reserve, self.said = run, reserve, ""
        self.request = replace(run.request, prompt=prompt)
        self.parent = Parent(run, self.request, heading_tokens)
        self._listing: Branch | None = None

    def go(self) -> Generator[Step, Reply, SotAnswer]:
        """Write all of it. Raises what a plain answer raises."""
        heard, error = yield from self._begun()
        opening = first_heading(heard.text)
        if opening is None:
            return (yield from self._without_list(heard, error))
        shown = heard.text[: opening.end]
        self.run.calls.note("answer", self.request, heard, shown)
        left = self.request.max_tokens - self.run.calls.made[-1].completion
        if left - self.parent.tokens < FEWEST * LEAST:
            few = f"{left} tokens are left for the list: nothing was forked"
            return (yield from self._in_one_piece(shown, few, left))
        self.parent.before = heard.text[: opening.start]
        yield from self._say(self.parent.before)
        self.run.shares = Shares.of(left - self.parent.tokens, self.reserve)
        self.parent.take([opening])
        self._listing = self.run.forks.fork(self.parent.listed())
        going = True
        while going:
            self._launch()
            yield from self.run.say()
            going = bool((yield from self.run.forks.step()))
        return (yield from self._ended())

    def _begun(self) -> Generator[Step, Reply, tuple[Completion, Exception | None]]:
        """The answer up to the end of its first heading, shown as it comes."""

        def opened(text: str) -> bool:
            return first_heading(text) is not None

        branch = self.run.forks.fork(outcome(self.request, until=opened))
        while not branch.ended:
            yield from self.run.forks.step()
            if not opened(branch.text):
                yield from self._say(sayable(branch.text))
        heard, error = branch.result
        return heard, error

    def _without_list(
        self, heard: Completion, error: Exception | None
    ) -> Generator[Step, Reply, SotAnswer]:
        """The plain answer, which is there already."""
        run = self.run
        if not isinstance(error, NotAsked):
            run.calls.note("answer", self.request, heard, None)
        if not heard.text:
            reason = f"{type(error).__name__}: {error}" if error else "nothing was written"
            return (yield from plain(run, f"the answer did not begin ({reason})"))
        yield from self._say(heard.text)
        return self._plainly(heard, error, "no list with headings came: nothing was forked")

    def _plainly(self, heard: Completion, error: Exception | None, reason: str) -> SotAnswer:
        run = self.run
        run.route, run.jobs, run.finish = "plain", [], heard.finish_reason
        if error is not None:
            run.tell(f"the answer broke off ({type(error).__name__}: {error})")
            run.finish = "length" if run.forks.late else "other"
        run.tell(reason)
        return run.answer(self.said)

    def _in_one_piece(
        self, shown: str, reason: str, tokens: int
    ) -> Generator[Step, Reply, SotAnswer]:
        """The answer gone on with from what was shown of it, as if there were no list."""
        yield from self._say(shown)
        asked = self.parent.asked(shown, max(tokens, 1))
        branch = self.run.forks.fork(outcome(asked))
        while not branch.ended:
            yield from self.run.forks.step()
            yield from self._say(shown + branch.text)
        heard, error = branch.result
        yield from self._say(shown + heard.text)
        if not isinstance(error, NotAsked):
            self.run.calls.note("answer, more", asked, heard, None)
        return self._plainly(heard, error, reason)

    def _say(self, text: str) -> Generator[Step, Reply, None]:
        """Show the answer up to here, as far as it was not yet shown."""
        if new := text[len(self.said) :]:
            self.said += new
            yield from plans.say(new)

    def _launch(self) -> None:
        """Begin every point whose heading is closed."""
        listing = self._listing is not None and not self._listing.ended
        if self._listing is not None and listing:
            self.parent.heard(self._listing.text)
        coming = [job for job in self.run.jobs if job.branch is None and not job.ended]
        begun_ = len(self.run.jobs) - len(coming)
        for i, job in enumerate(coming):
            most = self.run.skeleton.most - begun_ - i if listing else len(coming) - i
            job.room = self.run.shares.grant(min(max(USUAL - begun_ - i, 1), most), most)
            if job.room:
                job.branch = self.run.forks.fork(job.write(partial(self._point, job)))
            else:
                job.lose("the tokens were spent")

    def _point(self, job: Job, so_far: str) -> Request:
        """The request for a point's text, that goes on from its heading.

        The headings before it are not shown: behind a list without any text a model writes none.
        """
        heading = self.parent.headings[job.point.number - 1]
        shown = self.parent.before + heading.raw + (f" {so_far}" if so_far else "")
        following = heading.following()
        stops = dict.fromkeys(
            f"\n{start}"
            for start in (following, f"{heading.number + 1}.", f"**{heading.number + 1}.")
        )
        asked = self.parent.asked(shown, job.room)
        return replace(asked, stop=(*asked.stop, *stops)[:FEW])

    def _ended(self) -> Generator[Step, Reply, SotAnswer]:
        """The whole; a list of one item, or without any text, is gone on with in one piece."""
        run = self.run
        if self.parent.over:
            run.tell(self.parent.over)
        lost = all(job.state == "lost" for job in run.jobs)
        if len(run.jobs) >= FEWEST and not lost:
            return told(run, before=self.parent.before)
        reason = "not one point could be written" if lost else "the list had one item"
        shown = self.parent.before + run.telling.text
        if not shown:
            return (yield from plain(run, reason))
        self.said = shown
        spent = sum(call.completion for call in run.calls.made)
        left = self.request.max_tokens - spent
        return (yield from self._in_one_piece(shown, f"{reason}: it was gone on with", left))
