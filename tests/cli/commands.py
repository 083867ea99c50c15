"""Commands as tests give them."""

import pytest

from pgnn.cli import main


def run(*words: object) -> int:
    return main([str(word) for word in words])


def complaint(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line on standard error of a command that fails."""
    assert run(*words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err
