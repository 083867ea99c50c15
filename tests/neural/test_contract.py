"""One network of images, the same object, wherever a model takes a network."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn import neural

DIGIT, EVEN = pgnn.Variable("digit", 3), pgnn.Variable("even", 2)
IMAGE = pgnn.Variable("image", shape=(1, 8, 8))
TABLE = torch.tensor([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]]).double()


@pytest.fixture(scope="module")
def body() -> neural.Body:
    torch.manual_seed(0)
    return neural.resnet(channels=1, widths=(4, 8), depth=1).eval().double()


@pytest.fixture(scope="module")
def network(body: neural.Body) -> nn.Module:
    torch.manual_seed(1)
    return neural.Readout(body, 3).double()


@pytest.fixture(scope="module")
def images() -> Tensor:
    torch.manual_seed(2)
    return (torch.rand(5, 1, 8, 8) < 0.5).double()


@pytest.fixture(scope="module")
def posterior(network: nn.Module, images: Tensor) -> Tensor:
    """p(digit | image, even = 1) by Bayes' rule."""
    joint = network(images).softmax(-1).detach() * TABLE[:, 1]
    return joint / joint.sum(-1, keepdim=True)


def test_in_a_bayesian_network(network: nn.Module, images: Tensor, posterior: Tensor) -> None:
    told = pgnn.Neural(DIGIT, [], network, inputs=["image"])
    model = pgnn.BayesianNetwork([("digit", "even")], [told, pgnn.Tabular(EVEN, [DIGIT], TABLE)])
    answer = model.query("digit", {"even": 1}, inputs={"image": images})["digit"].probs
    torch.testing.assert_close(answer, posterior)


def test_of_an_observed_parent(network: nn.Module, images: Tensor, posterior: Tensor) -> None:
    told = pgnn.Neural(DIGIT, [IMAGE], network)
    even = pgnn.Tabular(EVEN, [DIGIT], TABLE)
    model = pgnn.BayesianNetwork([("image", "digit"), ("digit", "even")], [told, even, _pixels()])
    observed, one = {"even": 1, "image": images}, {"one": torch.ones(5, 1).double()}
    answer = model.query("digit", observed, inputs=one)["digit"].probs
    torch.testing.assert_close(answer, posterior)


def _pixels() -> pgnn.Neural:
    """Pixels of any picture."""
    nothing = nn.Linear(1, 64).double()
    return pgnn.Neural(IMAGE, [], nothing, inputs=["one"], head=pgnn.BernoulliHead((1, 8, 8)))


def test_in_a_field(network: nn.Module, images: Tensor, posterior: Tensor) -> None:
    scores = pgnn.NeuralPotential([DIGIT], network, inputs=["image"])
    field = pgnn.MarkovRandomField([scores, pgnn.TabularPotential([DIGIT, EVEN], TABLE)])
    answer = field.query("digit", {"even": 1}, inputs={"image": images})["digit"].probs
    torch.testing.assert_close(answer, posterior)


def test_in_a_program(network: nn.Module, images: Tensor, posterior: Tensor) -> None:
    def program() -> None:
        with pyro.plate("rows", len(images)):
            digit = pyro.sample("digit", dist.Categorical(logits=network(images).detach()))
            pyro.sample("even", dist.Bernoulli(TABLE[digit, 1]))

    answer = pgnn.Program(program).query("digit", {"even": torch.ones(5)})["digit"].probs
    torch.testing.assert_close(answer, posterior)


def test_in_a_chain_of_labels(network: nn.Module, images: Tensor) -> None:
    """Without transitions each label is the network's own."""
    scores = pgnn.NeuralScores(_EachStep(network), "x")
    field = pgnn.ConditionalRandomField(["a", "b", "c"], scores, torch.zeros(3, 3).double())
    answer = field.smooth(inputs={"x": [images]})["label"].probs
    torch.testing.assert_close(answer.reshape(5, 3), network(images).softmax(-1).detach())


class _EachStep(nn.Module):
    """A network of images along sequences of them, ``(B, T, 1, 8, 8)``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        each: Tensor = self.network(x.flatten(0, 1))
        return each.unflatten(0, x.shape[:2])


def test_what_is_observed_and_covariates_in_a_chain_of_states(body: neural.Body) -> None:
    """Pictures that states emit, and symbols that states and pictures tell: both sum to one."""
    torch.manual_seed(3)
    painter = nn.Linear(2, 64).double()
    state = pgnn.Variable("state", 2)
    emission = pgnn.Neural(IMAGE, [state], painter, head=pgnn.BernoulliHead((1, 8, 8)))
    symbol = pgnn.Variable("symbol", 2)
    columns = nn.Sequential(body, nn.Linear(8, 4), nn.Unflatten(1, (2, 2))).double()
    by_picture = pgnn.Neural(symbol, [state], columns, inputs=["picture"], columns="state")
    sequence = (torch.rand(1, 2, 1, 8, 8) < 0.5).double()
    start, step = torch.tensor([0.3, 0.7]).double(), torch.tensor([[0.9, 0.1], [0.4, 0.6]]).double()
    fixed = {"initial": start.numpy(), "transitions": step.numpy()}

    painted = pgnn.HiddenMarkovModel(2, {"image": emission}, **fixed)
    each = emission.factor({"image": sequence[0]}).log_values.exp().detach()  # (T, state)
    expected = ((start * each[0]) @ step * each[1]).sum().log()
    own = painted.log_prob({"image": sequence}).detach()
    torch.testing.assert_close(own, expected[None])

    told = pgnn.HiddenMarkovModel(2, {"symbol": by_picture}, **fixed)
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    logs = told.log_prob({"symbol": pairs}, inputs={"picture": sequence.expand(4, -1, -1, -1, -1)})
    torch.testing.assert_close(logs.detach().exp().sum(), torch.tensor(1.0).double())


def test_in_a_guide(body: neural.Body, images: Tensor) -> None:
    torch.manual_seed(4)
    z = pgnn.Variable("z", shape=(2,))
    recognition = pgnn.Neural(
        z, [IMAGE], neural.Readout(body, 4).double(), head=pgnn.NormalHead((2,))
    )
    painter = pgnn.Neural(IMAGE, [z], nn.Linear(2, 64).double(), head=pgnn.BernoulliHead((1, 8, 8)))
    prior = pgnn.Gaussian(z, [], [0.0, 0.0], [1.0, 1.0], pgnn.Diagonal())
    model = pgnn.AmortisedNetwork(
        [("z", "image")], {"z": prior, "image": painter}, recognition=[recognition]
    )
    answer = model.query("z", {"image": images})
    assert answer.kind == "lower bound"
    assert answer["z"].mean.shape == (5, 2)


def test_with_a_sparse_buffer() -> None:
    torch.manual_seed(5)
    network = _Mixed(torch.eye(4))
    model = pgnn.BayesianNetwork([], [pgnn.Neural(DIGIT, [], network, inputs=["x"])])
    x = torch.randn(5, 4)
    answer = model.query("digit", inputs={"x": x})["digit"].probs
    torch.testing.assert_close(answer, network(x).softmax(-1))


class _Mixed(nn.Module):
    """A linear layer behind a sparse matrix."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        where = matrix.nonzero().T
        values = matrix[tuple(where)]
        sparse = torch.sparse_coo_tensor(where, values, matrix.shape, check_invariants=True)
        self.register_buffer("matrix", sparse)
        self.linear = nn.Linear(len(matrix), 3)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.linear((self.matrix @ x.T).T)
        return mixed
