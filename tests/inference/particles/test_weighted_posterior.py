"""Weighted samples of the real variables of a posterior."""

import pandas as pd
import torch

from pgnn.factors.variable import Variable
from pgnn.inference.particles.weighted_posterior import WeightedPosterior


def test_samples_have_the_labels_of_the_rows() -> None:
    height, index = Variable("height"), pd.Index(["r1", "r2"], name="row")
    posterior = WeightedPosterior(
        [],
        torch.zeros(2, 0),
        torch.zeros(2),
        [height],
        {"height": torch.arange(6.0).reshape(3, 2)},
        torch.zeros(3, 2),
        batched=True,
        kind="estimate",
        engine="none",
        index=index,
    )
    frame = posterior.samples.frame()
    assert frame.index.get_level_values("row").tolist() == ["r1", "r2"] * 3
    assert frame.loc[(1, "r2"), "height"] == 3.0
