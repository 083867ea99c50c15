"""Until the kernels are compiled torch answers what is small, and a child process compiles them."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.inference import compilation, local_search
from pgnn.inference.compilation import SWITCH, Compilation
from pgnn.inference.exact import planner
from pgnn.inference.exact.compilation import KERNELS
from pgnn.inference.exact.cpu_executor import CpuExecutor
from pgnn.inference.exact.kernels.rows import distinct
from pgnn.inference.exact.row_answer import RowAnswer
from pgnn.inference.kernels.interpreted import interpreted
from pgnn.inference.mean_field import coordinate_ascent
from pgnn.inference.search import dual_bound
from tests.inference.test_numba_support import ROOT, ROWS, SEEN, asia, close

COLD = """
import json, threading, time
from numba.core import event
import pgnn
from pgnn.inference.compilation import Compilation
from pgnn.inference.exact.compilation import KERNELS
from tests.inference.test_compilation import answers, kernels_run

compiled = []
class Listener(event.Listener):
    def on_start(self, event): compiled.append(event.data["dispatcher"])
    def on_end(self, event): pass

event.register("numba:compile", Listener())
told = {"first": answers(), "ready at first": KERNELS.ready(), "from": pgnn.__file__}
while not KERNELS.ready():
    time.sleep(0.1)
for thread in threading.enumerate():
    if thread.name == "pgnn-compilation":
        thread.join(60)
        told["ended"] = not thread.is_alive()
told["done"] = KERNELS._done.exists()
told["begun"] = KERNELS._done.with_suffix(".begun").exists()
with kernels_run() as run:
    told["then"] = answers()
told["kernels run"] = len(run)
told["compiled"] = [str(d) for d in compiled]
another = Compilation("pgnn.inference.exact")
told["next process"] = another.ready() and another._done is None
print(json.dumps(told))
"""


def answers() -> dict[str, Any]:
    """What the exact engine says, read and planned anew."""
    model = asia()
    many = {"smoke": np.arange(40) % 2, "dysp": np.arange(40) // 2 % 2}
    compiled = model.compile(["lung"], ["smoke", "xray"])
    posterior = model.query(None, SEEN)
    return {
        "query": [posterior[v].probs.tolist() for v in model.variables],
        "rows": model.query(["tub", "lung"], ROWS)["lung"].probs.tolist(),
        "many": model.query("lung", many).log_evidence.tolist(),
        "soft": model.query("lung", {"xray": torch.tensor([0.2, 0.9])}).log_evidence.item(),
        "joint": model.query("lung", SEEN).joint("lung", "tub").values.tolist(),
        "most probable": dict(model.most_probable(SEEN)),
        "three best": [dict(best) for best in model.most_probable(SEEN, k=3)],
        "marginal map": dict(model.most_probable(SEEN, targets=["lung", "tub"])),
        "log prob": model.log_prob(ROWS).tolist(),
        "compiled": compiled(torch.tensor([0, 0]))[0].tolist(),
        "counts": gradients(model),
    }


def gradients(model: Any) -> list[Any]:
    model.requires_grad_().log_prob(ROWS).sum().backward()
    return [p.grad.flatten().tolist() for p in model.parameters()]


class kernels_run:  # noqa: N801 (a context manager)
    """Lists which of the executor's methods are called."""

    def __enter__(self) -> list[str]:
        called: list[str] = []
        self.patch = pytest.MonkeyPatch()
        for owner, name in [(RowAnswer, "__call__"), (CpuExecutor, "answer"),
                            (CpuExecutor, "decode"), (CpuExecutor, "expect")]:  # fmt: skip
            self.patch.setattr(owner, name, noted(getattr(owner, name), called))
        return called

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


