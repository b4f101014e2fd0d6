"""What lies beside the data of a dataset on disk, as the library `datasets` has it."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tersely.errors import ConfigError
from tersely.middleware import places
from tersely.middleware.files import ANSWER, COLUMN

SCHEMA_KEY = b"huggingface"
"""Under which name a schema tells the features of its columns."""

DATA = "data-00000-of-00001.arrow"
"""The file that holds the rows of a dataset that we write."""

STATE: dict[str, Any] = {
    "_format_columns": None,
    "_format_kwargs": {},
    "_format_type": None,
    "_output_all_columns": False,
    "_split": None,
}
"""What `state.json` says of a dataset that nothing was done to."""


def parts_of(folder: str) -> list[str]:
    """The Arrow files of a dataset, in order. Raises ConfigError with the mend."""
    state = _read(places.below(folder, "state.json"))
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ConfigError(f"{folder} is a selection of rows: flatten_indices() and save it again")
    return [places.below(folder, one["filename"]) for one in state["_data_files"]]


def described(schema: Any) -> Any:
    """A schema whose features, if it tells any, tell the columns that we add as well."""
    about = json.loads((schema.metadata or {}).get(SCHEMA_KEY, b"{}"))
    features = about.get("info", {}).get("features")
    if features is None:
        return schema
    features |= _own(schema)
    return schema.with_metadata({**schema.metadata, SCHEMA_KEY: json.dumps(about).encode()})


def write_about(source: str, target: Path, schema: Any) -> None:
    """Write what a folder with data needs to be a dataset; it goes on from that of the source."""
    state = _read(places.below(source, "state.json")) if source else STATE
    mark = blake2b(f"{source}{schema}".encode(), digest_size=8).hexdigest()
    state = {**state, "_data_files": [{"filename": DATA}], "_fingerprint": mark}
    info: dict[str, Any] = {}
    if source and places.exists(place := places.below(source, "dataset_info.json")):
        info = _read(place)
    if info.get("features"):
        info["features"] |= _own(schema)
    (target / "state.json").write_text(json.dumps(state, indent=2))
    (target / "dataset_info.json").write_text(json.dumps(info, indent=2))


def _own(schema: Any) -> dict[str, Any]:
    """The columns that we add, as features."""
    added = (name for name in (COLUMN, ANSWER) if name in schema.names)
    return {name: _feature(schema.field(name).type) for name in added}


def _feature(kind: Any) -> Any:
    """A type as `datasets` describes it, in the spelling that all its versions read."""
    if hasattr(kind, "value_type"):
        return [_feature(kind.value_type)]
    if kind.num_fields:
        fields = (kind.field(i) for i in range(kind.num_fields))
        return {field.name: _feature(field.type) for field in fields}
    return {"dtype": str(kind), "_type": "Value"}


def _read(place: str) -> dict[str, Any]:
    with places.opened(place) as file:
        try:
            read: dict[str, Any] = json.load(file)
        except ValueError as error:
            raise ConfigError(f"{place} can't be read: {error}") from error
    return read
