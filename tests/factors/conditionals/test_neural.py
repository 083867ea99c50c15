"""Networks as conditionals: features, heads, dtypes and what goes wrong."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, LogNormal, Normal

from pgnn.errors import EvidenceError, ModelError
from pgnn.factors import BernoulliHead, ByName, Concatenate, Neural, NormalHead, Tabular, Variable

DIGIT = Variable("digit", 10)
IMAGE = Variable("image", shape=(1, 28, 28))
STYLE = Variable("style", shape=(2,))
SIZE = Variable("size")


class Recorder(nn.Module):
    """Remembers what it was called with and answers with zeros."""

    def __init__(self, num_outputs: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(num_outputs, dtype=dtype))
        self.observed: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        self.observed.append(features)
        return self.zero.expand(len(features), -1)


def test_features_are_one_hot_then_flat_then_inputs() -> None:
    net = Recorder(10)
    p = Neural(DIGIT, [Variable("t", 3), STYLE], net, inputs=["u"])
    t, style = torch.tensor([2, 0]), torch.tensor([[0.5, 1.5], [2.5, 3.5]], dtype=torch.float64)
    p.distribution({"t": t, "style": style}, {"u": torch.tensor([[7.0], [8.0]])})
    assert net.observed[0].dtype == torch.float32
    assert net.observed[0].tolist() == [[0, 0, 1, 0.5, 1.5, 7], [1, 0, 0, 2.5, 3.5, 8]]


def test_a_single_image_reaches_a_convolution() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 28), nn.Flatten(), nn.Linear(2, 10))
    images = torch.zeros(4, 1, 28, 28)
    as_input = Neural(DIGIT, [], net, inputs="pixels").factor(inputs={"pixels": images})
    as_parent = Neural(DIGIT, [IMAGE], net).factor({"image": images})
    assert as_input.log_values.shape == (4, 10)
    torch.testing.assert_close(as_input.log_values, as_parent.log_values)


def test_a_single_number_is_a_column() -> None:
    net = Recorder(10)
    Neural(DIGIT, [SIZE], net).factor({"size": torch.tensor([1.0, 2.0, 3.0])})
    Neural(DIGIT, [], net, inputs="u").factor(inputs={"u": torch.zeros(3)})
    assert net.observed[0].shape == net.observed[1].shape == (3, 1)


def test_features_by_name_keep_indices_and_shapes() -> None:
    values = {"digit": torch.tensor([3]), "image": torch.zeros(1, 1, 28, 28)}
    assert ByName()([DIGIT, IMAGE], values) == values
    assert Concatenate()([DIGIT, IMAGE], values).shape == (1, 10 + 784)


def test_one_evaluation_a_label_however_many_images() -> None:
    net = Recorder(784)
    decoder = Neural(IMAGE, [DIGIT], net, head=BernoulliHead(IMAGE.shape))
    factor = decoder.factor({"image": torch.ones(6, 1, 28, 28)})
    assert factor.log_values.shape == (6, 10)
    assert [len(x) for x in net.observed] == [10]
    torch.testing.assert_close(factor.log_values, torch.full((6, 10), -784 * 0.6931472))


def test_dtype_follows_the_module_and_promotes() -> None:
    decoder = Neural(IMAGE, [DIGIT], Recorder(784), head=NormalHead(IMAGE.shape, scale=1.0))
    factor = decoder.factor({"image": torch.zeros(3, 1, 28, 28, dtype=torch.float64)})
    assert factor.log_values.dtype == torch.float32
    posterior = factor.product(Tabular(DIGIT).factor())
    assert posterior.log_values.dtype == torch.float64
    assert decoder.double().factor({"image": torch.zeros(1, 1, 28, 28)}).values.dtype == (
        torch.float64
    )


def test_gradients_reach_the_network() -> None:
    net = nn.Linear(10, 784)
    decoder = Neural(IMAGE, [DIGIT], net, head=BernoulliHead(IMAGE.shape))
    decoder.factor({"image": torch.ones(2, 1, 28, 28)}).log_values.sum().backward()
    assert net.weight.grad is not None
    assert net.weight.grad.abs().sum() > 0


def test_normal_head_of_mean_and_scale() -> None:
    head = NormalHead((2,))
    dist = head(torch.tensor([[1.0, 2.0, 0.0, 30.0]]))
    assert isinstance(dist, Independent)
    assert dist.mean.tolist() == [[1.0, 2.0]]
    torch.testing.assert_close(dist.stddev, torch.tensor([[0.6931472, 30.0]]))
    scalar = NormalHead()(torch.zeros(4, 2))
    assert (scalar.batch_shape, scalar.event_shape) == ((4,), ())


def test_modules_may_return_distributions() -> None:
    class Positive(nn.Module):
        def forward(self, x: Tensor) -> LogNormal:
            return LogNormal(x[:, 0], 1.0)

    p = Neural(SIZE, [DIGIT], Positive())
    sizes = torch.tensor([0.5, 2.0], dtype=torch.float64)
    expected = LogNormal(torch.eye(10).double()[:, 0], 1.0).log_prob(sizes[:, None])
    torch.testing.assert_close(p.factor({"size": sizes}).log_values, expected)


def test_a_head_with_parameters_is_learnt() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(()))

        def forward(self, mean: Tensor) -> Normal:
            return Normal(mean.squeeze(-1), self.log_scale.exp())

    p = Neural(SIZE, [DIGIT], nn.Linear(10, 1), head=Scale())
    assert p.num_free_parameters == 12


def test_an_array_of_discrete_variables() -> None:
    pixels = Variable("pixels", 3, shape=(4,))
    net = nn.Sequential(nn.Linear(10, 12), nn.Unflatten(1, (4, 3)))
    observed = torch.tensor([[0, 1, 2, 0], [2, 2, 2, 2]])
    p = Neural(pixels, [DIGIT], net)
    logits = net(torch.eye(10)).log_softmax(-1)
    expected = torch.stack([logits[:, range(4), row].sum(1) for row in observed])
    torch.testing.assert_close(p.factor({"pixels": observed}).log_values, expected)


def zeros(*shape: int) -> nn.Module:
    class Zeros(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), *shape)

    return Zeros()


class PlainNormal(nn.Module):
    def forward(self, x: Tensor) -> Normal:
        return Normal(torch.zeros(len(x), 2), 1.0)


@pytest.mark.parametrize(
    ("conditional", "message"),
    [
        (
            Neural(DIGIT, [DIGIT_PARENT := Variable("d", 2)], zeros(9)),
            r"\(rows, 10\), got \(2, 9\)",
        ),
        (Neural(STYLE, [DIGIT_PARENT], zeros(2)), "must return a torch distribution, got Tensor"),
        (Neural(STYLE, [DIGIT_PARENT], PlainNormal()), r"shape \(2,\), got \(\) .*Independent"),
        (Neural(STYLE, [DIGIT_PARENT], zeros(2), head=NormalHead((2,))), "needs 4 outputs"),
        (Neural(STYLE, [DIGIT_PARENT], zeros(3), head=NormalHead((2,), 1.0)), "2 outputs a row"),
        (Neural(STYLE, [DIGIT_PARENT], zeros(3), head=BernoulliHead((2,))), "2 outputs a row"),
    ],
)
def test_wrong_networks(conditional: Neural, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        conditional.distribution({"d": torch.tensor([0, 1])})


def test_wrong_declarations() -> None:
    with pytest.raises(ModelError, match="'digit' needs a parent or an input; use Tabular"):
        Neural(DIGIT, [], nn.Identity())
    p = Neural(DIGIT, [], nn.Linear(4, 10), inputs=["pixels"])
    with pytest.raises(EvidenceError, match=r"input 'pixels'.*did you mean 'pixel'"):
        p.factor(inputs={"pixel": torch.zeros(1, 4)})


def test_images_that_are_not_binary_are_impossible() -> None:
    decoder = Neural(IMAGE, [DIGIT], Recorder(784), head=BernoulliHead(IMAGE.shape))
    assert isinstance(decoder.distribution({"digit": torch.tensor([1])}).base_dist, Bernoulli)
    grey = decoder.factor({"image": torch.full((1, 1, 28, 28), 0.5)}).log_values
    assert bool(grey.isneginf().all())


class Columns(nn.Module):
    """Outputs ``(rows, K, D)``; counts the rows that it was called with."""

    def __init__(self, inputs: int, states: int, outputs: int) -> None:
        super().__init__()
        self.net = nn.Linear(inputs, states * outputs).double()
        self.shape, self.rows = (states, outputs), 0

    def forward(self, features: Tensor) -> Tensor:
        self.rows += len(features)
        return self.net(features).reshape(-1, *self.shape)


class Picked(nn.Module):
    """The slow twin: sees the state, too, and answers with its column."""

    def __init__(self, columns: Columns, state: str) -> None:
        super().__init__()
        self.columns, self.state = columns, state

    def forward(self, given: dict[str, Tensor]) -> Tensor:
        rest = {n: x for n, x in given.items() if n != self.state}
        features = Concatenate()([MOOD], rest)
        return self.columns(features.double())[torch.arange(len(features)), given[self.state]]


MOOD, STATE, NOTE, POINT = (
    Variable("mood", 2),
    Variable("state", 3),
    Variable("note", 4),
    Variable("point", shape=(2,)),
)


@pytest.mark.parametrize("parents", [[MOOD, STATE], [STATE, MOOD], [STATE]])
@pytest.mark.parametrize("inputs", [[], ["u"]])
@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("observed", ["", "child", "mood", "state", "child mood", "child state"])
def test_columns_are_what_the_network_says_of_each_state(parents, inputs, real, observed) -> None:
    if not inputs and MOOD not in parents:
        return
    if real and "child" not in observed:
        return
    torch.manual_seed(0)
    child, head = (POINT, NormalHead((2,), scale=1.0)) if real else (NOTE, None)
    net = Columns(2 * (MOOD in parents) + len(inputs), 3, 2 if real else 4)
    fast = Neural(child, parents, net, inputs, head, columns="state")
    slow = Neural(child, parents, Picked(net, "state"), inputs, head, ByName())
    values = {"mood": torch.tensor([1, 0, 1, 1, 0]), "state": torch.tensor([2, 0, 1, 1, 2])}
    values[child.name] = torch.randn(5, 2) if real else torch.tensor([3, 0, 1, 1, 2])
    observed = {n: values[n] for n in observed.replace("child", child.name).split()}
    u = {"u": torch.randn(5)} if inputs else None
    found, expected = fast.factor(observed, u), slow.factor(observed, u)
    assert [v.name for v in found.variables] == [v.name for v in expected.variables]
    assert found.log_values.shape == expected.log_values.shape
    torch.testing.assert_close(found.log_values, expected.log_values)


def test_columns_need_one_evaluation_a_row() -> None:
    net = Columns(2, 3, 4)
    emission = Neural(NOTE, [STATE], net, ["u"], columns="state")
    observed, u = {"note": torch.zeros(7, dtype=torch.int64)}, {"u": torch.randn(7, 2)}
    assert emission.factor(observed, u).log_values.shape == (7, 3)
    assert net.rows == 7
    drawn = emission.distribution({"state": torch.zeros(7, dtype=torch.int64)}, u)
    assert drawn.batch_shape == (7,)


def test_bad_columns() -> None:
    with pytest.raises(ModelError, match="no features other than 'state'"):
        Neural(NOTE, [STATE], Columns(2, 3, 4), columns="state")
    with pytest.raises(ModelError, match="name of a discrete parent, got 'point'"):
        Neural(NOTE, [STATE, POINT], Columns(2, 3, 4), columns="point")
    with pytest.raises(ModelError, match="name of a discrete parent, got 'other'"):
        Neural(NOTE, [STATE], Columns(2, 3, 4), ["u"], columns="other")
    wrong = Neural(NOTE, [STATE], Recorder(4), ["u"], columns="state")
    with pytest.raises(ModelError, match=r"a column for each state, \(2, 3, ...\), got \(2, 4\)"):
        wrong.factor({"note": torch.tensor([0, 1])}, {"u": torch.zeros(2, 1)})


def test_what_a_network_cannot_take_is_told() -> None:
    digit = Variable("digit", 2)
    net = Neural(digit, [], nn.Linear(2, 2), inputs=["u"])
    with pytest.raises(ModelError, match=r"network of 'digit' fails on \(3, 1\).*shapes"):
        net.factor(None, {"u": torch.zeros(3, 1)})
    with pytest.raises(ModelError, match="'digit' returns logits that are NaN"):
        net.factor(None, {"u": torch.full((3, 2), torch.nan)})
