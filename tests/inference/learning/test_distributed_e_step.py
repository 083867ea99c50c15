"""Rows split over two processes give the model of all rows in one."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import pgnn
from pgnn import EM
from pgnn.errors import ModelError

SCRIPT = """
import sys, warnings
import numpy as np, torch, torch.distributed as dist
import pgnn

def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 2)) + 2.0 * rng.integers(0, 2, (90, 1))
    x[rng.random(x.shape) < 0.1] = np.nan
    tables = {n: np.where(rng.random(90) < 0.1, -1, rng.integers(0, 3, 90)) for n in "abc"}
    return x, tables

def models(take, **settings):
    x, tables = rows()
    mixture = pgnn.Mixture(2, {"x": pgnn.Gaussian}, shapes={"x": (2,)})
    mixture.conditionals["x"].set_parameters([[0.0, 0.0], [2.0, 2.0]], [np.eye(2)] * 2)
    learner = pgnn.EM(max_iterations=25, initialize=False, **settings)
    mixture.fit({"x": x[take]}, learner=learner, progress=False)
    edges = [("a", "b"), ("b", "c")]
    network = pgnn.BayesianNetwork(edges, states=dict.fromkeys("abc", 3))
    data = pgnn.codes({n: t[take] for n, t in tables.items()})
    network.fit(data, learner=pgnn.EM(pgnn.Laplace(), **settings), progress=False)
    return mixture, network

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rank, where = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{where}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    # the first process has two rows of three; the other's numbers at first are others
    share = np.arange(90) % 3 != 2 if rank == 0 else np.arange(90) % 3 == 2
    found = models(share, distributed=True)
    # a process whose rows are wrong ends all of them with its words
    bad = pgnn.Mixture(2, {"x": pgnn.Gaussian}, shapes={"x": (2,)})
    x = rows()[0][:9] if rank == 0 else np.full((9, 2), np.inf)
    try:
        bad.fit({"x": x}, learner=pgnn.EM(distributed=True), progress=False)
        words = ""
    except pgnn.DataError as error:
        words = str(error)
    torch.save({
        "numbers": [m.state_dict() for m in found],
        "likelihoods": [m.history["log_likelihood"] for m in found],
        "rows": [m.history["rows"] for m in found], "words": words,
    }, f"{where}/{rank}")
    if rank == 1:
        sys.stdout.flush()
        import os
        os._exit(0)  # killed, while the other one goes on
    try:
        models(share, distributed=True)
    except pgnn.PgnnError as error:
        print(error)
"""


def test_two_processes_are_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    told = [p.communicate(timeout=240)[0] for p in processes]
    first, second = (torch.load(tmp_path / str(rank)) for rank in (0, 1))
    space: dict = {"__name__": "script"}
    exec(SCRIPT, space)  # the same models in this process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both fits say what the others say
        whole = space["models"](slice(None))
    for k, model in enumerate(whole):
        for n, x in model.state_dict().items():
            assert torch.equal(first["numbers"][k][n], second["numbers"][k][n])
            if not n.endswith("centre"):  # the origin is the first one's
                torch.testing.assert_close(first["numbers"][k][n], x, rtol=1e-6, atol=1e-6)
        expected = model.history["log_likelihood"]
        assert first["likelihoods"][k] == pytest.approx(expected, rel=1e-9)
        assert first["rows"][k] == 90
    assert first["words"].startswith("process 1:")
    assert "finite" in second["words"]
    assert "another process of the group has ended" in told[0]


def test_without_processes_it_says_what_to_do() -> None:
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    with pytest.raises(ModelError, match="torchrun"):
        model.fit({"a": [0], "b": [1]}, learner=EM(distributed=True), progress=False)
    with pytest.raises(ModelError, match="batch_size"):
        EM(distributed=True, batch_size=3)
