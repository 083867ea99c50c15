"""Rows are learned from in every container, and what is learned is the same."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch import nn

import pgnn
from pgnn.evidence.nameless_rows import listed_rows

BITS = np.random.default_rng(0).integers(0, 2, (12, 4))
REALS = np.random.default_rng(1).normal(size=(12, 4))
SPINS = 2 * BITS - 1
NAMES = dict.fromkeys("abcd", 2)
PASS = pgnn.ContrastiveDivergence(epochs=1)
BOUND = pgnn.LowerBound(max_iterations=1)
V = pgnn.Variable


def autoencoder(kind: type) -> Any:
    return kind(nn.Linear(4, 4), nn.Linear(2, 4), pgnn.NormalHead((4,), scale=1.0), latent=2)


FAMILIES: dict[str, tuple[Callable[[], Any], Any, Any]] = {
    "Hopfield": (lambda: pgnn.Hopfield(4), SPINS, None),
    "RBM": (lambda: pgnn.RestrictedBoltzmannMachine(4, 2), BITS, PASS),
    "RBM of reals": (
        lambda: pgnn.RestrictedBoltzmannMachine(V("x", shape=(4,)), 2), REALS, PASS,
    ),
    "BoltzmannMachine": (lambda: pgnn.BoltzmannMachine(4), BITS, None),
    "DeepBeliefNetwork": (
        lambda: pgnn.DeepBeliefNetwork([4, 3]), BITS, pgnn.GreedyLayerwise(PASS),
    ),
    "SigmoidBeliefNetwork": (
        lambda: pgnn.SigmoidBeliefNetwork([4, 2]), BITS, pgnn.WakeSleep(epochs=1),
    ),
    "FactorAnalysis": (lambda: pgnn.FactorAnalysis(1, 4), REALS, None),
    "PrincipalComponents": (lambda: pgnn.PrincipalComponents(1, 4), REALS, None),
    "undeclared": (lambda: pgnn.FactorAnalysis(1), REALS, None),
    "VAE": (lambda: autoencoder(pgnn.VAE), REALS, BOUND),
    "GAN": (
        lambda: pgnn.GAN(nn.Linear(2, 4), nn.Linear(4, 1), 2), REALS, pgnn.Adversarial(epochs=1),
    ),
    "Mixture": (lambda: pgnn.Mixture(2, {"x": pgnn.Gaussian}), REALS, None),
    "BayesianNetwork": (
        lambda: pgnn.BayesianNetwork([("a", "b"), ("c", "d")], states=NAMES), BITS, None,
    ),
    "MarkovRandomField": (
        lambda: pgnn.MarkovRandomField([("a", "b"), ("c", "d")], states=NAMES), BITS, None,
    ),
    "ChowLiuTree": (lambda: pgnn.ChowLiuTree(NAMES), BITS, None),
}  # fmt: skip
CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda x: x.tolist(),
    "tuple": lambda x: tuple(map(tuple, x.tolist())),
    "tensor": torch.from_numpy,
    "list of arrays": list,
    "list of tensors": lambda x: [torch.from_numpy(row) for row in x],
    "pandas": lambda x: pd.DataFrame(x, columns=list("abcd")),
    "polars": lambda x: pl.DataFrame(x, schema=list("abcd")),
}


def learned(family: str, data: Any) -> dict[str, torch.Tensor]:
    make, _, learner = FAMILIES[family]
    torch.manual_seed(0)
    model = make()
    model.fit(data, learner=learner, seed=0, progress=False)
    return {name: x.detach().clone() for name, x in model.state_dict().items()}


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged", "ignore::UserWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_from_every_container(family: str) -> None:
    rows = FAMILIES[family][1]
    expected = learned(family, rows)
    for name, container in CONTAINERS.items():
        if family == "Mixture" and name in ("pandas", "polars"):
            continue  # whose columns are variables
        found = learned(family, container(rows))
        assert found.keys() == expected.keys()
        for key, x in expected.items():
            torch.testing.assert_close(found[key], x, msg=f"{name}: {key}", rtol=1e-6, atol=1e-8)


def test_cells_of_lists_may_be_missing() -> None:
    some = BITS.astype(float)
    some[0, 1] = np.nan
    holes = [[None if np.isnan(x) else int(x) for x in row] for row in some]
    model = pgnn.RestrictedBoltzmannMachine(4, 2)
    initial = {n: x.clone() for n, x in model.state_dict().items()}
    model.fit(some, learner=PASS, seed=0)
    expected = {n: x.clone() for n, x in model.state_dict().items()}
    model.load_state_dict(initial)
    model.fit(holes, learner=PASS, seed=0)
    for name, x in model.state_dict().items():
        torch.testing.assert_close(x, expected[name])


@pytest.mark.parametrize(
    "data",
    [
        [],
        "ab",
        [BITS, BITS],
        (BITS[0], BITS[1]),
        [{"a": 1}, {"a": 0}],
        [pd.DataFrame(BITS)],
        [[0, 1], [1]],
        [["a", "b"], ["b", "a"]],
        [[[0, 1], [1, 0]]],
        [0, 1],
        {"x": [[0, 1]]},
    ],
    ids=str,
)
def test_other_data_is_left_as_it_is(data: Any) -> None:
    assert listed_rows(data) is data


def test_rows_with_several_axes() -> None:
    pixels = [[[0, 1], [1, 0]], [[1, 1], [0, 0]]]
    assert listed_rows(pixels, (2, 2)).tolist() == pixels
    batches = [np.zeros((3, 4)), np.zeros((3, 4))]
    assert listed_rows(batches, (2, 2)) is batches
