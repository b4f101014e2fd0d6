"""Where data lies: a path here, or an address like `s3://bucket/in.jsonl` that fsspec opens."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from glob import glob, has_magic
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, cast

from tersely.errors import ConfigError, require

if TYPE_CHECKING:
    from typing_extensions import Buffer

Codec = Literal["", "gz", "zst"]
"""How bytes are packed: not at all, by gzip or by Zstandard."""

PACKED: dict[str, Codec] = {".gz": "gz", ".zst": "zst", ".zstd": "zst"}
"""How the names of packed files end."""

MAGIC: dict[bytes, Codec] = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}
"""How packed files begin."""

PIECE = 1 << 17
"""So many bytes are unpacked or skipped at once."""

HEAD = 65536
"""So many bytes from the start of a file tell it from others of its size and time."""


def is_remote(place: str) -> bool:
    """Whether a place is an address, and no path on this machine."""
    return "://" in place


def file_system(place: str) -> tuple[Any, str]:
    """The file system that an address names, and the path in it. Raises ConfigError."""
    require("fsspec", extra="batch")
    try:
        fs, path = import_module("fsspec.core").url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{place} can't be opened: {error}") from error
    return fs, path


def opened(place: str) -> BinaryIO:
    """A file's bytes, as they lie there. Raises ConfigError when it is not there."""
    try:
        if is_remote(place):
            fs, path = file_system(place)
            return cast(BinaryIO, fs.open(path, "rb"))
        return Path(place).open("rb")
    except OSError as error:
        raise ConfigError(f"can't read {place}: {error.strerror or error}") from error


def exists(place: str) -> bool:
    """Whether something lies there."""
    if is_remote(place):
        fs, path = file_system(place)
        return bool(fs.exists(path))
    return Path(place).exists()


def is_folder(place: str) -> bool:
    """Whether a place holds files of its own."""
    if is_remote(place):
        fs, path = file_system(place)
        return bool(fs.isdir(path))
    return Path(place).is_dir()


def below(place: str, name: str) -> str:
    """The place of that name within a folder."""
    return f"{place.rstrip('/')}/{name}"


def known_by(place: str) -> tuple[int, str, str]:
    """Size, time of the last change and a hash of the beginning: what tells a file from others."""
    with opened(place) as file:
        head = blake2b(file.read(HEAD), digest_size=16).hexdigest()
    if not is_remote(place):
        told = Path(place).stat()
        return told.st_size, str(told.st_mtime_ns), head
    fs, path = file_system(place)
    info = fs.info(path)
    stamps = (info.get(key) for key in ("ETag", "etag", "mtime", "LastModified", "created"))
    return int(info["size"]), str(next(filter(None, stamps), "")), head


def put(local: Path, place: str) -> None:
    """Copy a file, or a folder with all that is in it, to an address."""
    fs, path = file_system(place)
    if (parent := path.rpartition("/")[0]) and not fs.exists(parent):
        fs.makedirs(parent, exist_ok=True)
    if not local.is_dir():
        fs.put_file(str(local), path)
        return
    fs.makedirs(path, exist_ok=True)
    for file in sorted(one for one in local.rglob("*") if one.is_file()):
        put(file, below(place, file.relative_to(local).as_posix()))


def write(data: bytes, place: str) -> None:
    """Write a small file, and the folders above it."""
    if not is_remote(place):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_bytes(data)
        return
    fs, path = file_system(place)
    fs.pipe_file(path, data)


def is_pattern(place: str) -> bool:
    """Whether a place stands for others, and is none itself."""
    return has_magic(place) and not exists(place)


def found(pattern: str, whole: Callable[[str], bool]) -> list[tuple[str, str]]:
    """What a folder or a pattern with `*` names, in order, each with its name below it.

    `whole` tells which folders count as one thing; hidden files are left out.
    """
    base = pattern
    while is_pattern(base):
        base = base.rpartition("/")[0]
    places = dict(sorted(_matches(pattern, base)))
    wholes = [place for place in places if is_folder(place) and whole(place)]
    return [
        (place, name)
        for place, name in places.items()
        if not any(part.startswith(".") for part in name.split("/"))
        and not any(place.startswith(f"{one}/") for one in wholes)
        and (place in wholes or not is_folder(place))
    ]


def _matches(pattern: str, base: str) -> list[tuple[str, str]]:
    """Everything that a pattern names, or that lies in a folder, with its name below the base."""
    every = below(pattern, "**") if base == pattern else pattern
    if not is_remote(pattern):
        paths = [one.rstrip("/") for one in glob(every, recursive=True)]  # noqa: PTH207 - may be absolute
        return [(path, path.removeprefix(base.rstrip("/")).lstrip("/")) for path in paths]
    fs, path = file_system(every)
    start = file_system(base)[1]
    ends = [one.removeprefix(start).lstrip("/") for one in fs.glob(path)]
    return [(below(base, end), end) for end in ends]


def codec_of(place: str) -> Codec:
    """How a file is packed, by its first bytes."""
    with opened(place) as file:
        head = file.read(4)
    return next((codec for magic, codec in MAGIC.items() if head.startswith(magic)), "")


def packed(data: bytes, codec: Codec) -> bytes:
    """Bytes packed by themselves: packed pieces in a row unpack to the pieces in a row."""
    match codec:
        case "gz":
            packer = zlib.compressobj(wbits=31)
            return packer.compress(data) + packer.flush()
        case "zst":
            return bytes(_zstandard().ZstdCompressor().compress(data))
        case _:
            return data


def unpacked(file: BinaryIO, codec: Codec) -> IO[bytes]:
    """The bytes that a packed file holds. Raises EOFError or ValueError where it is torn."""
    match codec:
        case "gz":
            return io.BufferedReader(_Unpacked(file, lambda: zlib.decompressobj(31)), PIECE)
        case "zst":
            decompressor = _zstandard().ZstdDecompressor()
            return io.BufferedReader(_Unpacked(file, decompressor.decompressobj), PIECE)
        case _:
            return file


def skip(file: IO[bytes], count: int) -> None:
    """Go so many bytes on, by reading where there is no other way."""
    if file.seekable():
        file.seek(count)
        return
    while count and (read := file.read(min(count, PIECE))):
        count -= len(read)


class _Unpacker(Protocol):
    """What zlib and zstandard both give."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Unpacked(io.RawIOBase):
    """Reads packed pieces that lie in a row, one after the other."""

    def __init__(self, file: BinaryIO, begin: Callable[[], Any]) -> None:
        self.file = file
        self.begin: Callable[[], _Unpacker] = begin
        self.current: _Unpacker | None = None
        self.ready = memoryview(b"")
        self.ahead = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.file.close()
        super().close()

    def readinto(self, buffer: Buffer, /) -> int:
        room = memoryview(buffer)
        while not self.ready:
            data = self.ahead or self.file.read(PIECE)
            self.ahead = b""
            if not data:
                if self.current is not None:
                    raise EOFError("it ends in the middle of a packed piece")
                return 0
            self.current = self.current or self.begin()
            try:
                self.ready = memoryview(self.current.decompress(data))
            except Exception as error:  # each packer has an error of its own
                raise ValueError(f"it is damaged: {error}") from error
            if self.current.eof:
                self.ahead, self.current = self.current.unused_data, None
        count = min(len(room), len(self.ready))
        room[:count] = self.ready[:count]
        self.ready = self.ready[count:]
        return count


def _zstandard() -> Any:
    require("zstandard", extra="batch")
    return import_module("zstandard")
