"""The text of a file, with the positions of errors in it."""

from __future__ import annotations

import bisect
import gzip
import io
import os
import re
import zlib
from pathlib import Path
from typing import IO, Any, TypeAlias, Union

from pgnn.errors import Advice, DataError, Intractable, shortened
from pgnn.limits import human_bytes, whole_number

PathOrFile: TypeAlias = Union[str, "os.PathLike[str]", IO[Any]]

MAX_TEXT = 2**28
"""Bytes of a file, unpacked, that are read unless more are allowed."""
_PIECE = 2**24
_MAX_MESSAGE = 1000  # a file may hold names of any length
_DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_-]+)""")
_XML_ENCODINGS = re.compile(
    r"utf-?(8|16)|(us-)?ascii|iso-?8859-\d+|latin-?1|windows-\d+|cp\d+", re.IGNORECASE
)
_GZIP_MAGIC = b"\x1f\x8b"
CRFSUITE = b"lCRF"
"""How a model of CRFsuite begins."""


class Source:
    r"""Text with a name, which converts offsets to lines and columns.

    Args:
        text: The decoded text.
        name: Its name in messages, usually that of the file.

    Example:
        >>> str(Source("one\ntwo", "numbers.txt").error(5, "expected a digit"))
        'numbers.txt:2:2: expected a digit'
    """

    def __init__(self, text: str, name: str = "<text>") -> None:
        self.text = text
        self.name = name
        self._line_starts: list[int] = []

    @classmethod
    def read(
        cls,
        file: PathOrFile | Source,
        encoding: str | None = "utf-8",
        max_bytes: int = MAX_TEXT,
    ) -> Source:
        """Read a file, a gzip file, or an open text or binary stream to its end.

        A source is returned unchanged.

        Args:
            file: Path, stream or source.
            encoding: Of the text; a text stream has its own.
            max_bytes: Largest number of uncompressed bytes, or of characters of a text stream.

        Raises:
            DataError: If it is neither path nor stream, the file is not text of this encoding, or
                its gzip stream is broken.
            Intractable: If it is larger than allowed.
            OSError: If it cannot be opened.
        """
        if isinstance(file, Source):
            return file
        return cls.of(*contents(file, max_bytes), encoding)

    @classmethod
    def of(cls, data: bytes | str, name: str, encoding: str | None) -> Source:
        """Return what :func:`contents` returned as text.

        Args:
            data: Bytes or text.
            name: Of the file.
            encoding: Of the bytes; None stands for what an XML file declares, and for UTF-8.

        Raises:
            DataError: If it is not text of this encoding.
        """
        if isinstance(data, str):
            return cls(data, name)
        return cls(_decode(data, name, encoding or _declared_encoding(data)), name)

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset, both counted from 1."""
        if not self._line_starts:
            self._line_starts = [0, *(m.end() for m in re.finditer("\n", self.text))]
        line = bisect.bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def error(self, offset: int, message: str, advice: str = "") -> DataError:
        """Return (not raise) an error at an offset, perhaps with what to do."""
        line, column = self.position(min(offset, len(self.text)))
        text = f"{self.name}:{line}:{column}: {shortened(message, _MAX_MESSAGE)}"
        return DataError(text, advice, line=line, column=column)


def contents(file: PathOrFile, max_bytes: int = MAX_TEXT) -> tuple[bytes | str, str]:
    """Return all of a file, unpacked, or of a stream, which may be one of text; and its name.

    Args:
        file: Path, or stream.
        max_bytes: Bytes, unpacked, or characters of a text stream, that are read at most.

    Raises:
        DataError: If it is neither, or its gzip stream is broken.
        Intractable: If it is larger than allowed.
        OSError: If it cannot be opened.
    """
    limit = whole_number("max_bytes", max_bytes, 1, DataError)
    if isinstance(file, str | os.PathLike):
        path = path_of(file)
        with path.open("rb") as stream:
            return _unpacked(_all_of(stream, path.name, limit), path.name, limit), path.name
    name = getattr(file, "name", "<stream>")
    name = Path(name).name if isinstance(name, str) else "<stream>"
    return _unpacked(_all_of(file, name, limit), name, limit), name


