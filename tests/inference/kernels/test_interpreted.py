"""Until kernels are compiled Python does what is little: the same numbers, random ones too."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.inference.compilation import INTERPRETED, Compilation
from pgnn.inference.kernels import interpreted as module

ROOT = Path(__file__).parents[3]
SEEN = {"smoke": "yes", "xray": "yes"}
QUIET = {"seed": 0, "progress": False}

NO_MORE = """
import importlib, json
from numba.core.dispatcher import Dispatcher
from tests.inference.kernels.test_interpreted import ASKED, kernels_of

told = {}
for room in ("propagation", "sampling", "exact"):
    importlib.import_module(f"pgnn.inference.{room}.compile_all").ask_everything()
    kernels = kernels_of(room)
    before = {name: len(k.signatures) for name, k in kernels.items()}
    for name, ask in ASKED.items():
        if name.startswith(room):
            ask()
    told[room] = {n: len(k.signatures) - before[n] for n, k in kernels.items()}
print(json.dumps(told))
"""


def asia() -> Any:
    return pgnn.read(Path(pgnn.__file__).parent / "networks" / "asia.bif")


def grid(side: int = 5) -> Any:
    """A field with random couplings."""
    rng = np.random.default_rng(0)
    at = {(i, j): pgnn.Variable((i, j), 2) for i in range(side) for j in range(side)}
    pairs = [
        pgnn.Factor([v, at[o]], torch.from_numpy(rng.normal(size=(2, 2))))
        for (i, j), v in at.items()
        for o in ((i + 1, j), (i, j + 1))
        if o in at
    ]
    return pgnn.MarkovRandomField(pairs)


def kernels_of(room: str) -> dict[str, Any]:
    """The kernels of a room that Python calls."""
    import importlib

    from numba.core.dispatcher import Dispatcher

    folder = ROOT / "pgnn" / "inference" / room / "kernels"
    modules = [
        importlib.import_module(f"pgnn.inference.{room}.kernels.{f.stem}")
        for f in folder.glob("[a-z]*.py")
    ]
    return {
        f"{m.__name__}.{name}": kernel
        for m in modules
        for name, kernel in vars(m).items()
        if isinstance(kernel, Dispatcher) and kernel.py_func.__module__ == m.__name__
        if not kernel.targetoptions.get("no_cpython_wrapper")
    }


def marginals(model: Any, engine: Any, evidence: Any) -> list[torch.Tensor]:
    answer = model.query(None, evidence, engine=engine, errors="nan")
    return [answer[n].probs for n in answer]


ASKED: dict[str, Callable[[], list[torch.Tensor]]] = {
    "propagation, tree": lambda: marginals(grid(2), pgnn.BeliefPropagation(), {}),
    "propagation, loops": lambda: marginals(asia(), pgnn.BeliefPropagation(), SEEN),
    "propagation, maxima": lambda: [
        grid(3).most_probable({}, engine=pgnn.BeliefPropagation()).log_prob
    ],
    "sampling, Gibbs": lambda: marginals(
        asia(), pgnn.Gibbs(burn_in=20, samples=50, chains=2, **QUIET), SEEN
    ),
    "sampling, draws by Gibbs": lambda: [
        asia().sample(20, SEEN, engine=pgnn.Gibbs(burn_in=20, chains=2, **QUIET)).codes
    ],
    "sampling, AIS": lambda: marginals(
        grid(3),
        pgnn.AnnealedImportanceSampling(chains=5, temperatures=20, **QUIET),
        {},
    ),
    "sampling, annealing": lambda: [
        grid(3).most_probable({}, engine=pgnn.Annealing(chains=2, sweeps=50, **QUIET)).log_prob
    ],
    "exact, draws": lambda: [asia().sample(50, SEEN, seed=1).codes],
    "exact, draws of rows": lambda: [asia().sample(9, {"xray": [0, 1, 0, 1]}, seed=1).codes],
}


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
@pytest.mark.parametrize("name", sorted(ASKED))
def test_python_finds_the_same_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = ASKED[name]()
    used: list[Any] = []
    real = module.interpreted

    def noted(kernel: Any, guarded: bool = False) -> Any:
        used.append(kernel)
        return real(kernel, guarded)

    monkeypatch.setattr(Compilation, "ready", lambda self: False)
    monkeypatch.setattr(module, "interpreted", noted)
    for theirs, ours in zip(ASKED[name](), compiled, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-12)
    assert used


def test_a_guarded_kernel_is_run_where_numbers_are_too_small() -> None:
    from pgnn.inference.kernels.compiled import entry

    @entry
    def square(x, out):
        out[0] = x[0] * x[0]

    ran: list[Any] = []

    class Watched:
        py_func = square.py_func

        def __call__(self, *args: Any) -> None:
            ran.append(args)

    for guarded, number, times in ((True, 1e-200, 1), (True, 0.5, 0), (False, 1e-200, 0)):
        ran.clear()
        module.interpreted(Watched(), guarded)(np.array([number]), np.zeros(1))
        assert len(ran) == times, (guarded, number)


def test_much_work_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compilation, "ready", lambda self: False)
    kernel: Any = object()
    assert Compilation("pgnn.inference.sampling").choose(kernel, 2 * INTERPRETED) is kernel


def test_the_child_compiles_all_that_questions_need() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_MORE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert len(told) == 3
    for room, kernels in told.items():
        assert kernels
        assert {n: more for n, more in kernels.items() if more} == {}, room
