"""Draws depend on their seed alone, and leave torch's own generators as they were."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pgnn import BayesianNetwork, DynamicBayesianNetwork, Gaussian, HiddenMarkovModel, Variable
from pgnn.factors.randomness import generator, private_randomness

PACKAGE = Path(__file__).resolve().parents[2] / "pgnn"


def chain() -> HiddenMarkovModel:
    state, x = Variable("state", 2), Variable("x")
    return HiddenMarkovModel(
        2,
        {"x": Gaussian(x, [state], [-1.0, 1.0], [1.0, 2.0]), "y": [[0.2, 0.8], [0.5, 0.5]]},
        initial=[0.5, 0.5],
        transitions=[[0.9, 0.1], [0.2, 0.8]],
    )


def network_over_time() -> DynamicBayesianNetwork:
    return DynamicBayesianNetwork(
        [(("z", -1), "z"), ("z", "y")],
        {"z": [[0.7, 0.3], [0.3, 0.7]], "y": [[0.8, 0.2], [0.1, 0.9]]},
        initial={"z": [0.5, 0.5]},
        states={"z": 2, "y": 2},
    )


def draws(kind: str, seed: int | None) -> torch.Tensor:
    if kind == "network":
        a, x = Variable("a", 2), Variable("x")
        tables = {"a": [0.3, 0.7], "x": Gaussian(x, [a], [-1.0, 1.0], [1.0, 2.0])}
        model = BayesianNetwork([("a", "x")], tables)
        return model.sample(40, seed=seed)["x"]
    model = chain() if kind == "chain" else network_over_time()
    found = model.sample(3, {"T": [7, 5]}, seed=seed)
    return torch.cat([torch.as_tensor(found[n], dtype=torch.float64) for n in model.variables])


@pytest.mark.parametrize("kind", ["chain", "network over time", "network"])
def test_draws_depend_on_the_seed_alone(kind):
    torch.manual_seed(3)
    first = draws(kind, 0)
    torch.manual_seed(4)
    assert torch.equal(first.nan_to_num(), draws(kind, 0).nan_to_num())
    assert not torch.equal(first.nan_to_num(), draws(kind, 1).nan_to_num())
    assert not torch.equal(draws(kind, None).nan_to_num(), draws(kind, None).nan_to_num())


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("kind", ["chain", "network over time", "network"])
def test_global_state_is_untouched(kind, seed):
    before = torch.random.get_rng_state()
    draws(kind, seed)
    assert torch.equal(before, torch.random.get_rng_state())


def test_state_is_put_back_after_a_failure():
    before = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="size"), private_randomness(0):
        torch.rand(3) + torch.rand(2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_nothing_waits_for_a_gpu_that_is_not_used():
    code = """
import torch
from tests.factors.test_randomness import draws
waiting = []
torch.cuda.random._lazy_call = lambda call, **options: waiting.append(options)
for kind in ("chain", "network over time", "network"):
    for seed in (0, None):
        draws(kind, seed)
print(len(waiting), torch.cuda.is_initialized())
torch.manual_seed(0)
print(len(waiting))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "False", "1"]  # the last one: torch does leave seeds


def test_one_generator_a_seed():
    first, second = generator(5), generator(5)
    assert torch.equal(torch.rand(4, generator=first), torch.rand(4, generator=second))
    assert generator(None).initial_seed() != generator(None).initial_seed()


def test_torchs_own_generators_are_seeded_in_one_place():
    globally = {
        "torch.manual_seed",
        "torch.seed",
        "torch.cuda.manual_seed",
        "torch.random.fork_rng",
    }
    globally |= {"torch.cuda.manual_seed_all", "torch.default_generator.manual_seed"}
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in globally:
                found.add(file.relative_to(PACKAGE).as_posix())
    assert found == {"factors/randomness.py"}
