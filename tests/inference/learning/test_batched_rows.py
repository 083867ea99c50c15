"""Rows that come batch after batch, and networks that compute in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pgnn
from pgnn import LowerBound
from pgnn.errors import DataError, ModelError
from pgnn.factors.network_precision import mapped, mixed_precision, run


def images(rows: int = 50) -> Tensor:
    return (torch.rand(rows, 4, generator=torch.Generator().manual_seed(0)) < 0.5).float()


def vae(**rest: Any) -> pgnn.VAE:
    torch.manual_seed(0)
    wide = len(rest.get("inputs", ()))
    encoder, decoder = nn.Linear(4 + wide, 4), nn.Linear(2 + wide, 4)
    return pgnn.VAE(encoder, decoder, pgnn.BernoulliHead((4,)), latent=2, **rest)


def fitted(data: Any, model: Any = None, *, weights: Any = None, inputs: Any = None, **rest: Any):
    learner = LowerBound(**({"max_iterations": 2} | rest))
    chosen = vae() if model is None else model
    return chosen.fit(data, learner=learner, weights=weights, inputs=inputs, seed=0, progress=False)


def numbers(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def test_batches_are_steps_and_their_rows_count_as_rows_at_once() -> None:
    x = images()
    whole = fitted(x, batch_size=None)
    assert torch.equal(numbers(fitted([x])), numbers(whole))
    parts = fitted(DataLoader(TensorDataset(x), batch_size=16, shuffle=True))
    again = fitted(DataLoader(TensorDataset(x), batch_size=16, shuffle=True))
    assert torch.equal(numbers(parts), numbers(again))  # by the seed of the fit
    assert not torch.equal(numbers(parts), numbers(whole))
    assert (parts.history["rows"], parts.history["weight"]) == (50, 50.0)
    for part in (parts, whole):
        assert -50 * 8 < part.history["lower_bound"] < -50 * 2
    once = fitted(iter([x]), max_iterations=1)
    assert "lower_bound" not in once.history  # there are no rows left to look at
    assert len(once.history["trace"]["mean_lower_bound"]) == 1


def test_batches_are_of_any_form_and_bring_inputs_and_weights() -> None:
    x, u = images(), torch.linspace(-1, 1, 50).unsqueeze(1)
    at_once = fitted(x, vae(inputs=["u"]), inputs={"u": u}, batch_size=None)
    assert torch.equal(numbers(fitted([[x, u]], vae(inputs=["u"]))), numbers(at_once))
    assert torch.equal(
        numbers(fitted((x, u), vae(inputs=["u"]), batch_size=None)), numbers(at_once)
    )
    heavy = np.arange(1.0, 51.0)
    weighted = fitted(x, weights=heavy, batch_size=None)
    named = fitted([{"x": x, "w": heavy}], weights="w")
    assert torch.equal(numbers(named), numbers(weighted))
    assert named.history["weight"] == heavy.sum()


@pytest.mark.parametrize(
    ("data", "rest", "says"),
    [
        ([], {}, "iterable of batches is empty"),
        (3, {}, "expected an array.*got int"),
        ([images(), images()[:, :3]], {}, "batch 1: .*shape"),
        ([3 * images()], {}, "outside of the support.*rescale them"),
        ([0.25 + 0.5 * images()], {}, "these are greys: take .*NormalHead"),
        (iter([images()]), {}, "set max_iterations=1"),
        ([[images(), images()]], {}, "batch 0: got 2 arrays"),
        ([images()], {"validation": 0.5}, "all rows in one array"),
        ([images()], {"weights": np.ones(50)}, "contain their own inputs and weights"),
    ],
)
def test_batches_that_are_wrong_leave_the_model_as_it_was(data, rest, says) -> None:
    model = vae()
    before = numbers(model)
    with pytest.raises(DataError, match=says):
        fitted(data, model, **rest)
    assert torch.equal(numbers(model), before)


def test_a_fit_of_batches_goes_on_where_it_ended(tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    def stop(after: int) -> Callable[[Any], float]:
        passes = [0]

        def figure(_: Any) -> float:
            passes[0] += 1
            if passes[0] > after:
                raise Ended
            return 0.0

        return figure

    def batches() -> DataLoader:
        return DataLoader(TensorDataset(images()), batch_size=16, shuffle=True)

    kept = pgnn.Checkpoints(tmp_path / "fit", every=0.0)
    with pytest.raises(Ended):
        fitted(batches(), checkpoints=kept, max_iterations=5, watch={"stop": stop(3)})
    resumed = fitted(batches(), checkpoints=kept, max_iterations=5, watch={"stop": stop(9)})
    whole = fitted(batches(), max_iterations=5)
    assert torch.equal(numbers(resumed), numbers(whole))
    assert len(resumed.history["trace"]["objective"]) == 5


def test_frames_come_in_batches_too() -> None:
    x, y = pgnn.Variable("x"), pgnn.Variable("y")
    model = pgnn.AmortisedNetwork(
        [("x", "y")],
        [
            pgnn.Gaussian(x, mean=0.0, covariance=1.0),
            pgnn.Neural(y, [x], nn.Linear(1, 2), head=pgnn.NormalHead()),
        ],
        recognition=[pgnn.Neural(x, [y], nn.Linear(1, 2), head=pgnn.NormalHead())],
    )
    frames = [pd.DataFrame({"y": np.arange(5.0)}), pd.DataFrame({"y": np.arange(3.0)})]
    assert fitted(frames, model).history["rows"] == 8


class Noting(nn.Linear):
    """A layer that says in which type it has computed."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.seen: set[torch.dtype] = set()

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.seen.add(y.dtype)
        return y


def test_networks_compute_in_bfloat16_and_densities_do_not() -> None:
    torch.manual_seed(0)
    encoder, decoder = Noting(4, 4), Noting(2, 4)
    model = pgnn.VAE(encoder, decoder, pgnn.BernoulliHead((4,)), latent=2)
    fitted(images(), model, mixed_precision=True)
    # learning, and in the type of the parameters what is told at the end
    assert encoder.seen == decoder.seen == {torch.bfloat16, torch.float32}
    assert encoder.weight.dtype == torch.float32
    rough, fine = fitted(images(), mixed_precision=True), fitted(images())
    torch.testing.assert_close(numbers(rough), numbers(fine), atol=1e-2, rtol=0.0)
    assert not torch.equal(numbers(rough), numbers(fine))
    with pytest.raises(ModelError, match="mixed_precision needs an optimizer"):
        pgnn.Gradient(mixed_precision=True)


def test_what_networks_return_has_their_own_type() -> None:
    layer, x = nn.Linear(3, 2), torch.ones(1, 3)
    with mixed_precision():
        assert run(layer, x).dtype == torch.float32
        assert run(layer.double(), x.double()).dtype == torch.float64
    assert torch.equal(run(layer, x.double()), layer(x.double()))
    normal = torch.distributions.Independent(torch.distributions.Normal(x, x), 1)
    held = mapped([normal, {"a": (x,)}, "text"], lambda t: t + 1)
    assert torch.equal(held[0].base_dist.loc, x + 1)
    assert torch.equal(held[1]["a"][0], x + 1)
    assert held[2] == "text"
    assert torch.equal(normal.base_dist.loc, x)
