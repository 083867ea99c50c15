"""Evidence without rows, and with parts of vectors, about unknown real numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pgnn


def autoencoder(head: Any) -> pgnn.VAE:
    torch.manual_seed(0)
    return pgnn.VAE(nn.Linear(4, 4), nn.Linear(2, 4), head, latent=2)


BITS, REALS = pgnn.BernoulliHead((4,)), pgnn.NormalHead((4,), scale=1.0)
NOTHING = [
    np.zeros((0, 4)),
    torch.zeros(0, 4),
    {"x": np.zeros((0, 4))},
    pd.DataFrame(np.zeros((0, 4)), columns=list("abcd")),
]
BOUND = pgnn.Variational(objective=pgnn.ImportanceWeighted(5), progress=False)
VERBS: dict[str, Callable[[pgnn.VAE, Any], Any]] = {
    "query": lambda vae, x: vae.query("z", x),
    "log_prob": lambda vae, x: vae.log_prob(x, engine=BOUND),
    "sample": lambda vae, x: vae.sample(2, x, seed=0),
    "chains": lambda vae, x: vae.query("z", x, engine=pgnn.MCMC(samples=10, progress=False)),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("head", [BITS, REALS])
@pytest.mark.parametrize("rows", NOTHING, ids=lambda x: type(x).__name__)
def test_no_rows_have_no_answer(verb: str, head: Any, rows: Any) -> None:
    with pytest.raises(pgnn.EvidenceError, match="expected evidence with at least one row, got no"):
        VERBS[verb](autoencoder(head), rows)


@pytest.mark.parametrize("head", [BITS, REALS])
@pytest.mark.parametrize("rows", NOTHING, ids=lambda x: type(x).__name__)
def test_no_rows_have_no_most_probable_values(head: Any, rows: Any) -> None:
    with pytest.raises(pgnn.EvidenceError, match="expected evidence with at least one row, got no"):
        autoencoder(head).most_probable(rows)


@pytest.mark.parametrize("head", [BITS, REALS])
def test_no_rows_are_completed_to_no_rows(head: Any) -> None:
    for rows in NOTHING:
        completed = autoencoder(head).impute(rows)
        assert type(completed) is (pd.DataFrame if isinstance(rows, dict) else type(rows))
        assert len(completed) == 0
    assert list(autoencoder(head).impute(NOTHING[3])) == list("abcd")


@pytest.mark.parametrize("head", [BITS, REALS])
def test_missing_pixels_are_no_targets_of_the_most_probable_values(head: Any) -> None:
    vae = autoencoder(head)
    rows = torch.tensor([[0.0, torch.nan, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]])
    for targets in (["x"], ["z", "x"]):
        with pytest.raises(pgnn.Unsupported, match=r"'x' was observed in part.*impute\(\) gives"):
            vae.most_probable(rows, targets)
    assert list(vae.most_probable(rows, ["z"])) == ["z"]
    assert bool(vae.impute(rows).isfinite().all())
