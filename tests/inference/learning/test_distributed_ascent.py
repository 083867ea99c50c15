"""Steps that are made of the batches of several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pgnn

SCRIPT = """
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

import pgnn


def model(seed):
    torch.manual_seed(seed)
    return pgnn.Autoencoder(nn.Linear(4, 2), nn.Linear(2, 4), pgnn.NormalHead((4,), 1.0), 2)


def fitted(rows, seed=0, **settings):
    learner = pgnn.LowerBound(
        bound=pgnn.Elbo(beta=0.0), max_iterations=3, max_value=0.5,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1), **settings,
    )
    return model(seed).fit(rows, learner=learner, seed=0, progress=False)


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(4))

    def forward(self, noise):
        return self.value.expand(len(noise), -1)


def played(rows, seed=0, batch_size=64, **settings):
    torch.manual_seed(seed)
    game = pgnn.GAN(Constant(), nn.Linear(4, 1), noise=1)
    learner = pgnn.Adversarial(
        epochs=3, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), batch_size=batch_size, **settings
    )
    return game.fit(rows, learner=learner, seed=0, progress=False)


def data():
    return torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    rank, where = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{where}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    x = data()[:8] if rank == 0 else data()[8:]
    whole = fitted(x, seed=rank, batch_size=None, distributed=True)
    parts = fitted(x, seed=rank, batch_size=4, distributed=True)  # two batches, and one
    batches = fitted([*x.split(4)], seed=rank, distributed=True)
    games = [played(x, rank, size, distributed=True) for size in (64, 4)]
    every = [whole, parts, batches, *games]
    torch.save([model.state_dict() for model in every], f"{where}/{rank}")
"""


def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in (0, 1)]
    assert [p.wait(timeout=240) for p in processes] == [0, 0]
    first, second = (torch.load(tmp_path / str(rank)) for rank in (0, 1))
    for ours, theirs in zip(first, second, strict=True):
        assert all(torch.equal(x, theirs[name]) for name, x in ours.items())
    space: dict[str, Any] = {"__name__": "script"}
    exec(SCRIPT, space)  # the same model in this process
    alone = space["fitted"](space["data"](), batch_size=None).state_dict()
    for name, x in first[0].items():
        torch.testing.assert_close(x, alone[name])
    for other in first[1:3]:
        assert any(not torch.equal(x, first[0][name]) for name, x in other.items())
    alone = space["played"](space["data"]()).state_dict()  # its noise makes no difference
    for name, x in first[3].items():
        torch.testing.assert_close(x, alone[name])
    assert any(not torch.equal(x, first[3][name]) for name, x in first[4].items())


def test_settings_that_do_not_go_together_are_told() -> None:
    with pytest.raises(pgnn.ModelError, match="validation and checkpoints need a single process"):
        pgnn.LowerBound(distributed=True, validation=0.1)
    with pytest.raises(pgnn.ModelError, match="checkpoints need a single process"):
        pgnn.Adversarial(distributed=True, checkpoints=pgnn.Checkpoints("x"))
    with pytest.raises(pgnn.ModelError, match="distributed needs an optimizer"):
        pgnn.Gradient(distributed=True)
    model = pgnn.VAE(nn.Linear(4, 4), nn.Linear(2, 4), pgnn.BernoulliHead((4,)), latent=2)
    with pytest.raises(pgnn.ModelError, match="torchrun"):
        model.fit(torch.ones(8, 4), learner=pgnn.LowerBound(distributed=True))


def test_derivatives_are_cut_off_by_value() -> None:
    torch.manual_seed(0)
    model = pgnn.Autoencoder(nn.Linear(4, 2), nn.Linear(2, 4), pgnn.NormalHead((4,), 0.01), 2)
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    learner = pgnn.LowerBound(
        bound=pgnn.Elbo(beta=0.0), max_iterations=1, batch_size=None, max_value=1e-3,
        optimizer=lambda p: torch.optim.SGD(p, lr=1.0),
    )  # fmt: skip
    model.fit(torch.ones(8, 4), learner=learner, seed=0, progress=False)
    after = [p.detach() for p in model.parameters() if p.requires_grad]
    moved = max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))
    assert moved == pytest.approx(1e-3, rel=1e-3)
