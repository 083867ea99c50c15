"""Checkpoints: what is kept, what is refused, what is noticed."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pgnn.io.checkpoint as checkpoint
from pgnn.errors import DataError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.neural import BernoulliHead, ByName, Neural, NormalHead
from pgnn.factors.conditionals.noisy_or import NoisyMax, NoisyOr
from pgnn.factors.conditionals.sigmoid import Sigmoid
from pgnn.factors.conditionals.softmax import Softmax
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.io import load, read_bif, save
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField


def network(*conditionals: Conditional) -> BayesianNetwork:
    edges = [(v.name, c.child.name) for c in conditionals for v in c.parents]
    return BayesianNetwork(edges, {c.child.name: c for c in conditionals})


def assert_same(a: BayesianNetwork, b: BayesianNetwork) -> None:
    assert list(a.variables.items()) == list(b.variables.items())
    assert list(map(type, a.variables)) == list(map(type, b.variables))
    assert set(a.graph.edges) == set(b.graph.edges)
    assert list(a.conditionals) == list(b.conditionals)
    for name, x in a.conditionals.items():
        y = b.conditionals[name]
        assert type(x) is type(y)
        assert x.scope == y.scope
        assert x.inputs == y.inputs
        assert_same_numbers(x, y)


def assert_same_numbers(x: nn.Module, y: nn.Module) -> None:
    assert list(x.state_dict()) == list(y.state_dict())
    for key, tensor in x.state_dict().items():
        other = y.state_dict()[key]
        assert tensor.dtype == other.dtype
        assert tensor.equal(other)
    flags = [p.requires_grad for p in x.parameters()]
    assert flags == [p.requires_grad for p in y.parameters()]


def test_shared_network(data_dir: Path, tmp_path: Path) -> None:
    model = read_bif(data_dir / "bn/munin1.bif")
    save(model, tmp_path / "munin1.safetensors")
    assert_same(load(tmp_path / "munin1.safetensors"), model)
    assert [p.name for p in tmp_path.iterdir()] == ["munin1.safetensors"]


def test_typed_labels_and_names(tmp_path: Path) -> None:
    mixed = Variable(3, ["3", 4, 4.5, None, True, math.inf, (1, "a")])
    flag = Variable((3, "x", False), [False, True])
    plain = Variable("3", 2)
    model = network(Tabular(mixed), Tabular(flag, [mixed]), Tabular(plain, [flag]))
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    assert_same(again, model)
    labels = again.variables[3].states
    assert list(map(type, labels)) == [str, int, float, type(None), bool, float, tuple]


def test_numpy_labels_become_plain_numbers(tmp_path: Path) -> None:
    model = network(Tabular(Variable("a", np.array([3, 5]))))
    save(model, tmp_path / "m")
    assert load(tmp_path / "m").variables["a"].states == (3, 5)


def test_other_labels_are_refused(tmp_path: Path) -> None:
    model = network(Tabular(Variable("a", [frozenset([1]), frozenset([2])])))
    with pytest.raises(DataError, match="of type frozenset; rename it"):
        save(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_every_kind(tmp_path: Path) -> None:
    a, b, c, d = (Variable(name, ["no", "yes"]) for name in "abcd")
    level = Variable("level", 3)
    conditionals = [
        Tabular(a, (), [0.3, 0.7]),
        Tabular(b, [a]),
        Sigmoid(c, [a, b], weight=[1.0, -2.0], bias=0.5),
        NoisyOr(d, [a, c], strengths=[0.9, 0.2], leak=None),
        NoisyMax(level, [a, d], leak=[0.8, 0.1, 0.1]),
        Softmax(Variable("shade", 4), [level], inputs={"light": 2, "image": (3, 3)}),
    ]
    model = network(*conditionals)
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):
            if parameter.requires_grad:
                parameter.copy_(torch.linspace(-1, k, parameter.numel()).reshape(parameter.shape))
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    assert_same(again, model)
    light = {"light": torch.ones(1, 2), "image": torch.ones(1, 3, 3)}
    for name, conditional in model.conditionals.items():
        inputs = light if conditional.inputs else None
        ours = conditional.factor(inputs=inputs)
        theirs = again.conditionals[name].factor(inputs=inputs)
        assert ours.log_values.equal(theirs.log_values)


def test_dtype_is_kept(tmp_path: Path) -> None:
    model = network(Tabular(Variable("a", 3))).float()
    save(model, tmp_path / "m")
    assert_same(load(tmp_path / "m"), model)
    assert next(load(tmp_path / "m").parameters()).dtype == torch.float32


def neural_network() -> BayesianNetwork:
    digit, image = Variable("digit", 10), Variable("image", shape=(4,))
    size = Variable("size")
    torch.manual_seed(0)
    return network(
        Tabular(digit),
        Neural(image, [digit], nn.Linear(10, 4), head=BernoulliHead((4,))),
        Neural(size, [digit], nn.Linear(10, 1), head=NormalHead((), 0.5)),
    )


def test_neural_needs_its_module(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        model = neural_network()
        save(model, tmp_path / "m")
        given = {"image": nn.Linear(10, 4), "size": nn.Linear(10, 1)}
    before = given["image"].weight.clone()
    again = load(tmp_path / "m", modules=given)
    assert_same(again, model)
    assert again.conditionals["image"].head.shape == (4,)
    assert again.conditionals["size"].head.scale == 0.5
    assert given["image"].weight.equal(before)
    with pytest.raises(DataError, match=r"pass modules=\{'image': ...\} with its torch module"):
        load(tmp_path / "m")
    with pytest.raises(DataError, match="must have shape"):
        load(tmp_path / "m", modules=given | {"size": nn.Linear(10, 2)})
    with pytest.raises(DataError, match="needs other tensors than the file has"):
        load(tmp_path / "m", modules=given | {"size": nn.Sequential(nn.Linear(10, 1))})
    with pytest.raises(DataError, match="modules= has 'sise'"):
        load(tmp_path / "m", modules=given | {"sise": nn.Linear(10, 1)})


class Halving(Conditional):
    """A conditional of the user's own."""

    def __init__(self, child: Variable) -> None:
        super().__init__(child)
        self.logit = nn.Parameter(torch.zeros(()))

    def distribution(self, parents: Any, inputs: Any = None) -> torch.distributions.Categorical:
        logits = torch.stack([-self.logit, self.logit])
        return torch.distributions.Categorical(logits=logits)


