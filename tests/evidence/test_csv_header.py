import io

import pytest

from pgnn.evidence.csv_header import HEADER, Rejoined


@pytest.mark.parametrize(
    ("data", "begin"),
    [
        (b"", b""),
        (b"\n", b"\n"),
        (b"\r\n\r\n", b"\r\n\r\n"),
        (b"\xef\xbb\xbf\n\nsmoke\nyes\n", b"\xef\xbb\xbf\n\nsmoke\n"),
        (b"smoke,lung\nyes,no\n", b"smoke,lung\n"),
        (b"\n" * (HEADER + 5), b"\n" * HEADER),
    ],
)
def test_begins_of_streams_end_with_the_first_line_of_text(data: bytes, begin: bytes) -> None:
    stream = Rejoined(io.BytesIO(data))
    assert stream.begin == begin
    assert stream.read() == data
