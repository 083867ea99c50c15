"""Commands as tests give them.

A cold cache makes any command print that kernels are compiled, which is no part of what is tested.
"""

import pytest

from pgnn.cli import main


def run(*words: object) -> int:
    return main([str(word) for word in words])


def messages(error: str) -> str:
    """Standard error of a command without the line that kernels are compiled."""
    lines = error.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("pgnn: compiling kernels "))


def complaint(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line on standard error of a command that fails."""
    assert run(*words) == 1
    captured = capsys.readouterr()
    told = messages(captured.err)
    assert captured.out == ""
    assert told.startswith("pgnn: ")
    assert told.count("\n") == 1
    assert "Traceback" not in told
    return told
