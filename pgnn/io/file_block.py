"""Blocks of whole lines of large files, which several processes read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pgnn.errors import PgnnError, located
from pgnn.evidence.partitioned_frame import located_errors

BLOCK = "block"
"""Attribute of a pandas frame: the arguments of the block that it was read from."""
_BYTES = 2**26
"""Size of a block."""


@dataclass(frozen=True)
class FileBlock:
    """Whole lines of a file.

    Args:
        file: Address of the file.
        offset: Byte from which on the next line is the first one; 0 for the first line.
        length: Number of bytes, after which the last line still ends; None for the whole file,
            which may be compressed.

    Example:
        >>> FileBlock("/data/rows.csv", 0, 2**20).name
        'rows.csv'
    """

    file: str
    offset: int = 0
    length: int | None = None

    @classmethod
    def of_files(cls, path: str) -> list[FileBlock]:
        """Return the blocks of the files that a path names, such as ``rows/*.csv``."""
        fsspec = import_module("fsspec.core")
        system, _, files = fsspec.get_fs_token_paths(path, mode="rb")
        blocks = []
        for file in files:
            address = system.unstrip_protocol(file)
            is_packed = import_module("fsspec.utils").infer_compression(file) is not None
            size = None if is_packed else system.size(file)
            if not size:  # compressed, empty, or of unknown size
                blocks.append(cls(address))
                continue
            starts = range(0, size, _BYTES)
            blocks += [cls(address, start, min(_BYTES, size - start)) for start in starts]
        return blocks

    @property
    def name(self) -> str:
        """The name of the file, without its folder."""
        return Path(self.file).name

    def read(self) -> bytes:
        """Return the lines."""
        with self.opened() as stream:
            if self.length is None:
                content: bytes = stream.read()
                return content
            if not self.length:
                return b""
            read_block = import_module("fsspec.utils").read_block
            lines: bytes = read_block(stream, self.offset, self.length, b"\n")
            return lines

    def lines_before(self) -> int:
        """Return the number of lines of the file before the block, which are read and counted."""
        if not self.offset:
            return 0
        with self.opened() as stream:
            count, left = 1, self.offset  # the line within which the block begins
            while left and (part := stream.read(min(left, 2**20))):
                count += part.count(b"\n")
                left -= len(part)
        return count

    def opened(self) -> Any:
        """Open the file, decompressed."""
        return import_module("fsspec").open(self.file, "rb", compression="infer")


@contextmanager
def in_lines_of_file(rows: Any) -> Iterator[None]:
    """Say in errors from which line of a file on the rows are counted.

    Args:
        rows: The pandas frame of a partition, perhaps read from a block.
    """
    if BLOCK not in rows.attrs:
        with located_errors(rows):
            yield
        return
    try:
        yield
    except PgnnError as error:
        block = FileBlock(*rows.attrs[BLOCK])
        first = block.lines_before() + (1 if block.offset else 2)
        raise located(error, f"{block.name}, rows from line {first:,} on") from None
