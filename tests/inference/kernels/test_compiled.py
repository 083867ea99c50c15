"""How kernels are compiled: with or without a cache, never in silence, safe from signals."""

import ast
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from numba import types
from numba.core.registry import CPUDispatcher

import pgnn
from pgnn.inference.kernels import compiled

PACKAGE = Path(pgnn.__file__).parent
FOR_PYTHON = {"entry", "numeric"}
NUMBERS = re.compile(r"tuple\[NUM(, NUM)*\]|NUM".replace("NUM", r"(int|float|bool|np\.u?int64)"))
NOWHERE_TO_WRITE = """
import tempfile
def refuse(*args, **kwargs):
    raise OSError("read-only file system")
tempfile.TemporaryFile = refuse  # how numba finds out whether it can write
import warnings, pgnn
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = pgnn.read(pgnn.__path__[0] + "/networks/asia.bif")
    few_kernels = pgnn.MeanField(seed=0)
    answer = model.query("smoke", {"asia": "yes"}, engine=few_kernels)
print(float(answer.log_evidence), [str(w.message)[:30] for w in caught])
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
    model = pgnn.read(PACKAGE / "networks/asia.bif")
    answer = model.query("smoke", {"asia": "yes"}, engine=pgnn.MeanField(seed=0))
    assert float(found.stdout.split()[0]) == pytest.approx(float(answer.log_evidence), abs=1e-9)
    assert found.stdout.count("compiled code cannot be cached") == 1, found.stdout


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
        "compiling kernels for this machine; they are cached"
    ]


def returned_otherwise(source: str) -> list[str]:
    """Kernels that Python calls and that return what is not annotated as numbers."""
    return [
        f.name
        for f in ast.walk(ast.parse(source))
        if isinstance(f, ast.FunctionDef)
        and {ast.unparse(d) for d in f.decorator_list} & FOR_PYTHON
        and any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(f))
        and (f.returns is None or not NUMBERS.fullmatch(ast.unparse(f.returns)))
    ]


def test_kernels_return_numbers_alone() -> None:
    """Boxing an array or a ``NamedTuple`` runs Python, where a pending signal is raised."""
    sources = {f: f.read_text() for f in PACKAGE.rglob("kernels/*.py")}
    found = {str(f): returned_otherwise(s) for f, s in sources.items()}
    assert {f: names for f, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("@entry\ndef f(x) -> Floats:\n    return x", ["f"]),
        ("@entry\ndef f(x) -> tuple[Pair, int]:\n    return x", ["f"]),
        ("@numeric\ndef f(x):\n    return x", ["f"]),
        ("@entry\ndef f(x) -> tuple[int, float]:\n    return x", []),
        ("@entry\ndef f(x):\n    return", []),
        ("@inner\ndef f(x):\n    return x", []),
    ],
)
def test_other_results_are_found(body: str, found: list[str]) -> None:
    assert returned_otherwise(body) == found


def test_annotations_are_true() -> None:
    """What numba found, of the kernels that an answer needs."""
    model = pgnn.read(PACKAGE / "networks" / "asia.bif")
    model.query("lung", {"smoke": ["yes", "no"]})
    kernels = [
        kernel
        for name, module in list(sys.modules.items())
        if name.startswith("pgnn.") and ".kernels." in name
        for kernel in vars(module).values()
        if isinstance(kernel, CPUDispatcher)
        and not kernel.targetoptions.get("no_cpython_wrapper")
        and kernel.targetoptions.get("inline", "never") == "never"
    ]
    returned = {
        kernel.__name__: part
        for kernel in kernels
        for signature in kernel.nopython_signatures
        for part in getattr(signature.return_type, "types", [signature.return_type])
        if not isinstance(part, (types.Number, types.Boolean, types.NoneType))
    }
    assert any(kernel.nopython_signatures for kernel in kernels)
    assert returned == {}


@pytest.mark.slow
def test_signals_interrupt_and_do_not_kill() -> None:
    found = run(SIGNALS)
    assert found.returncode == 0, (found.returncode, found.stderr[-2000:])
    assert found.stdout.strip() == "100"
