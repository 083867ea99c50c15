"""Classes of distributions in checkpoints: those of torch and Pyro are kept, no other code."""

import functools
import json
from pathlib import Path
from typing import Any

import pyro.distributions
import pytest
import torch
from safetensors.torch import load_file, save_file

import pgnn
from pgnn.factors.conditionals.distribution_class import distribution_class
from pgnn.io import checkpoint
from pgnn.programs.named_distributions import name_of_distribution, named_distribution

CLASSES: list[Any] = [
    torch.distributions.Gamma,
    pyro.distributions.Gamma,  # a class of its own
    pyro.distributions.AsymmetricLaplace,
    functools.partial(pyro.distributions.AffineBeta, loc=-1.0, scale=2.0),
]


def model_of(kind: Any) -> pgnn.BayesianNetwork:
    s, x = pgnn.Variable("s", 2), pgnn.Variable("x")
    return pgnn.BayesianNetwork([("s", "x")], {"s": [0.3, 0.7], "x": kind}, {"s": s, "x": x})


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind)[:40])
def test_classes_are_kept(kind: Any, tmp_path: Path) -> None:
    model = model_of(kind)
    rows = {"s": [0, 1, 1], "x": [0.2, 0.5, 0.9]}
    model.fit(rows, learner=pgnn.Gradient(max_iterations=2, tolerance=1e9), progress=False)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    torch.testing.assert_close(again.log_prob(rows), model.log_prob(rows), rtol=0.0, atol=0.0)
    make = again.conditionals["x"].settings()["make"]
    assert distribution_class(make) is distribution_class(kind)
    assert getattr(make, "keywords", {}) == getattr(kind, "keywords", {})


def test_classes_of_the_caller_are_not(tmp_path: Path) -> None:
    class Gamma(pyro.distributions.Gamma):
        pass

    assert name_of_distribution(Gamma) is None
    model_of(Gamma).save(tmp_path / "m")
    with pytest.raises(pgnn.DataError, match="whose code is not in the file"):
        pgnn.load(tmp_path / "m")


WRONG = ("pyro:SpanningTree", "pyro:torch", "pyro:constraints", "pyro:os", "os:system", "kl", 3)


@pytest.mark.parametrize("name", WRONG)
def test_a_file_names_nothing_but_distributions(name: object, tmp_path: Path) -> None:
    assert named_distribution(name) is None
    model_of(pyro.distributions.Logistic).save(tmp_path / "m")
    structure, _ = checkpoint._read(tmp_path / "m")
    tensors = load_file(tmp_path / "m")
    text = json.dumps(structure)
    assert text.count('"pyro:Logistic"') == 1
    text = text.replace('"pyro:Logistic"', json.dumps(name))
    save_file(tensors, tmp_path / "m", {"pgnn": text, "crc32": checkpoint._checksum(text, tensors)})
    with pytest.raises(pgnn.DataError, match="neither torch nor Pyro has a distribution"):
        pgnn.load(tmp_path / "m")


def test_every_public_class_has_a_name_that_finds_it() -> None:
    for module in (torch.distributions, pyro.distributions):
        for name, kind in vars(module).items():
            is_class = isinstance(kind, type) and issubclass(kind, torch.distributions.Distribution)
            if is_class and name != "SpanningTree" and kind.__name__ == name:
                found = name_of_distribution(kind)
                assert found is not None
                assert named_distribution(found) is kind
