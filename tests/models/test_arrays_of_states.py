"""Arrays of states that a network predicts; the twin has a variable for each element."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily

import pgnn
from pgnn import (
    EM,
    BayesianNetwork,
    BernoulliHead,
    Gradient,
    Neural,
    Tabular,
    Unsupported,
    Variable,
)

CAUSE, DIGITS = Variable("cause", 3), Variable("digits", 4, shape=(2, 3))
PRIOR = [0.2, 0.3, 0.5]


class OneElement(nn.Module):
    """The logits of one element."""

    def __init__(self, network: nn.Module, index: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.index = network, index

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(rows, K)``."""
        logits: Tensor = self.network(x)[:, self.index[0], self.index[1]]
        return logits


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 24), nn.Unflatten(1, (2, 3, 4))).double()


def model(net: nn.Module) -> BayesianNetwork:
    digits = Neural(DIGITS, [CAUSE], net, inputs=["u"])
    return BayesianNetwork([("cause", "digits")], [Tabular(CAUSE, [], PRIOR), digits])


def twin(net: nn.Module) -> BayesianNetwork:
    singles = [Variable(f"{i}{j}", 4) for i in range(2) for j in range(3)]
    pieces = [
        Neural(v, [CAUSE], OneElement(net, divmod(k, 3)), inputs=["u"])
        for k, v in enumerate(singles)
    ]
    edges = [("cause", v.name) for v in singles]
    return BayesianNetwork(edges, [Tabular(CAUSE, [], PRIOR), *pieces])


def rows(number: int = 6) -> tuple[Tensor, Tensor]:
    """States, some of which are missing, and inputs."""
    generator = torch.Generator().manual_seed(1)
    states = torch.randint(-1, 4, (number, 2, 3), generator=generator)
    return states, torch.randn(number, 2, generator=generator).double()


def apart(states: Tensor) -> dict[str, Tensor]:
    return {f"{i}{j}": states[:, i, j] for i in range(2) for j in range(3)}


def test_answers_are_those_of_single_variables() -> None:
    net = network()
    states, inputs = rows()
    known, covariates = {"digits": states}, {"u": inputs}
    answer = model(net).query(None, known, inputs=covariates)
    expected = twin(net).query(None, apart(states), inputs=covariates)
    torch.testing.assert_close(answer["cause"].probs, expected["cause"].probs)
    torch.testing.assert_close(answer.log_evidence, expected.log_evidence)
    one = answer[("digits", 1, 2)].probs
    torch.testing.assert_close(one, answer["digits"].probs[:, 1, 2])
    torch.testing.assert_close(one, expected["12"].probs)
    best = model(net).most_probable(known, inputs=covariates)
    twins_best = twin(net).most_probable(apart(states), inputs=covariates)
    assert best["cause"].tolist() == twins_best["cause"].tolist()
    assert best["digits"][:, 0, 1].tolist() == twins_best["01"].tolist()


def test_log_prob_of_complete_rows() -> None:
    net = network()
    states, inputs = rows()
    states = states.clamp(min=0)
    data = {"digits": states, "cause": torch.arange(6) % 3}
    found = model(net).log_prob(data, inputs={"u": inputs})
    cause = nn.functional.one_hot(data["cause"], 3).double()
    logs = net(torch.cat([cause, inputs], 1)).log_softmax(-1)
    expected = (
        logs.gather(-1, states.unsqueeze(-1)).sum((1, 2, 3))
        + cause @ torch.tensor(PRIOR, dtype=torch.float64).log()
    )
    torch.testing.assert_close(found, expected)


