"""How kernels are compiled: with or without a cache, never in silence, safe from signals."""

import ast
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pgnn
from pgnn.inference.kernels import compiled

PACKAGE = Path(pgnn.__file__).parent
FOR_PYTHON = {"entry", "numeric"}
NOWHERE_TO_WRITE = """
import tempfile
def refuse(*args, **kwargs):
    raise OSError("read-only file system")
tempfile.TemporaryFile = refuse  # how numba finds out whether it can write
import warnings, pgnn
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = pgnn.read(pgnn.__path__[0] + "/networks/asia.bif")
    answer = model.query("lung", {"smoke": "yes"})["lung"].probs
print(float(answer[0]), [str(w.message)[:30] for w in caught])
"""
SIGNALS = """
import os, signal, threading, time
import pgnn
asking = False
interrupted = 0
def stop(*_):
    global asking
    if asking:
        asking = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, stop)
def hit(end):
    while interrupted < 100 and time.monotonic() < end:
        time.sleep(0.0007)
        os.kill(os.getpid(), signal.SIGINT)
model = pgnn.read(pgnn.__path__[0] + "/networks/asia.bif")
model.query("lung", {"smoke": "yes"})
end = time.monotonic() + 100
hitting = threading.Thread(target=hit, args=[end])
hitting.start()
while interrupted < 100 and time.monotonic() < end:
    try:
        asking = True
        while interrupted < 100 and time.monotonic() < end:
            model = pgnn.read(pgnn.__path__[0] + "/networks/asia.bif")  # to be planned anew
            model.query("lung", {"smoke": "yes"})
    except KeyboardInterrupt:
        interrupted += 1
hitting.join()
print(interrupted)
"""


def run(
    code: str, timeout: float = 300, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env)


def test_without_a_writable_cache() -> None:
    usual = {name: value for name, value in os.environ.items() if name != "PGNN_COMPILE"}
    found = run(NOWHERE_TO_WRITE, env=usual)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("0.1"), found.stdout
    assert found.stdout.count("compiled code cannot be kept") == 1, found.stdout


def test_compiling_for_more_than_a_second_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    monkeypatch.setattr(compiled.time, "perf_counter", lambda: now)
    listener = compiled._Patience()
    with caplog.at_level(logging.WARNING, "pgnn"):
        for duration in (0.9, 0.9, 1.1, 1.1):
            listener.on_start(None)
            listener.on_start(None)
            now += duration
            listener.on_end(None)
            listener.on_end(None)
    assert [r.getMessage() for r in caplog.records] == [
        "compiling kernels for this machine; they are kept"
    ]


def named_tuples_returned(source: str, others: set[str]) -> list[str]:
    """Kernels with a way in from Python that return a ``NamedTuple``, whole or in a tuple."""
    module = ast.parse(source)
    named = others | {
        c.name
        for c in module.body
        if isinstance(c, ast.ClassDef) and any("NamedTuple" in ast.unparse(b) for b in c.bases)
    }
    functions = [f for f in module.body if isinstance(f, ast.FunctionDef)]
    grown = True
    while grown:  # functions that hand on what other functions return
        more = {f.name for f in functions if returns_any(f, named)} - named
        named |= more
        grown = bool(more)
    decorators = {f.name: {ast.unparse(d) for d in f.decorator_list} for f in functions}
    return [f.name for f in functions if f.name in named and decorators[f.name] & FOR_PYTHON]


def returns_any(function: ast.FunctionDef, named: set[str]) -> bool:
    """Whether a function's annotation or returned values mention one of some names."""
    shown = [function.returns] if function.returns is not None else []
    held = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and calls_any(node.value, named):
            held |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            if calls_any(node.value, named):
                return True
            whole = [node.value, *getattr(node.value, "elts", [])]
            if any(isinstance(n, ast.Name) and n.id in held for n in whole):
                return True
    return any(isinstance(n, ast.Name) and n.id in named for s in shown for n in ast.walk(s))


def calls_any(value: ast.expr, named: set[str]) -> bool:
    """Whether an expression is a call of one of some names, or a tuple with one."""
    whole = [value, *getattr(value, "elts", [])]
    return any(isinstance(n, ast.Call) and ast.unparse(n.func) in named for n in whole)


def test_no_kernel_returns_a_named_tuple() -> None:
    """Boxing one calls Python; with a signal pending, numba then crashes the process."""
    sources = {f: f.read_text() for f in PACKAGE.rglob("kernels/*.py")}
    classes = {
        c.name
        for s in sources.values()
        for c in ast.walk(ast.parse(s))
        if isinstance(c, ast.ClassDef) and any("NamedTuple" in ast.unparse(b) for b in c.bases)
    }
    found = {str(f): named_tuples_returned(s, classes) for f, s in sources.items()}
    assert {f: names for f, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "body",
    [
        "@entry\ndef f(x) -> Pair:\n    return g(x)",
        "@entry\ndef f(x) -> tuple[Pair, int]:\n    return x",
        "@entry\ndef f(x):\n    return Pair(x, x)",
        "@numeric\ndef f(x):\n    p = Pair(x, x)\n    return p, 1",
        "@inner\ndef g(x):\n    return Pair(x, x)\n@entry\ndef f(x):\n    return g(x)",
    ],
)
def test_a_named_tuple_is_found(body: str) -> None:
    assert named_tuples_returned(f"class Pair(NamedTuple):\n    a: int\n{body}", set()) == ["f"]


def test_no_named_tuple_is_found_where_there_is_none() -> None:
    body = "@entry\ndef f(pair: Pair):\n    p = Pair(1, 2)\n    return h(p), p.a"
    assert named_tuples_returned(f"class Pair(NamedTuple):\n    a: int\n{body}", set()) == []


@pytest.mark.slow
def test_signals_interrupt_and_do_not_kill() -> None:
    found = run(SIGNALS)
    assert found.returncode == 0, (found.returncode, found.stderr[-2000:])
    assert found.stdout.strip() == "100"
