"""Checkpoints: what is kept, what is refused, what is noticed."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pgnn
import pgnn.io.checkpoint as checkpoint
from pgnn.errors import DataError, ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.heads import BernoulliHead, NormalHead
from pgnn.factors.conditionals.neural import ByName, Neural
from pgnn.factors.conditionals.noisy_max import NoisyMax
from pgnn.factors.conditionals.noisy_or import NoisyOr
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


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder") as caught:
        save(neural_network(), tmp_path / "nowhere" / "m")
    assert caught.value.filename == str(tmp_path / "nowhere")


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
    first = r"pass modules=\{'image': ...\} with its torch module"
    with pytest.raises(DataError, match=first + "; 'size' must be given too$"):
        load(tmp_path / "m")
    with pytest.raises(DataError, match=r"pass modules=\{'size': ...\} with its torch module$"):
        load(tmp_path / "m", modules={"image": given["image"]})
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


DATA = Path(__file__).parent / "data"


def edited(source: Path, change: Any, path: Path) -> Path:
    """A file with another description and the right checksum."""
    tensors = load_file(source)
    structure, _ = checkpoint._read(source)
    text = json.dumps(change(structure))
    metadata = {"pgnn": text, "crc32": checkpoint._checksum(text, tensors)}
    save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 99}, "expected version 2 of the format, got 99"),
        ({"class": "Oracle"}, "unknown class 'Oracle'"),
        ({"edges": [[0, 99]]}, "IndexError"),
        ({"edges": [[0, 1], [1, 0]]}, "cycle"),
        ({"variables": 3}, "TypeError"),
        ({"conditionals": [{}]}, "KeyError"),
    ],
)
def test_edited_descriptions(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = edited(DATA / "cut.pgnn", lambda s: s | change, tmp_path / "edited")
    with pytest.raises(DataError, match=words):
        load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class": "Oracle"}, "unknown class 'Oracle'"),
        ({"class": "away:Oracle"}, r"unknown class 'Oracle'; pass it in classes=\[Oracle\]"),
        ({"class": "Tabular"}, "Tabular has no argument"),
        ({"class": "NormalHead", "settings": {}}, "expected a model, got NormalHead"),
        ({"settings": {}}, "missing a required argument"),
        ({"settings": {"graph": [["a", "b"], ["b", "a"]], "conditionals": {"map": []}}}, "cycle"),
        ({"settings": {"graph": {"variable": 99}}}, "IndexError"),
        ({"settings": {"graph": {"object": {"class": "os:system"}}}}, "unknown kind 'system'"),
        ({"number": "0"}, "needs other tensors than the file has"),
    ],
)
def test_edited_models(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    small(tmp_path / "m")
    path = edited(tmp_path / "m", lambda s: s | {"model": s["model"] | change}, tmp_path / "edited")
    with pytest.raises(DataError, match=words):
        load(path)


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


# --- what else is kept ----------------------------------------------------------------------------


def test_history_is_kept(tmp_path: Path) -> None:
    rows = {"a": [0, 1, 1, 0], "b": [1, 1, 0, 0]}
    model = BayesianNetwork([("a", "b")], states={"a": 2, "b": 2}).fit(
        rows, learner=pgnn.Gradient(), progress=False
    )
    model.history["odd"] = math.nan
    model.history["mine"] = object()
    save(model, tmp_path / "m")
    again = load(tmp_path / "m").history
    assert type(again) is type(model.history)
    assert math.isnan(again.pop("odd"))
    assert "mine" not in again
    model.history.pop("odd"), model.history.pop("mine")
    assert dict(again) == dict(model.history)
    assert all(isinstance(trace, list) for trace in again["trace"].values())
    assert again["trace"]


def test_intervals_are_labels(tmp_path: Path) -> None:
    ages = pd.cut(pd.Series([1, 20, 70]), [0, 18, 65, math.inf])
    model = BayesianNetwork([], states={"age": list(ages.cat.categories)}).fit({"age": ages})
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.variables == model.variables
    assert float(again.log_prob({"age": [pd.Interval(0, 18)]}).detach()) == pytest.approx(
        math.log(1 / 3)
    )


def test_a_shared_conditional_stays_shared(tmp_path: Path) -> None:
    state, before = Variable("z", 2), Variable(("z", -1), 2)
    moves = Tabular(state, [before], [[0.9, 0.1], [0.2, 0.8]])
    observed = Variable("x", 2)
    emits = Tabular(observed, [state])
    model = pgnn.DynamicBayesianNetwork(
        [(("z", -1), "z"), ("z", "x")],
        {"z": moves, "x": emits},
        initial={"z": Tabular(state), "x": emits},
    )
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.initial["x"] is again.conditionals["x"]
    assert again.num_free_parameters == model.num_free_parameters


def test_torch_distributions_are_kept(tmp_path: Path) -> None:
    s, x = Variable("s", 2), Variable("x")
    wait = pgnn.Distributional(
        x, [s], torch.distributions.Gamma, concentration=[1.0, 2.0], rate=[1.0, 0.5]
    )
    model = network(Tabular(s), wait)
    save(model, tmp_path / "m")
    assert_same(load(tmp_path / "m"), model)
    own = pgnn.Distributional(
        x, [s], lambda rate: torch.distributions.Exponential(rate), rate=[1.0, 2.0]
    )
    save(network(Tabular(s), own), tmp_path / "m")
    with pytest.raises(DataError, match="with a Distributional conditional"):
        load(tmp_path / "m")


def test_columns_of_a_network_are_kept(tmp_path: Path) -> None:
    s, x = Variable("s", 3), Variable("x")
    neural = Neural(
        x, [s], nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (3, 2))), "u",
        head=NormalHead(()), columns="s",
    )  # fmt: skip
    model = network(Tabular(s), neural)
    save(model, tmp_path / "m")
    fresh = nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (3, 2)))
    assert load(tmp_path / "m", {"x": fresh}).conditionals["x"].columns == s


# --- what a person does wrong ---------------------------------------------------------------------


def test_deep_nesting_is_told(tmp_path: Path) -> None:
    small(tmp_path / "m")
    tensors = load_file(tmp_path / "m")
    structure, _ = checkpoint._read(tmp_path / "m")
    for depth in (900, 10**5):
        deep = "[" * depth + "]" * depth
        text = json.dumps(structure).replace('"map": []', f'"map": {deep}')
        metadata = {"pgnn": text, "crc32": checkpoint._checksum(text, tensors)}
        save_file(tensors, tmp_path / "deep", metadata)
        with pytest.raises(DataError, match=r"deep: expected a description"):
            load(tmp_path / "deep")


@pytest.mark.parametrize("wrong", [None, 3, ["m"]])
def test_paths_that_are_none(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the path of a file, got"):
        load(wrong)
    with pytest.raises(DataError, match="expected the path of a file, got"):
        save(network(Tabular(Variable("a", 2))), wrong)
    with pytest.raises(DataError, match="got 3 instead of a model"):
        save(3, tmp_path / "m")
    with pytest.raises(DataError, match="classes= takes classes"):
        load(tmp_path / "m", classes=[wrong])


A, B = Variable("a", 2), Variable("b", 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tabular(B, [A]),
        lambda: NoisyOr(B, [A], [0.5]),
        lambda: Sigmoid(B, [A]),
        lambda: Softmax(B, [A]),
        lambda: pgnn.Gaussian(Variable("b"), [A]),
        lambda: pgnn.Poisson(Variable("b"), [A]),
    ],
)
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_bad_numbers_of_conditionals(make: Any, number: float, tmp_path: Path) -> None:
    model = network(Tabular(A, (), [0.5, 0.5]), make())
    save(model, tmp_path / "good")
    with torch.no_grad():
        next(model.conditionals["b"].parameters()).view(-1)[0] = number
    with pytest.raises(ModelError, match=f"conditional of 'b' has {number} among its numbers"):
        save(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    tensors, (structure, _) = load_file(tmp_path / "good"), checkpoint._read(tmp_path / "good")
    held = next(c for c in structure["model"]["settings"]["conditionals"]["map"] if c[0] == "b")
    key = next(k for k in tensors if k.startswith(held[1]["object"]["number"] + "."))
    tensors[key].view(-1)[0] = number
    text = json.dumps(structure)
    save_file(tensors, tmp_path / "m", {"pgnn": text, "crc32": checkpoint._checksum(text, tensors)})
    with pytest.raises(DataError, match="'b'"):
        load(tmp_path / "m")


def test_bad_numbers_of_potentials(tmp_path: Path) -> None:
    model = MarkovRandomField([pgnn.Ising([A, B], 0.5)])
    with torch.no_grad():
        model.potentials[0].coupling.fill_(-math.inf)
    with pytest.raises(ModelError, match=r"potential of \('a', 'b'\) has -inf among its numbers"):
        model.save(tmp_path / "m")
    save(MarkovRandomField([pgnn.Potts([A, B], -math.inf)]), tmp_path / "m")
    assert float(load(tmp_path / "m").potentials[0].coupling) == -math.inf


# --- files of before ------------------------------------------------------------------------------

ONES = torch.ones(3, 2)
IMAGE = torch.tensor([[0.0, 1, 1, 0], [1, 1, 1, 1]])
ROWS: dict[str, Any] = {
    "discrete": {"a": [0, 1, 1], "b": [1, 0, 1], "c": [0, 0, 1], "d": [1, 1, 0],
                 "level": [0, 2, 1], (3, "x"): pgnn.codes([0, 1, 3])},
    "neural": {"digit": [0, 3], "image": IMAGE, "size": torch.tensor([0.5, -1.0])},
    "factors": {"A": ["x", "y"], 7: [0, 2]},
    "potentials": {"p": torch.tensor([[0, 1, 0, 1] * 3, [1] * 12]).reshape(2, 3, 4),
                   "col": torch.tensor([[[0, 1], [2, 2]], [[1, 1], [1, 1]]]),
                   "A": ["x", "y"], 7: [1, 0], "C": ["x", "x"]},
    "conditionals": {"a": [0, 1], "d": [1, 1]},
    "neural_field": {"A": ["x", "y"], "C": ["y", "y"]},
    "hmm": {"roll": [[0, 1, 1], [1, 0, 0]], "y": torch.tensor([[0.1, 0.2, 2.0], [1.0, 2.0, 0.0]])},
    "hsmm": {"seen": [[0, 0, 1, 1], [1, 1, 0, 0]]},
    "dbn": {"umbrella": [["yes", "yes"], ["no", "yes"]]},
}  # fmt: skip
INPUTS: dict[str, Any] = {
    "discrete": {"light": ONES, "image": torch.ones(3, 3, 3)},
    "neural_field": {"u": torch.ones(2, 3)},
}
MODULES: dict[str, Any] = {
    "neural": lambda: {"image": nn.Linear(4, 4), "size": nn.Linear(4, 1)},
    "neural_field": lambda: {
        "A": nn.Linear(3, 2),
        ("A", "C"): nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2))),
    },
}


def emissions() -> dict[str, Any]:
    """The draws from which the expected densities of the old file were made."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"g": (), "tied": (3,), "sph": (3,), "mix": (3,), "u": (2,)}
    order = ["g", "tied", "sph", "mix", "u", "u", "lin", "count", "flag"]
    values: dict[str, Any] = {"s": [0, 1, 0, 1, 1]}
    for name in order:
        draw = torch.rand(5, *shapes.get(name, (3,)), generator=generator, dtype=torch.float64)
        values[name] = draw.round() if name in ("count", "flag") else draw
    return values


@pytest.mark.parametrize("name", ["emissions", *ROWS])
def test_files_of_version_1(name: str, tmp_path: Path) -> None:
    expected = json.loads((DATA / "expected.json").read_text())[name]
    make = MODULES.get(name, dict)
    with torch.random.fork_rng():
        model = load(DATA / f"{name}.pgnn", make())
        save(model, tmp_path / "again")
        again = load(tmp_path / "again", make())
    rows = ROWS[name] if name in ROWS else emissions()
    for one in (model, again):
        found = one.log_prob(rows, inputs=INPUTS.get(name)).detach().double()
        torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)
    assert_same_numbers(model, again)


def test_a_parameter_without_numbers(tmp_path: Path) -> None:
    """A node without parents has a weight of no entries, whose memory has no layout."""
    child = Variable("a", 2)
    model = BayesianNetwork([], {"a": Sigmoid(child, [], weight=[], bias=0.3)}, states={"a": 2})
    save(model, tmp_path / "model.pgnn")
    answer = load(tmp_path / "model.pgnn").query("a")["a"].probs
    torch.testing.assert_close(answer, model.query("a")["a"].probs, rtol=0, atol=0)
