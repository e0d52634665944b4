"""Opening what a user names: a file or `-`, packed or not; what it is, is told by its bytes and never by its name."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

from tiebreak.errors import DataError
from tiebreak.ingest import records
from tiebreak.ingest.records import Item

STDIN: Final = "-"

_HEAD: Final = 4096
_BUFFER: Final = 1 << 20
_MENDS: Final = {
    b"\x28\xb5\x2f\xfd": ("is packed with zstd", "zstd -d {0}"),
    b"\xfd7zX": ("is packed with xz", "xz -d -k {0}"),
    b"BZh": ("is packed with bzip2", "bzip2 -d -k {0}"),
    b"PK\x03\x04": ("is a zip archive", "unzip {0}"),
    b"\xff\xfe": ("is UTF-16 text", "iconv -f UTF-16 -t UTF-8 {0} > utf8.csv"),
    b"\xfe\xff": ("is UTF-16 text", "iconv -f UTF-16 -t UTF-8 {0} > utf8.csv"),
}


class _Rewound(io.RawIOBase):
    """A stream whose first bytes were read already, whole again; pipes cannot seek."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self.head = head
        self.rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        part = self.head[: len(buffer)] or self.rest.read(len(buffer))
        self.head = self.head[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def _is_parquet(path: str) -> bool:
    if path == STDIN or not Path(path).is_file():
        return False
    with Path(path).open("rb") as stream:
        return stream.read(4) == b"PAR1"


def check(path: str) -> None:
    """Refuse a path that cannot be a file of votes, before anything is read.

    Raises:
        DataError: It does not exist, or is a directory.
    """
    if path == STDIN:
        return
    if not Path(path).exists():
        raise DataError(f"{path}: no such file", expected="a file of votes, or - for standard input")
    if Path(path).is_dir():
        raise DataError(f"{path} is a directory", expected="files", mend=f"name its files: {path.rstrip('/')}/*")


def items(path: str) -> Generator[Item, None, None]:
    """The records of a file in order, one at a time, with those that could not be taken apart.

    Raises:
        DataError: The file as a whole cannot be read: empty, cut off, of an unknown kind.
    """
    read = 0
    with ExitStack() as stack:
        try:
            for item in _reader(path, _open(path, stack)):
                yield item
                read += 1
        except EOFError as error:
            raise DataError(
                f"{path}: the gzip stream is cut off", expected="a whole file", mend="copy it again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: the gzip stream is damaged ({error})", expected="a whole file") from error
    if read == 0:
        raise DataError(f"{path}: no rows", expected="a header and rows, or one record a line")


def _open(path: str, stack: ExitStack) -> io.BufferedReader:
    """The bytes of a file, unpacked; the stack closes what is opened (and leaves standard input alone)."""
    stream: IO[bytes]
    try:
        # The stack closes it.
        stream = sys.stdin.buffer if path == STDIN else stack.enter_context(open(path, "rb"))  # noqa: SIM115
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", expected="a readable file") from error
    opened = _with_head(stream)
    if opened.peek(2)[:2] == b"\x1f\x8b":
        opened = _with_head(stack.enter_context(gzip.GzipFile(fileobj=opened)))  # type: ignore[arg-type]
    return opened


def _with_head(stream: IO[bytes]) -> io.BufferedReader:
    """The stream with at least `_HEAD` bytes (or all of it) ready for `peek`, whatever pieces a pipe delivers."""
    return io.BufferedReader(_Rewound(stream.read(_HEAD), stream), _BUFFER)  # type: ignore[arg-type]


def _reader(path: str, stream: io.BufferedReader) -> Iterator[Item]:
    head = stream.peek(_HEAD)
    for magic, (what, mend) in _MENDS.items():
        if head.startswith(magic):
            raise DataError(f"{path} {what}", expected="UTF-8 text, gzip or parquet", mend=mend.format(path))
    if head.startswith(b"PAR1"):
        if not _is_parquet(path):
            raise DataError(f"{path} is parquet in a pipe or in gzip", expected="the parquet file itself")
        return records.parquet(path)
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if not first and not stream.peek(1):
        raise DataError(f"{path} is empty", expected="a header and rows, or one record a line")
    if first == b"{":
        return records.json_lines(stream, path)
    if first == b"[":
        return records.json_array(stream, path)
    return records.delimited(stream, path)