def test_own_code_comes_from_the_caller(tmp_path: Path) -> None:
    a, b = Variable("a", 2), Variable("b", 2)

    def own_features(variables: Any, values: Any) -> torch.Tensor:
        return values["a"].unsqueeze(-1).double()

    with torch.random.fork_rng():
        neural = Neural(b, [a], nn.Linear(1, 2).double(), features=own_features)
        model = network(Halving(a), neural)
        model.conditionals["a"].logit.data.fill_(0.25)
        save(model, tmp_path / "m")
        fresh = Neural(b, [a], nn.Linear(1, 2), features=own_features)
        bare = nn.Linear(1, 2)
    again = load(tmp_path / "m", modules={"a": Halving(a), "b": fresh})
    assert_same(again, model)
    with pytest.raises(DataError, match="expected a Neural conditional, got a bare module"):
        load(tmp_path / "m", modules={"a": Halving(a), "b": bare})
    with pytest.raises(DataError, match=r"modules\['a'\]: expected a Halving"):
        load(tmp_path / "m", modules={"a": Tabular(a), "b": fresh})
    with pytest.raises(DataError, match="has a Halving conditional, whose code is not in the file"):
        load(tmp_path / "m")


def test_features_are_kept(tmp_path: Path) -> None:
    a, b = Variable("a", 2), Variable("b", 2)
    model = network(Tabular(a), Neural(b, [a], nn.Identity(), features=ByName()))
    save(model, tmp_path / "m")
    again = load(tmp_path / "m", modules={"b": nn.Identity()})
    assert isinstance(again.conditionals["b"].features, ByName)


def test_factors(tmp_path: Path) -> None:
    a, b = Variable("a", ["x", "y"]), Variable(7, 3)
    table = torch.tensor([[0.0, -math.inf, -800.0], [1.5, 2.5, 1e-300]]).double()
    model = MarkovRandomField([Factor([a, b], table), Factor([b], torch.ones(3))])
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    assert dict(again.variables) == dict(model.variables)
    for x, y in zip(model.factors(), again.factors(), strict=True):
        assert x.variables == y.variables
        assert x.log_values.dtype == y.log_values.dtype
        assert x.log_values.equal(y.log_values)


def small(path: Path) -> bytes:
    a, b = Variable("a", 2), Variable("b", ["no", "yes"])
    save(network(Tabular(a, (), [0.25, 0.75]), Tabular(b, [a])), path)
    return path.read_bytes()


def test_truncated_and_damaged_files(tmp_path: Path) -> None:
    data = small(tmp_path / "whole")
    for stop in range(0, len(data), 11):
        (tmp_path / "cut").write_bytes(data[:stop])
        with pytest.raises(DataError):
            load(tmp_path / "cut")
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 150).tolist():
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(0, 8))
        (tmp_path / "bad").write_bytes(bytes(changed))
        with pytest.raises(DataError):
            load(tmp_path / "bad")
    (tmp_path / "long").write_bytes(data + b"x")
    with pytest.raises(DataError):
        load(tmp_path / "long")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 99}, "expected version 1 of the format, got 99"),
        ({"class": "Oracle"}, "unknown class 'Oracle'"),
        ({"edges": [[0, 9]]}, "IndexError"),
        ({"edges": [[0, 1], [1, 0]]}, "cycle"),
        ({"variables": 3}, "TypeError"),
        ({"conditionals": [{}]}, "KeyError"),
    ],
)
def test_edited_descriptions(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    small(tmp_path / "m")
    tensors = load_file(tmp_path / "m")
    structure, _ = checkpoint._read(tmp_path / "m")
    text = json.dumps(structure | change)
    metadata = {"pgnn": text, "crc32": checkpoint._checksum(text, tensors)}
    save_file(tensors, tmp_path / "edited", metadata)
    with pytest.raises(DataError, match=words):
        load(tmp_path / "edited")


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "m")
    with pytest.raises(DataError, match="expected a checkpoint of pgnn, got other safetensors"):
        load(tmp_path / "m")


def test_an_older_file_survives_a_failed_save(tmp_path: Path) -> None:
    data = small(tmp_path / "m")
    bad = network(Tabular(Variable("a", [b"bytes", b"more"])))
    with pytest.raises(DataError, match="bytes"):
        save(bad, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == data