def test_draws_have_the_marginals() -> None:
    """Each share of 4,000 draws has a standard error of at most 0.008."""
    asked = model(network())
    inputs = {"u": rows(1)[1]}
    drawn = asked.sample(4000, inputs=inputs, seed=0)["digits"]
    shares = torch.stack([(drawn == k).double().mean((0, 1)) for k in range(4)], -1)
    exact = asked.query("digits", inputs=inputs)["digits"].probs[0]
    assert (shares - exact).abs().max() < 5 * 0.008


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")  # a few iterations are compared
@pytest.mark.parametrize("learner", [EM(max_iterations=3), Gradient(max_iterations=3)])
def test_fits_are_those_of_single_variables(learner: pgnn.Learner) -> None:
    states, inputs = rows(40)
    ours, apart_net = network(), network()
    first = model(ours).fit(
        {"digits": states}, inputs={"u": inputs}, learner=learner, seed=0, progress=False
    )
    second = twin(apart_net).fit(
        apart(states), inputs={"u": inputs}, learner=learner, seed=0, progress=False
    )
    found, expected = first.history["log_likelihood"], second.history["log_likelihood"]
    assert found == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(ours[0].weight, apart_net[0].weight, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_zeros_and_ones_by_their_logits() -> None:
    bits = Variable("bits", 2, shape=(4,))
    net = nn.Linear(3, 4).double()
    asked = BayesianNetwork([], [Neural(bits, [], net, inputs=["u"], head=BernoulliHead((4,)))])
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    answer = asked.query("bits", inputs={"u": inputs})["bits"].probs
    torch.testing.assert_close(answer[..., 1], net(inputs).sigmoid())
    states = torch.tensor([[1, 0, -1, 1]] * 5)
    found = asked.log_prob({"bits": states}, inputs={"u": inputs})
    signs = torch.tensor([1.0, -1.0, 0.0, 1.0]).double()
    logs = nn.functional.logsigmoid(signs * net(inputs))
    torch.testing.assert_close(found, logs[:, [0, 1, 3]].sum(1))
    before = found.sum()
    data = {"bits": states.clamp(min=0)}
    asked.fit(data, inputs={"u": inputs}, learner=Gradient(max_iterations=5), progress=False)
    assert asked.log_prob({"bits": states}, inputs={"u": inputs}).sum() > before


def test_no_rows() -> None:
    asked = model(network())
    none = {"digits": torch.zeros(0, 2, 3, dtype=torch.int64)}
    assert asked.log_prob(none, inputs={"u": torch.zeros(0, 2).double()}).shape == (0,)


class Dependent(nn.Module):
    """Elements that are equal with some probability."""

    def forward(self, x: Tensor) -> MixtureSameFamily:
        logits = torch.eye(4).log().nan_to_num(neginf=-9.0).expand(len(x), 6, 4, 4)
        parts = Independent(Categorical(logits=logits.movedim(1, 2).reshape(len(x), 4, 2, 3, 4)), 2)
        return MixtureSameFamily(Categorical(logits=torch.zeros(len(x), 4)), parts)


def test_elements_that_depend_on_each_other_have_no_tables() -> None:
    asked = BayesianNetwork([], [Neural(DIGITS, [], Dependent(), inputs=["u"])])
    with pytest.raises(Unsupported, match=r"'digits' are not independent.*MixtureSameFamily"):
        asked.query("digits", inputs={"u": torch.zeros(2, 1)})


def test_too_many_cells() -> None:
    big = Variable("big", 2, shape=(10_000, 10_000))
    asked = BayesianNetwork([], [Neural(big, [], nn.Identity(), inputs=["u"])])
    with pytest.raises(pgnn.PgnnError, match="'big'"):
        asked.query(("big", 0, 0), inputs={"u": torch.zeros(2, 1)})


def test_where_arrays_of_states_are_refused() -> None:
    """As parents, over time, and with heads of other children."""
    flag, u = Variable("flag", 2), ["u"]
    reads = Neural(flag, [DIGITS], nn.Linear(24, 2))
    with pytest.raises(pgnn.ModelError, match=r"'digits' is an array.*'flag' cannot depend"):
        BayesianNetwork([("digits", "flag")], [Neural(DIGITS, [], network(), inputs=u), reads])
    emitted = Neural(DIGITS, [Variable("state", 2)], nn.Linear(2, 24))
    with pytest.raises(pgnn.ModelError, match=r"'digits' is an array.*over time"):
        pgnn.HiddenMarkovModel(2, {"digits": emitted})
    with pytest.raises(pgnn.ModelError, match=r"'digits' has 4 states.*BernoulliHead"):
        Neural(DIGITS, [CAUSE], network(), head=BernoulliHead((2, 3)))
    with pytest.raises(pgnn.ModelError, match=r"shape \(3,\).*shape \(4,\)"):
        Neural(Variable("bits", 2, (3,)), [CAUSE], network(), head=BernoulliHead((4,)))
    with pytest.raises(pgnn.ModelError, match=r"shape \(3,\).*shape \(4,\)"):
        Neural(Variable("x", None, (3,)), [CAUSE], network(), head=pgnn.NormalHead((4,)))
