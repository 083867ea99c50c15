"""Stacks of autoencoders: learnt from below, then as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pgnn
from pgnn import Autoencoder, GreedyLayerwise, LowerBound, NormalHead, StackedAutoencoder
from pgnn.errors import DataError, ModelError
from pgnn.models.autoencoder import Corrupted


def rows() -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(120, 2, generator=rng) @ torch.randn(2, 6, generator=rng)


def stage(outside: int, inside: int, **rest: Any) -> Autoencoder:
    torch.manual_seed(outside)
    encoder = nn.Linear(outside, inside, bias=False)
    decoder = nn.Linear(inside, outside, bias=False)
    return Autoencoder(encoder, decoder, NormalHead((outside,), 1.0), inside, **rest)


def learner(passes: int, **rest: Any) -> LowerBound:
    adam = lambda p: torch.optim.Adam(p, lr=0.02)  # noqa: E731
    return LowerBound(optimizer=adam, bound=pgnn.Elbo(beta=0.0), max_iterations=passes, **rest)


def error(model: Autoencoder, x: torch.Tensor) -> float:
    return float((model.reconstruct(x) - x).square().sum(1).mean())


def test_stages_are_learnt_from_below_and_the_whole_is_their_composition() -> None:
    x = rows()
    model = StackedAutoencoder([stage(6, 4), stage(4, 2)])
    model.fit(x, learner=GreedyLayerwise(learner(80)), seed=0, progress=False)
    lower, upper = (model.stage(k) for k in range(model.num_stages))
    codes = upper.encode(lower.encode(x).mean).mean
    torch.testing.assert_close(model.encode(x).mean, codes)
    decoded = lower.decode(upper.decode(codes).mean).mean
    torch.testing.assert_close(model.reconstruct(x), decoded)
    torch.testing.assert_close(model.encoder()(x), codes)
    trace = model.history["trace"]["mean_lower_bound"]
    assert model.history["iterations"] == len(trace) == 160
    # what is learnt of a stage alone is what the stack has learnt of it
    alone = stage(6, 4)
    alone.fit(x, learner=learner(80), seed=0, progress=False)
    torch.testing.assert_close(alone.encode(x).mean, lower.encode(x).mean)
    assert trace[:80] == alone.history["trace"]["mean_lower_bound"]


def test_fine_tuning_makes_the_whole_better() -> None:
    x = rows()
    plain, tuned = (StackedAutoencoder([stage(6, 4), stage(4, 2)]) for _ in range(2))
    plain.fit(x, learner=GreedyLayerwise(learner(10)), seed=0, progress=False)
    tuned.fit(x, learner=GreedyLayerwise(learner(10), learner(60)), seed=0, progress=False)
    assert error(tuned, x) < 0.5 * error(plain, x)
    assert len(tuned.history["fine_tuning"]["trace"]["mean_lower_bound"]) == 60
    chosen: Any = plain.default_learner(x)
    assert chosen.fine_tuning.bound.beta == 0.0
    assert plain.query("z", {"x": x[:2]}).kind == "estimate"  # asked as any other model


def test_a_corruption_is_that_of_its_stage() -> None:
    noisy = stage(6, 4, corruption=nn.Dropout(0.9))
    model = StackedAutoencoder([noisy, stage(4, 2)])
    assert not any(isinstance(m, nn.Dropout) for m in model.encoder().modules())
    encoder: Any = noisy.recognition["z"]
    assert encoder.module[1].weight is next(model.encoder().parameters())


def test_a_stack_is_saved_with_its_numbers(tmp_path: Path) -> None:
    model = StackedAutoencoder([stage(6, 4, corruption=nn.Dropout(0.5)), stage(4, 2)])
    model.save(tmp_path / "stack")
    coders = [Corrupted(nn.Dropout(0.5), nn.Linear(6, 4, bias=False)), nn.Linear(4, 2, bias=False)]
    decoders = [nn.Linear(4, 6, bias=False), nn.Linear(2, 4, bias=False)]
    again = pgnn.load(tmp_path / "stack", modules={"z": coders, "x": decoders})
    x = rows()[:3]
    torch.testing.assert_close(again.encode(x).mean, model.encode(x).mean)
    torch.testing.assert_close(again.reconstruct(x), model.reconstruct(x))


def test_a_failure_leaves_all_stages_as_they_were() -> None:
    model = StackedAutoencoder([stage(6, 4), stage(4, 2)])
    before = {n: p.clone() for n, p in model.state_dict().items()}
    hopeless = LowerBound(optimizer=lambda p: torch.optim.SGD(p, lr=1e9), max_iterations=3)
    with pytest.raises(pgnn.PgnnError, match="diverged"):
        model.fit(rows(), learner=GreedyLayerwise(learner(2), hopeless), progress=False)
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())


def test_stacks_that_cannot_be() -> None:
    for stages, says in (
        ([], "a list of autoencoders"),
        ([nn.Linear(2, 2)], "stage 0 must be an Autoencoder"),
        ([stage(6, 4), stage(3, 2)], r"shape \(3,\).*shape \(4,\)"),
        ([stage(6, 4, latent_name="x", name="y"), stage(4, 2, name="q", latent_name="y")], "'y'"),
    ):
        with pytest.raises(ModelError, match=says):
            StackedAutoencoder(stages)  # type: ignore[arg-type]
    same = stage(4, 4)
    with pytest.raises(ModelError, match="given twice"):
        StackedAutoencoder([same, same])
    with pytest.raises(ModelError, match="has no stages"):
        stage(6, 4).fit(rows(), learner=GreedyLayerwise(), progress=False)
    with pytest.raises(ModelError, match="fine_tuning must be a learner"):
        GreedyLayerwise(fine_tuning=3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no input"):
        StackedAutoencoder([same]).fit(rows()[:, :4], inputs={"u": rows()}, progress=False)