def begins_with(path: Path, magic: bytes) -> bool:
    """Return whether a file, unpacked, begins with some bytes; not if it cannot be read."""
    try:
        with path.open("rb") as stream:
            begin = stream.read(max(len(magic), len(_GZIP_MAGIC)))
        if begin.startswith(_GZIP_MAGIC):
            with gzip.open(path) as stream:
                begin = stream.read(len(magic))
    except (OSError, EOFError, zlib.error):
        return False
    return begin.startswith(magic)


def write_text(text: str, file: PathOrFile) -> None:
    """Write text as UTF-8 to a path (gzip if it ends in ``.gz``) or to an open stream.

    Raises:
        DataError: If the text holds characters that UTF-8 cannot.
        OSError: If the file cannot be written.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        bad = text[error.start : error.end]
        raise DataError(f"cannot write {bad!r} as UTF-8", "rename the variable or state") from error
    if isinstance(file, str | os.PathLike):
        path = path_of(file)
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
        return
    if not hasattr(file, "write"):
        raise _no_file(file)
    try:
        file.write(text if hasattr(file, "encoding") else data)
    except UnicodeEncodeError as error:
        bad = error.object[error.start]
        raise DataError(
            f"the stream writes {error.encoding}, which has no {bad!r}",
            "open it with encoding='utf-8'",
        ) from None
    except ValueError as error:
        raise DataError(f"cannot write to this stream: {error}") from None


def path_of(file: Any) -> Path:
    """Return an argument as a path.

    Raises:
        DataError: If it is not a path.
    """
    try:
        path = Path(file)
    except TypeError:
        raise _no_file(file) from None
    if "\0" in str(path):
        raise DataError(f"a path holds no NUL character, got {str(path)!r}")
    return path


def draft_of(path: Path) -> Path:
    """Return where to write what takes the place of a file when it is complete.

    A device or a pipe, such as ``/dev/stdout``, is written itself: nothing takes its place.
    """
    if path.exists() and not path.is_file():
        return path
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def ending_of(name: str) -> str:
    """Return the ending of a file's name, in lower case and without ``.gz``.

    Example:
        >>> ending_of("Asia.BIF.gz")
        'bif'
    """
    return Path(name.lower().removesuffix(".gz")).suffix.removeprefix(".")


def _no_file(file: object) -> DataError:
    return DataError(f"expected the path of a file or an open stream, got {file!r}")


def _all_of(stream: IO[Any], name: str, limit: int) -> Any:
    """The remaining contents of a stream, bytes or text."""
    if not hasattr(stream, "read"):
        raise _no_file(stream)
    parts: list[Any] = []
    size = 0
    try:
        while part := stream.read(min(_PIECE, limit + 1 - size)):
            if not isinstance(part, str | bytes):
                raise DataError(f"{name}: a stream gave {type(part).__name__}, not bytes or text")
            parts.append(part)
            size += len(part)
            if size > limit:
                raise _too_large(name, limit)
    except UnicodeError as error:
        raise DataError(
            f"{name}: the stream is not of its encoding: {error}",
            "open it as bytes or with encoding=",
        ) from None
    except ValueError as error:
        if isinstance(error, DataError | OSError):
            raise
        raise DataError(f"{name}: cannot read this stream: {error}") from None
    return (parts[0][:0] if parts else b"").join(parts)


def _too_large(name: str, limit: int) -> Intractable:
    return Intractable(
        f"{name} holds more than {human_bytes(limit)} unpacked", "pass max_bytes= to read it"
    )


def _unpacked(data: bytes | str, name: str, limit: int) -> bytes | str:
    """The same, unpacked if it is packed by gzip."""
    if isinstance(data, str) or data[:2] != _GZIP_MAGIC:
        return data
    try:
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: the gzip stream is broken or cut off ({error})") from error
    if len(data) > limit:
        raise _too_large(name, limit)
    return data


def _declared_encoding(data: bytes) -> str:
    """What an XML file says, if it is a plain one: others can be slow on purpose."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    match = _DECLARED.match(data.removeprefix(b"\xef\xbb\xbf"))
    declared = match.group(1).decode("ascii") if match else "utf-8"
    return declared if _XML_ENCODINGS.fullmatch(declared) else "utf-8"


def _decode(data: bytes, name: str, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DataError(
            f"{name}:{line}:{column}: expected {encoding} text, got byte 0x{data[error.start]:02x}",
            Advice("pass encoding= (for instance 'latin-1')", "encoding"),
            line=line,
            column=column,
        ) from error
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"encoding must be that of a text, got {encoding!r}: {error}") from None
    return text.removeprefix("\ufeff")
