"""A data set in every kind of file: what goes in comes out, with shorter texts and the account."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from little_batch import Half

import tersely
from tersely.errors import ConfigError
from tersely.middleware.batch import batch
from tersely.middleware.batch_summary import BatchSummary
from tersely.middleware.places import packed, unpacked

TEXT = "one two three four five six seven eight nine ten"
SHORT = TEXT[:24]
PIPELINE = tersely.Pipeline(Half(), model="gpt-4o")
ROWS = [{"id": i, "text": f"{TEXT} {i}" if i % 5 else None, "n": i / 2} for i in range(23)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode() + b"torn {\n"


def run(source: Any, target: Any, **more: Any) -> BatchSummary:
    given = {"pipeline": PIPELINE, "block": 4} | more
    return batch(str(source), str(target), **given)


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in unpacked_of(path).split(b"\n") if line]


def unpacked_of(path: Path) -> bytes:
    codec = {".gz": "gz", ".zst": "zst"}.get(path.suffix, "")
    with path.open("rb") as file, unpacked(file, codec) as plain:  # type: ignore[arg-type]
        return plain.read()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = {".gz": "gz", ".zst": "zst"}.get(path.suffix, "")
    path.write_bytes(packed(data, codec))  # type: ignore[arg-type]
    return path


def stopped_at(source: Any, target: Any, rows: int, junk: Path | None = None) -> BatchSummary:
    """Run up to a row, tear what is being written, and go on to the end."""
    first = run(source, target, limit=rows)
    assert (first.rows, first.finished) == (rows, False)
    if junk:
        with junk.open("ab") as file:
            file.write(b"\x00torn")
    done = run(source, target)
    assert (done.skipped, done.finished) == (rows, True)
    return done


# packed lines


def plain(folder: Path) -> bytes:
    run(write(folder / "plain.jsonl", LINES), folder / "whole.jsonl", resume=False)
    return (folder / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_packed_lines(tmp_path: Path, ending: str) -> None:
    source = write(tmp_path / f"in.jsonl{ending}", LINES)
    target = tmp_path / f"out.jsonl{ending}"
    done = stopped_at(source, target, 9, target)
    assert unpacked_of(target) == plain(tmp_path)
    assert (done.rows, done.failed) == (24, 6)
    errors = read(tmp_path / f"out.jsonl{ending}.errors.jsonl")
    assert [error["line"] for error in errors] == [1, 6, 11, 16, 21, 24]


def test_others_can_read_what_was_packed(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", LINES)
    for name in ("out.jsonl.gz", "out.jsonl.zst"):
        run(source, tmp_path / name)
    whole = plain(tmp_path)
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == whole
    with (tmp_path / "out.jsonl.zst").open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        assert reader.read() == whole


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_torn_packed_file_is_told_after_what_could_be_read(tmp_path: Path, ending: str) -> None:
    source = tmp_path / f"in.jsonl{ending}"
    codec: Any = ending[1:]
    whole = packed(LINES, codec) + packed(LINES, codec)
    source.write_bytes(whole[:-7])
    with pytest.raises(ConfigError, match=r"can't be read after line \d+: it ends in the middle"):
        run(source, tmp_path / "out.jsonl")
    assert len(read(tmp_path / "out.jsonl")) >= 23


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5), st.sampled_from(["", "gz", "zst"]))
def test_packed_pieces_in_a_row_are_the_pieces_in_a_row(pieces: list[bytes], codec: Any) -> None:
    data = b"".join(packed(piece, codec) for piece in pieces)
    with unpacked(io.BytesIO(data), codec) as file:
        assert file.read() == b"".join(pieces)


# CSV

CELLS = (
    "\N{ZERO WIDTH NO-BREAK SPACE}id;text;note\r\n"
    f'1;{TEXT};"1,50"\r\n'
    '2;"short\nof two lines";"""quoted"""\r\n'
    "\r\n"
    "3;one cell too few\r\n"
    f'4;"{TEXT} ""and"" more";x\r\n'
    "5;;  spaced \r\n"
)


def test_cells(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(CELLS.encode() + b'6;"a\xff";\r\n')
    target = tmp_path / "out.csv"
    done = stopped_at(source, target, 3, target)
    assert (done.rows, done.failed) == (6, 2)
    written = target.read_bytes()
    rows = list(csv.DictReader(io.StringIO(written.decode(), newline=""), delimiter=";"))
    assert list(rows[0]) == [
        *("id", "text", "note", "tersely_before", "tersely_after"),
        *("tersely_status", "tersely_reason", "tersely_decisions"),
    ]
    assert [row["id"] for row in rows] == ["1", "2", "4", "5"]
    assert rows[0]["text"] == SHORT
    assert (rows[0]["note"], rows[1]["note"], rows[3]["note"]) == ("1,50", '"quoted"', "  spaced ")
    assert rows[0]["tersely_status"] == "compressed"
    assert int(rows[0]["tersely_after"]) < int(rows[0]["tersely_before"])
    (decision,) = json.loads(rows[0]["tersely_decisions"])
    assert (decision["stage"], decision["action"]) == ("half", "compressed")
    assert b"\r\n5;;  spaced ;" in written  # nothing changed: its bytes are there
    reasons = [error["reason"] for error in read(tmp_path / "out.csv.errors.jsonl")]
    assert reasons == ["2 cells, the header has 3", "not UTF-8 at byte 4"]


def test_cells_that_were_told_before(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"text,n\n{TEXT},1\n")
    run(tmp_path / "in.csv", tmp_path / "once.csv")
    run(tmp_path / "once.csv", tmp_path / "twice.csv.gz")
    rows = list(csv.DictReader(io.StringIO(unpacked_of(tmp_path / "twice.csv.gz").decode())))
    assert rows[0]["text"] == SHORT[:12]
    assert len(rows[0]) == 7


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\x00"), max_size=9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5))
def test_every_other_cell_survives(rows: list[tuple[str, str]]) -> None:
    made = io.StringIO()
    csv.writer(made).writerows([("text", "other"), *rows])
    with TemporaryDirectory() as folder:
        (Path(folder) / "in.csv").write_bytes(made.getvalue().encode())
        run(Path(folder) / "in.csv", Path(folder) / "out.csv")
        with (Path(folder) / "out.csv").open(encoding="utf-8", newline="") as file:
            out = list(csv.DictReader(file))
    assert [row["other"] for row in out] == [other for _, other in rows]
    for row, (text, _) in zip(out, rows, strict=True):  # where half spares no token all stays
        assert row["text"] in (text, text[: (len(text) + 1) // 2])


# tables

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        pa.field("text", pa.large_string(), metadata={b"said": b"by us"}),
        pa.field("label", pa.dictionary(pa.int8(), pa.string())),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("data", pa.binary()),
        pa.field("price", pa.decimal128(9, 2)),
        pa.field("pairs", pa.map_(pa.string(), pa.int16())),
    ],
    metadata={b"owner": b"me"},
)


def table(rows: int = 23) -> Any:
    made = {
        "id": range(rows),
        "text": [f"{TEXT} {i}" if i % 5 else None for i in range(rows)],
        "label": [["a", "b", None][i % 3] for i in range(rows)],
        "at": [1_700_000_000_000_000 + i for i in range(rows)],
        "data": [bytes([i, 255]) for i in range(rows)],
        "price": pa.array([f"{i}.50" for i in range(rows)]).cast(SCHEMA.field("price").type),
        "pairs": [[("k", i)] for i in range(rows)],
    }
    return pa.table(
        {
            n: v if isinstance(v, pa.Array) else pa.array(v, SCHEMA.field(n).type)
            for n, v in made.items()
        },
        schema=SCHEMA,
    )


def written(path: Path) -> Any:
    if path.is_dir():
        state = json.loads((path / "state.json").read_text())
        path = path / state["_data_files"][0]["filename"]
    if path.suffix == ".parquet":
        return pq.read_table(path)
    data = path.read_bytes()
    opened = pa.ipc.open_file(data) if data[:6] == b"ARROW1" else pa.ipc.open_stream(data)
    return opened.read_all()


def save(path: Path, given: Any) -> Path:
    """A table as a file, or as a dataset of two files."""
    if path.suffix == ".parquet":
        pq.write_table(given, path, row_group_size=6, compression="zstd")
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, given.schema) as file:
            file.write_table(given, max_chunksize=5)
    else:
        path.mkdir()
        features = {"text": {"dtype": "large_string", "_type": "Value"}}
        told = json.dumps({"info": {"features": features}}).encode()
        given = given.replace_schema_metadata({**given.schema.metadata, b"huggingface": told})
        names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
        for name, part in zip(names, (given.slice(0, 9), given.slice(9)), strict=True):
            with pa.ipc.new_stream(path / name, given.schema) as file:
                file.write_table(part, max_chunksize=5)
        state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
        (path / "state.json").write_text(json.dumps(state))
        (path / "dataset_info.json").write_text(json.dumps({"features": features}))
    return path


@pytest.mark.parametrize("name", ["in.parquet", "in.arrow", "dataset"])
def test_tables_keep_their_columns(tmp_path: Path, name: str) -> None:
    given = table()
    source = save(tmp_path / name, given)
    target = tmp_path / name.replace("in", "out").replace("dataset", "made")
    part = target.with_name(f"{target.name}.part")
    done = stopped_at(source, target, 10, part)
    assert (done.rows, done.failed) == (23, 5)
    made = written(target)
    assert made.schema.names == [*SCHEMA.names, "tersely"]
    for field in SCHEMA:
        assert made.schema.field(field.name).type == field.type
        if field.name != "text":
            assert made.column(field.name).to_pylist() == given.column(field.name).to_pylist()
    assert made.schema.metadata[b"owner"] == b"me"
    assert made.schema.field("text").metadata[b"said"] == b"by us"
    assert made.column("text").to_pylist()[:2] == [None, f"{TEXT} 1"[:25]]
    account = made.column("tersely").to_pylist()
    assert account[1]["status"] == "compressed"
    assert account[1]["after"] < account[1]["before"]
    assert account[1]["decisions"][0]["stage"] == "half"
    assert "no field 'text'" in account[0]["reason"]
    assert not part.exists()
    again = run(source, target)
    assert (again.skipped, again.finished) == (23, True)


def test_the_target_keeps_how_columns_are_packed(tmp_path: Path) -> None:
    source = save(tmp_path / "in.parquet", table())
    run(source, tmp_path / "out.parquet")
    about = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert about.row_group(0).column(0).compression == "ZSTD"


def test_one_kind_of_table_becomes_another(tmp_path: Path) -> None:
    source = save(tmp_path / "in.parquet", table())
    run(source, tmp_path / "out.arrow")
    run(source, tmp_path / "made")
    run(tmp_path / "made", tmp_path / "again.parquet")
    first, second = written(tmp_path / "out.arrow"), written(tmp_path / "made")
    assert first.equals(second)
    third = written(tmp_path / "again.parquet")
    assert third.column("id").equals(first.column("id"))
    assert third.schema.names == first.schema.names


def test_a_dataset_tells_of_its_new_column(tmp_path: Path) -> None:
    run(save(tmp_path / "data", table()), tmp_path / "made")
    info = json.loads((tmp_path / "made" / "dataset_info.json").read_text())
    told = info["features"]["tersely"]
    assert told["before"] == {"dtype": "int64", "_type": "Value"}
    assert told["decisions"][0]["path"] == {"dtype": "string", "_type": "Value"}
    schema = written(tmp_path / "made").schema
    assert "tersely" in json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert json.loads((tmp_path / "made" / "state.json").read_text())["_split"] == "train"


def test_messages_in_a_table(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": TEXT, "name": None}]
    pq.write_table(pa.table({"messages": [messages, messages]}), tmp_path / "in.parquet")
    assert run(tmp_path / "in.parquet", tmp_path / "out.parquet").failed == 0
    made = written(tmp_path / "out.parquet").column("messages").to_pylist()
    assert made == [[{**messages[0], "content": SHORT}]] * 2


def test_an_empty_table(tmp_path: Path) -> None:
    pq.write_table(table(0), tmp_path / "in.parquet")
    done = run(tmp_path / "in.parquet", tmp_path / "out.parquet", field="text")
    assert (done.rows, done.finished) == (0, True)
    assert written(tmp_path / "out.parquet").schema.names[-1] == "tersely"


def test_a_selection_of_rows_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "data", table())
    state = json.loads((source / "state.json").read_text())
    (source / "state.json").write_text(json.dumps(state | {"_indices_files": ["x"]}))
    with pytest.raises(ConfigError, match="flatten_indices"):
        run(source, tmp_path / "made")


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("in.parquet", "out.jsonl", "a parquet source can't be written as jsonl"),
        ("in.jsonl", "out.parquet", "a jsonl source can't be written as parquet"),
        ("in.csv", "out.jsonl.gz", "a csv source can't be written as jsonl"),
    ],
)
def test_what_can_not_become_the_other(tmp_path: Path, source: str, target: str, told: str) -> None:
    save(tmp_path / "in.parquet", table())
    (tmp_path / "in.jsonl").write_bytes(LINES)
    (tmp_path / "in.csv").write_text("text\na\n")
    with pytest.raises(ConfigError, match=told):
        run(tmp_path / source, tmp_path / target)


# what a row holds


def test_several_fields_share_a_budget(tmp_path: Path) -> None:
    rows = [{"a": TEXT, "doc": {"b": [TEXT, TEXT]}, "c": TEXT}, {"a": TEXT}, {"a": 1}, {"c": ""}]
    write(tmp_path / "in.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    done = run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", field=("a", "doc.b"))
    made = read(tmp_path / "out.jsonl")
    assert (made[0]["a"], made[0]["doc"]["b"], made[0]["c"]) == (SHORT, [SHORT, SHORT], TEXT)
    assert made[1]["a"] == SHORT
    reasons = [error["reason"] for error in read(tmp_path / "out.jsonl.errors.jsonl")]
    assert reasons == ["field 'a' holds no text but 1", "no field a or doc.b; the row has c"]
    assert done.failed == 2


@pytest.mark.parametrize("prompt", [TEXT, [{"role": "user", "content": TEXT}]])
def test_the_completion_of_a_pair_stays(tmp_path: Path, prompt: Any) -> None:
    write(tmp_path / "in.jsonl", json.dumps({"prompt": prompt, "completion": TEXT}).encode())
    run(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    (made,) = read(tmp_path / "out.jsonl")
    short = SHORT if isinstance(prompt, str) else [{"role": "user", "content": SHORT}]
    assert (made["prompt"], made["completion"]) == (short, TEXT)


# batch files are split


def requests(count: int) -> bytes:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": TEXT}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    return b"".join(
        json.dumps({"custom_id": f"r{i}"} | line).encode() + b"\n" for i in range(count)
    )


def ids(path: Path) -> list[str]:
    return [row["custom_id"] for row in read(path)]


def test_batch_files_are_split(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", requests(11))
    target = tmp_path / "out.jsonl"
    first = run(source, target, split_rows=4, limit=6)
    assert first.rows == 6
    with (tmp_path / "out.2.jsonl").open("ab") as file:
        file.write(b"torn")
    assert run(source, target, split_rows=4).finished
    parts = [target, tmp_path / "out.2.jsonl", tmp_path / "out.3.jsonl"]
    assert [ids(part) for part in parts] == [
        [f"r{i}" for i in range(start, min(start + 4, 11))] for start in (0, 4, 8)
    ]
    assert len(read(tmp_path / "out.jsonl.report.jsonl")) == 11


def test_no_part_is_larger_than_asked(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", requests(9))
    run(source, tmp_path / "out.jsonl", split_bytes=500)
    parts = sorted(tmp_path.glob("out*.jsonl"), key=lambda path: len(path.name))
    data = [path for path in parts if "report" not in path.name]
    assert len(data) > 2
    assert all(path.stat().st_size <= 500 for path in data)
    assert sorted(name for path in data for name in ids(path)) == [f"r{i}" for i in range(9)]


def test_the_limits_are_those_of_the_providers() -> None:
    from tersely.middleware.row_shapes import AnthropicBatch, Messages, OpenAIBatch

    assert (OpenAIBatch().most, OpenAIBatch().room) == (50_000, 200_000_000)
    assert (AnthropicBatch().most, AnthropicBatch().room) == (100_000, 256_000_000)
    assert (Messages().most, Messages().room) == (None, None)


def test_parts_of_csv_have_a_header_each(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,n\n" + f"{TEXT},1\n" * 5)
    run(tmp_path / "in.csv", tmp_path / "out.csv.gz", split_rows=2)
    for name, rows in (("out.csv.gz", 2), ("out.2.csv.gz", 2), ("out.3.csv.gz", 1)):
        text = unpacked_of(tmp_path / name).decode()
        assert len(list(csv.DictReader(io.StringIO(text)))) == rows


def test_tables_are_not_split(tmp_path: Path) -> None:
    save(tmp_path / "in.parquet", table())
    with pytest.raises(ConfigError, match="only JSONL and CSV can be split"):
        run(tmp_path / "in.parquet", tmp_path / "out.parquet", split_rows=2)


# folders, patterns and addresses


def test_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", LINES)
    write(tmp_path / "in" / "deep" / "b.csv.gz", f"text\n{TEXT}\n".encode())
    save(tmp_path / "in" / "c.parquet", table())
    save(tmp_path / "in" / "train", table())
    write(tmp_path / "in" / ".hidden.jsonl", LINES)
    write(tmp_path / "in" / "notes.txt", b"no data")
    done = run(tmp_path / "in", tmp_path / "in" / "made")
    made = tmp_path / "in" / "made"
    assert (done.rows, done.finished) == (24 + 1 + 23 + 23, True)
    assert sorted(p.name for p in made.rglob("*") if not p.name.startswith("dat")) == [
        *("a.jsonl", "a.jsonl.errors.jsonl", "a.jsonl.journal", "b.csv.gz", "b.csv.gz.journal"),
        *("c.parquet", "c.parquet.errors.jsonl", "c.parquet.journal", "deep", "state.json"),
        *("train", "train.errors.jsonl", "train.journal"),
    ]
    again = run(tmp_path / "in", tmp_path / "in" / "made")
    assert again.message.startswith("nothing to do")


def test_a_pattern_and_a_limit_for_all(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "in" / name / "x.jsonl", LINES)
    pattern = tmp_path / "in" / "[ab]" / "*.jsonl"
    first = run(pattern, tmp_path / "out", limit=30)
    assert (first.rows, first.finished) == (30, False)
    done = run(pattern, tmp_path / "out")
    assert (done.rows, done.skipped, done.finished) == (48, 30, True)
    assert not (tmp_path / "out" / "c").exists()
    for name in ("a", "b"):
        assert (tmp_path / "out" / name / "x.jsonl").read_bytes() == plain(tmp_path)


def test_a_file_into_a_folder(tmp_path: Path) -> None:
    run(write(tmp_path / "in.jsonl", LINES), f"{tmp_path}/made/")
    assert (tmp_path / "made" / "in.jsonl").exists()


def test_splits_of_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    for name in ("train", "test"):
        save(tmp_path / "all" / name, table())
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    run(tmp_path / "all", tmp_path / "made")
    assert (tmp_path / "made" / "dataset_dict.json").read_text() == '{"splits": ["train", "test"]}'
    assert written(tmp_path / "made" / "train").num_rows == 23


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("none", "out.jsonl", "none is not there"),
        ("empty", "out", "names no files that can be read"),
        ("in", "out.jsonl", "several files go to a folder"),
    ],
)
def test_sources_that_name_nothing(tmp_path: Path, source: str, target: str, told: str) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "in" / "a.jsonl", LINES)
    with pytest.raises(ConfigError, match=told):
        run(tmp_path / source, tmp_path / target)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file system that is no folder of this machine."""
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path / "home"))
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_addresses(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/in/a.jsonl.gz", packed(LINES, "gz"))
    stopped_at("memory://in/a.jsonl.gz", "memory://out/a.jsonl", 9)
    assert memory.cat_file("/out/a.jsonl") == plain(tmp_path)
    assert memory.exists("/out/a.jsonl.errors.jsonl")
    again = run("memory://in/a.jsonl.gz", "memory://out/a.jsonl")
    assert again.message.startswith("nothing to do")


def test_tables_at_an_address(memory: Any, tmp_path: Path) -> None:
    save(tmp_path / "in.parquet", table())
    save(tmp_path / "data", table())
    memory.put_file(str(tmp_path / "in.parquet"), "/in/x.parquet")
    memory.put(str(tmp_path / "data"), "/in/data", recursive=True)
    done = run("memory://in", "memory://out")
    assert (done.rows, done.finished) == (46, True)
    made = pq.read_table(io.BytesIO(memory.cat_file("/out/x.parquet")))
    assert made.num_rows == 23
    assert json.loads(memory.cat_file("/out/data/state.json"))["_split"] == "train"


def test_an_address_that_nothing_opens() -> None:
    with pytest.raises(ConfigError, match="nowhere://a/b"):
        run("nowhere://a/b", "out.jsonl")
