"""Interventions in Pyro programs."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn
from pgnn.errors import Unsupported


def confounded() -> None:
    u = pyro.sample("U", dist.Bernoulli(torch.tensor(0.3).double()))
    r = pyro.sample("R", dist.Bernoulli(torch.tensor([0.2, 0.9]).double()[u.long()]))
    chance = torch.tensor([[0.1, 0.4], [0.5, 0.8]]).double()[u.long(), r.long()]
    pyro.sample("Y", dist.Bernoulli(chance))


def test_an_intervention_is_that_of_pyro() -> None:
    program = pgnn.Program(confounded)
    with pytest.raises(Unsupported) as error:
        program.do({"R": 1.0})
    call = "pgnn.Program(pyro.do(program, {'R': torch.tensor(1.0)}))"
    assert str(error.value).endswith(f"use {call}")
    set_to_one = eval(call, {"pgnn": pgnn, "pyro": pyro, "torch": torch, "program": confounded})
    probs = set_to_one.query("Y")["Y"].probs
    assert float(probs[1]) == pytest.approx(0.7 * 0.4 + 0.3 * 0.8)
    observed = program.query("Y", {"R": 1})["Y"].probs
    assert abs(float(observed[1] - probs[1])) > 0.05
    with pytest.raises(Unsupported, match=r"pyro\.do\(program"):
        program.do(["R"])
