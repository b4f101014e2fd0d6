"""What a job came to: figures that add up however the rows were treated, and a page of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_batch import Deadly

import tersely
from tersely.errors import ConfigError
from tersely.middleware.batch import batch
from tersely.middleware.batch_plots import Column, ceiling, columns, short
from tersely.middleware.batch_report import BatchReport
from tersely.middleware.rows import Treated
from tersely.middleware.tally import OTHER, REASONS, SHOWN, Tally, bin_of, bin_start

TEXT = "one two three four five six seven eight nine ten"


def run(folder: Path, rows: list[Any], **more: Any) -> BatchReport:
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows) + "torn {\n")
    stage = Deadly(grave=str(folder / "grave"))
    given = {"pipeline": tersely.Pipeline(stage, model="gpt-4o"), "block": 3} | more
    batch(source, folder / "out.jsonl", report=folder / "report.json", **given)
    return BatchReport.model_validate_json((folder / "report.json").read_text())


ROWS: list[Any] = [
    *({"id": f"r{i}", "text": " ".join([TEXT] * (i + 1))} for i in range(20)),
    {"text": 7},
    {"text": f"explode {TEXT}"},
    {"text": ""},
]


def test_the_figures_add_up(tmp_path: Path) -> None:
    report = run(tmp_path, ROWS)
    assert (report.rows, report.done, report.failed) == (24, 21, 3)
    assert sum(report.reasons.values()) == 3
    assert any("holds no text but 7" in reason for reason in report.reasons)
    counted = 22  # those that were read as a request
    assert sum(was for _, was, _ in report.sizes) == counted
    assert sum(now for _, _, now in report.sizes) == counted
    assert report.kinds == {"context": report.before - report.after}
    assert report.stages == {"deadly": report.before - report.after}
    assert report.dollars_before == pytest.approx(report.before * 2.5e-6)
    assert report.compressed == 20
    assert [row.name for row in report.changed] == [f"r{i}" for i in range(19, 9, -1)]
    assert len(report.slowest) == SHOWN
    assert report.changed[0].texts[0][:2] == ("text", ROWS[19]["text"])


def test_a_job_that_was_stopped_tells_of_all_its_runs(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    whole = run(tmp_path / "other", ROWS)
    assert run(tmp_path, ROWS, limit=7).rows == 7
    source = tmp_path / "in.jsonl"
    stage = Deadly(grave=str(tmp_path / "grave"))
    pipeline = tersely.Pipeline(stage, model="gpt-4o")
    path = tmp_path / "again.json"
    page = tmp_path / "page.html"
    batch(source, tmp_path / "out.jsonl", pipeline=pipeline, report=[path, page])
    again = BatchReport.model_validate_json(path.read_text())
    told = {"slowest", "seconds", "changed"}  # which tell times
    assert again.model_dump(exclude=told) == whole.model_dump(exclude=told)
    assert [row.line for row in again.changed] == [row.line for row in whole.changed]
    assert "<!doctype html>" in page.read_text()


def test_rows_cost_what_their_models_cost(tmp_path: Path) -> None:
    def row(model: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": TEXT}]
        return {"custom_id": model, "params": {"model": model, "messages": messages}}

    report = run(tmp_path, [row("claude-opus-5"), row("claude-haiku-4-5")])
    assert report.dollars_before == pytest.approx(report.before / 2 * (5 + 1) / 1e6)


def test_the_page_is_complete_and_harmless(tmp_path: Path) -> None:
    rows = [*ROWS, {"text": f"<script>alert(1)</script> {TEXT}"}, {"<b>": 1}]
    page = run(tmp_path, rows).html()
    assert "<script>" not in page
    assert "default-src 'none'" in page
    for part in ("Rows by tokens", "saved by kind", "Failures by reason", "Most-changed rows"):
        assert part in page
    assert '<i class="was"></i>before<i class="now"></i>after' in page
    assert 'aria-label="tokens of a row"' in page
    assert "6 to 7 tokens: 0 rows before, 1 after" in page
    assert "Cost as input" in page
    assert page.count("<details open>") == 1
    assert '<div class="bar wrong">' in page
    assert "<del>" in page
    assert "row 20 · r19" in page


def test_a_report_of_nothing() -> None:
    assert "0<i>→</i><b>0</b>" in BatchReport.of(Tally()).html()


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=40))
def test_columns_stay_within_their_plot(counts: list[int]) -> None:
    classes = [Column(str(i), f"{n} rows", (("now", n),)) for i, n in enumerate(counts)]
    drawn = columns(classes, "tokens")
    if not any(counts):
        assert drawn == ""
        return
    heights = [float(told) for told in re.findall(r"height:([0-9.]+)%", drawn)]
    assert len(heights) == len(counts)
    assert 50 < max(heights) <= 100 or max(counts) == 1
    top = ceiling(max(counts))
    assert top >= max(counts)
    assert top % 2 == 0


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0"), (999, "999"), (1536, "1.5k"), (12_288, "12k"), (3 << 20, "3.1M")]
)
def test_numbers_below_columns_are_short(count: int, told: str) -> None:
    assert short(count) == told


def test_a_report_of_another_kind_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match=r"ends in \.html or \.json, was report\.pdf"):
        batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", report="report.pdf")
    assert not (tmp_path / "out.jsonl").exists()


@given(st.integers(0, 10**9))
def test_every_size_has_its_class(tokens: int) -> None:
    one = bin_of(tokens)
    assert bin_start(one) <= tokens < bin_start(one + 1)


TREATED = st.builds(
    Treated,
    status=st.sampled_from(["compressed", "unchanged", "failed"]),
    before=st.none() | st.integers(0, 10**6),
    after=st.none() | st.integers(0, 10**6),
    reason=st.sampled_from([f"reason {i}" for i in range(5)]),
    ms=st.integers(0, 1000).map(float),
)


@given(st.lists(TREATED, max_size=12), st.integers(0, 12))
def test_accounts_of_parts_add_up_to_that_of_all(treated: list[Treated], cut: int) -> None:
    each = [Tally.of(i, {"id": i}, one) for i, one in enumerate(treated)]
    both = Tally.total(each[:cut]).plus(Tally.total(each[cut:]))
    assert both == Tally.total(each)
    assert Tally.model_validate_json(both.model_dump_json()) == both


def test_it_takes_the_same_room_however_many_rows(tmp_path: Path) -> None:
    each = (
        Tally.of(i, {}, Treated(status="failed", reason=f"reason {i}", before=i, ms=i))
        for i in range(3000)
    )
    total = Tally.total(each)
    assert len(total.reasons) == REASONS
    assert (sum(total.reasons.values()), total.reasons[OTHER]) == (3000, 3000 - REASONS + 1)
    assert len(total.slowest) == SHOWN
    assert len(total.model_dump_json()) < 10_000