def noted(method: Callable[..., Any], called: list[str]) -> Callable[..., Any]:
    def wrapper(*args: Any) -> Any:
        called.append(method.__qualname__)
        return method(*args)

    return wrapper


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child is said to be compiling."""
    monkeypatch.setattr(KERNELS, "ready", lambda: False)


def partly_compiled(folder: Path) -> None:
    """Copy the package with compiled code, if there is any, but that of one file of kernels."""
    copy = folder / "pgnn"
    shutil.copytree(ROOT / "pgnn", copy)  # numba's index compares times of change, which are kept
    compiled = copy / "inference/exact/kernels/__pycache__"
    for mark in (*copy.rglob("*.done"), *copy.rglob("*.begun"), *compiled.glob("components.*.nb?")):
        mark.unlink()
    (folder / "tests").symlink_to(ROOT / "tests")


def test_a_child_compiles_while_torch_answers(tmp_path: Path) -> None:
    partly_compiled(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    env.pop(SWITCH, None)
    done = subprocess.run(
        [sys.executable, "-c", COLD], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["ready at first"], told["done"], told["begun"]) == (False, True, False)
    assert Path(told["from"]).is_relative_to(tmp_path)
    assert told["ended"]
    assert told["kernels run"] > 5
    assert told["compiled"] == []  # the parent has compiled nothing, neither before nor after
    assert told["next process"]
    for question, answer in told["then"].items():
        assert close(answer, told["first"][question]), question
    assert done.stderr == ""


@pytest.mark.usefixtures("waiting")
def test_small_questions_do_without_kernels() -> None:
    with kernels_run() as run:
        ours = answers()
    assert run == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KERNELS, "ready", lambda: True)
        theirs = answers()
    for question, answer in theirs.items():
        assert close(answer, ours[question]), question


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("bound", ["_FEW_VARIABLES", "_FEW_ENTRIES"])
def test_large_questions_take_kernels(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, bound, 7)
    with kernels_run() as run:
        asia().query("lung", SEEN)
    assert run == ["CpuExecutor.answer"]


def test_draws_are_the_same_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    model = asia()
    after = model.sample(50, SEEN, seed=1).codes
    monkeypatch.setattr(KERNELS, "ready", lambda: False)
    with kernels_run() as run:
        assert torch.equal(asia().sample(50, SEEN, seed=1).codes, after)
        assert run == ["CpuExecutor.decode"]
        assert asia().sample(50, SEEN).codes.shape == after.shape  # without a seed torch draws
    assert len(run) == 1


def test_a_prepared_query_and_plans_move_to_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = asia()
    query = model.compile(["lung"], ["smoke"])
    with monkeypatch.context() as patch:
        patch.setattr(KERNELS, "ready", lambda: False)
        first = query(torch.tensor([1]))[0], model.query("lung", SEEN)["lung"].probs
    with kernels_run() as run:
        then = query(torch.tensor([1]))[0], model.query("lung", SEEN)["lung"].probs
    assert run == ["RowAnswer.__call__", "RowAnswer.__call__"]
    torch.testing.assert_close(then, first, rtol=0, atol=1e-12)


class TestWhenNoChildIsStarted:
    @pytest.fixture(autouse=True)
    def cold(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Nothing is compiled, and a child that is started ends soon and badly."""
        self.started: list[list[str]] = []
        real = subprocess.Popen

        def start(command: list[str], **options: Any) -> Any:
            self.started.append(command)
            return real(
                [command[0], "-c", "import time; time.sleep(1); raise SystemExit(1)"], **options
            )

        stats = type("Stats", (), {"cache_path": str(tmp_path)})
        self.folder = tmp_path
        monkeypatch.setattr(compilation.subprocess, "Popen", start)
        monkeypatch.setattr(type(distinct), "stats", stats)
        monkeypatch.delenv(SWITCH)

    def waits(self) -> bool:
        return not Compilation("pgnn.inference.exact").ready()

    def test_one_is_started(self) -> None:
        assert self.waits()
        assert len(self.started) == 1

    def test_only_one_for_two_processes(self) -> None:
        assert self.waits()
        assert self.waits()
        assert len(self.started) == 1

    def test_one_that_fails_is_not_waited_for(self) -> None:
        kernels = Compilation("pgnn.inference.exact")
        assert not kernels.ready()
        for _ in range(600):
            if kernels.ready():
                break
            compilation.time.sleep(0.1)
        assert kernels.ready()

    def test_one_that_fails_at_once_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It has ended before the call that starts it returns."""

        class Finished(threading.Thread):
            def start(self) -> None:
                super().start()
                self.join()

        monkeypatch.setattr(compilation.threading, "Thread", Finished)
        assert Compilation("pgnn.inference.exact").ready()

    def test_another_process_that_never_ends_is_not_waited_for(self) -> None:
        assert self.waits()
        (begun,) = self.folder.glob("*.begun")
        os.utime(begun, (0, 0))
        assert self.waits()
        assert len(self.started) == 2

    def test_compiled_already(self) -> None:
        assert self.waits()
        (begun,) = self.folder.glob("*.begun")
        begun.with_suffix(".done").touch()
        assert not self.waits()

    def test_no_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(distinct).stats, "cache_path", None)
        assert not self.waits()
        monkeypatch.setattr(type(distinct).stats, "cache_path", str(self.folder / "missing"))
        assert not self.waits()
        assert self.started == []

    @pytest.mark.parametrize("program", ["", None, "/opt/app/editor"])
    def test_no_interpreter(self, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", program)
        assert not self.waits()
        assert self.started == []

    def test_switched_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(SWITCH, "now")
        assert not self.waits()
        assert self.started == []

    def test_without_numba(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compilation, "has_numba", lambda: False)
        assert not self.waits()
        assert self.started == []


class Interpreting:
    """Chooses what Python makes of a kernel, whatever the work."""

    def choose(self, kernel: Any, cost: float, guarded: bool = False) -> Any:
        return interpreted(kernel, guarded)


def test_python_improves_bounds_and_ascends_as_the_kernels_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    field = np.random.default_rng(0).normal(size=(3, 3))
    model = pgnn.MarkovRandomField.grid((3, 3), coupling=0.7, field=field, name="x")
    edges = {"b": [[1.0, 0.0], [0.3, 0.7]], "a": [0.5, 0.5], "c": [[0.2, 0.8], [0.0, 1.0]]}
    chain = pgnn.BayesianNetwork([("a", "b"), ("b", "c")], edges)

    def answers() -> list[Any]:
        dual = model.most_probable(engine=pgnn.DualDecomposition())
        cooled = model.most_probable(engine=pgnn.Annealing(sweeps=20, seed=0, progress=False))
        ascended = [m.query(engine=pgnn.MeanField(seed=0)) for m in (model, chain)]
        return [
            *(float(x) for x in (dual.log_prob, dual.upper_bound, cooled.log_prob)),
            *(float(found.log_evidence) for found in ascended),
            *(dual.codes.tolist(), cooled.codes.tolist()),
        ]

    compiled = answers()
    for module in (local_search, dual_bound, coordinate_ascent):
        monkeypatch.setattr(module, "KERNELS", Interpreting())
    for one, other in zip(compiled, answers(), strict=True):
        assert one == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize("room", ["", ".mean_field", ".search"])
def test_every_room_asks_for_its_kernels(room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    chosen = Compilation.choose

    def choose(self: Compilation, kernel: Any, *work: Any, **settings: Any) -> Any:
        told.append(kernel.__name__)
        return chosen(self, kernel, *work, **settings)

    monkeypatch.setattr(Compilation, "choose", choose)
    importlib.import_module(f"pgnn.inference{room}.compile_all").ask_everything()
    assert told


@pytest.mark.parametrize("wish", ["now", "", None])
def test_the_switch_has_one_value(wish: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if wish is None:
        monkeypatch.delenv(SWITCH)
    else:
        monkeypatch.setenv(SWITCH, wish)
    assert compilation._compile_now() == (wish == "now")


def test_another_value_of_the_switch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "never")
    with pytest.warns(UserWarning, match="must be 'now' or not set, got 'never'"):
        assert not compilation._compile_now()
