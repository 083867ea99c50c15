"""One contract for every kind of conditional: its table, its distribution, its gradients."""

import copy
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pgnn.errors import EvidenceError, Intractable, ModelError, Unsupported
from pgnn.factors import (
    BernoulliHead,
    ByName,
    Conditional,
    Neural,
    NoisyMax,
    NoisyOr,
    NormalHead,
    Sigmoid,
    Softmax,
    Tabular,
    Variable,
)

A, B = Variable("a", ["no", "yes"]), Variable("b", 2)
TRI = Variable("t", ["lo", "mid", "hi"])
ONE = Variable("one", ["only"])
Y2, Y3 = Variable("y", ["off", "on"]), Variable("y", 3)
REAL, IMAGE = Variable("r", shape=(2,)), Variable("y", shape=(1, 2, 3))
ROWS = 5


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=rng(seed))


def table(*shape: int, seed: int = 0) -> Tensor:
    weights = torch.rand(shape, dtype=torch.float64, generator=rng(seed)) + 0.05
    weights[..., 0] *= torch.rand(shape[:-1], generator=rng(seed + 1)) > 0.4
    return weights / weights.sum(-1, keepdim=True)


class Joined(nn.Module):
    """Embeds the indices of a discrete parent and adds a linear map of an input."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 3)
        self.linear = nn.Linear(4, 3)

    def forward(self, values: dict[str, Tensor]) -> Tensor:
        return self.embedding(values["t"]) + self.linear(values["u"])


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


MAKERS: dict[str, Callable[[], Conditional]] = {
    "tabular root": lambda: Tabular(Y3, [], table(3)),
    "tabular": lambda: Tabular(Y3, [A, TRI], table(2, 3, 3)),
    "tabular uniform": lambda: Tabular(Y2, [TRI]),
    "tabular one state": lambda: Tabular(ONE, [A, TRI]),
    "tabular one-state parent": lambda: Tabular(Y2, [ONE, A], table(1, 2, 2)),
    "sigmoid": lambda: Sigmoid(Y2, [A, B], weight=[2.0, -30.0], bias=0.5),
    "sigmoid root": lambda: Sigmoid(Y2, [], bias=-1.0),
    "noisy-or": lambda: NoisyOr(Y2, [A, B], strengths=[0.7, 0.2], leak=0.1),
    "noisy-or at its ends": lambda: NoisyOr(Y2, [A, B], strengths=[1.0, 0.0]),
    "noisy-or uniform": lambda: NoisyOr(Y2, [A, B], leak=None),
    "noisy-max": lambda: NoisyMax(Y3, [A, TRI], [table(1, 3), table(2, 3)], leak=table(3)),
    "noisy-max without zeros": lambda: NoisyMax(
        Y3, [A, TRI], {"t": normal(2, 3).softmax(-1), "a": normal(1, 3).softmax(-1)}, leak=None
    ),
    "noisy-max one state": lambda: NoisyMax(ONE, [TRI], [torch.ones(2, 1)]),
    "noisy-max one-state parent": lambda: NoisyMax(Y3, [ONE, A], [torch.ones(0, 3), table(1, 3)]),
    "softmax": lambda: Softmax(Y3, [A, TRI], weight=normal(3, 3), bias=normal(3)),
    "softmax input": lambda: Softmax(Y3, [TRI], weight=normal(6, 3), inputs={"u": 4}),
    "softmax root": lambda: Softmax(Y3, bias=normal(3)),
    "neural": lambda: Neural(Y3, [A, TRI], seeded(lambda: nn.Linear(5, 3))),
    "neural input": lambda: Neural(Y3, [], seeded(lambda: nn.Linear(4, 3)), inputs=["u"]),
    "neural by name": lambda: Neural(Y3, [TRI], seeded(Joined), inputs="u", features=ByName()),
}
REAL_PARENT: dict[str, Callable[[], Conditional]] = {
    "softmax real": lambda: Softmax(Y3, [TRI, REAL], weight=normal(4, 3), bias=normal(3)),
    "neural real": lambda: Neural(Y3, [REAL, A], seeded(lambda: nn.Linear(4, 3))),
}
REAL_CHILD: dict[str, Callable[[], Conditional]] = {
    "normal": lambda: Neural(
        IMAGE, [A, TRI], seeded(lambda: nn.Linear(5, 12)), head=NormalHead((1, 2, 3))
    ),
    "normal, scale given": lambda: Neural(
        IMAGE, [A, TRI], seeded(lambda: nn.Linear(5, 6)), head=NormalHead((1, 2, 3), scale=0.5)
    ),
    "binary image": lambda: Neural(
        IMAGE, [TRI], seeded(lambda: nn.Linear(3, 6)), head=BernoulliHead((1, 2, 3))
    ),
}
DISCRETE = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def inputs_of(c: Conditional, rows: int = ROWS) -> dict[str, Tensor] | None:
    return {"u": normal(rows, 4, seed=7), "other": normal(rows)} if c.inputs else None


def states_of(c: Conditional, rows: int = ROWS, seed: int = 3) -> dict[str, Tensor]:
    return {
        str(v.name): torch.randint(v.num_states, (rows,), generator=rng(seed + k))
        for k, v in enumerate(c.scope)
        if v.is_discrete
    }


def full_table(c: Conditional) -> Tensor:
    """The table with a batch axis, of ``ROWS`` rows where the conditional has inputs."""
    log_values = c.factor(inputs=inputs_of(c)).log_values
    return log_values if c.inputs else log_values.unsqueeze(0)


@DISCRETE
def test_table_sums_to_one_over_the_child(make: Callable[[], Conditional]) -> None:
    c = make()
    factor = c.factor(inputs=inputs_of(c))
    assert factor.variables == c.scope
    assert factor.batch_shape == ((ROWS,) if c.inputs else ())
    assert factor.log_values.dtype == torch.float64
    assert not factor.log_values.isnan().any()
    total = factor.values.sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


@DISCRETE
def test_observing_is_indexing_the_table(make: Callable[[], Conditional]) -> None:
    c = make()
    everything, values = full_table(c), states_of(c)
    names = [v.name for v in c.scope]
    for size in range(1, len(names) + 1):
        for observed in itertools.combinations(names, size):
            got = c.factor({n: values[n] for n in observed} | {"z": values[names[0]]}, inputs_of(c))
            assert got.names == tuple(n for n in names if n not in observed)
            for row in range(ROWS):
                index = tuple(int(values[n][row]) if n in observed else slice(None) for n in names)
                expected = everything[row if c.inputs else 0][index]
                torch.testing.assert_close(got.log_values[row], expected, rtol=1e-12, atol=1e-12)


@DISCRETE
def test_distribution_has_the_rows_of_the_table(make: Callable[[], Conditional]) -> None:
    c = make()
    values = states_of(c)
    dist = c.distribution(values, inputs_of(c))
    parents = {v.name: values[v.name] for v in c.parents}
    expected = c.factor(parents, inputs_of(c)).log_values
    states = torch.arange(c.child.num_states).reshape(-1, 1)
    log_prob = dist.log_prob(states).t().reshape(expected.shape)
    torch.testing.assert_close(log_prob, expected, rtol=1e-12, atol=1e-12)
    total = log_prob.exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total))


@DISCRETE
def test_samples_have_the_frequencies_of_the_table(make: Callable[[], Conditional]) -> None:
    c = make()
    values = {k: x[:1] for k, x in states_of(c).items()}
    inputs = {"u": normal(1, 4)} if c.inputs else None
    dist = c.distribution(values, inputs)
    n = 4000
    with torch.random.fork_rng():
        torch.manual_seed(1)
        draws = dist.sample((n,)).flatten()
    parents = {v.name: values[v.name] for v in c.parents}
    p = c.factor(parents, inputs).values.flatten()
    frequency = torch.bincount(draws, minlength=len(p)) / n
    # A frequency has variance p (1 - p) / n; four standard deviations, and nothing where p is 0.
    assert ((frequency - p).abs() <= 4 * (p * (1 - p) / n).sqrt() + 1e-12).all()


@DISCRETE
def test_gradients(make: Callable[[], Conditional]) -> None:
    c = make().requires_grad_()
    names = [n for n, _ in c.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in c.parameters()]

    def total(*parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        log_values = torch.func.functional_call(_Table(c), _prefixed(given), (inputs_of(c),))
        return log_values[log_values.isfinite()]

    # Finite differences need room on both sides, which a logit of -inf has not.
    if all(v.isfinite().all() for v in values):
        assert torch.autograd.gradcheck(total, values)
    used = [v for v in values if v.numel()]
    for grad in torch.autograd.grad(total(*values).sum(), used):
        assert grad.isfinite().all()
    used = [p for p in c.parameters() if p.numel()]
    for grad in torch.autograd.grad(c.factor(inputs=inputs_of(c)).values.sum(), used):
        torch.testing.assert_close(grad, torch.zeros_like(grad))  # every row's total is constant


class _Table(nn.Module):
    def __init__(self, conditional: Conditional) -> None:
        super().__init__()
        self.conditional = conditional

    def forward(self, inputs: dict[str, Tensor] | None) -> Tensor:
        return self.conditional.factor(inputs=inputs).log_values


def _prefixed(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"conditional.{name}": p for name, p in parameters.items()}


@DISCRETE
def test_nothing_of_the_caller_changes(make: Callable[[], Conditional]) -> None:
    c = make()
    observed, inputs = states_of(c), inputs_of(c)
    before = copy.deepcopy((observed, inputs, c.state_dict()))
    with torch.no_grad():
        quiet = c.factor(observed, inputs)
    assert not quiet.log_values.requires_grad
    torch.testing.assert_close(c.factor(observed, inputs).log_values, quiet.log_values)
    assert observed.keys() == before[0].keys()
    torch.testing.assert_close((observed, inputs, c.state_dict()), before, equal_nan=True)


@DISCRETE
def test_copies_and_state_dicts(make: Callable[[], Conditional]) -> None:
    c = make()
    twin = copy.deepcopy(c)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    twin.load_state_dict(c.state_dict())
    torch.testing.assert_close(full_table(twin), full_table(c))
    assert repr(c.child.name) in repr(c)


@DISCRETE
def test_wrong_values_are_refused(make: Callable[[], Conditional]) -> None:
    c = make()
    child, states = c.child.name, c.child.num_states
    for bad in (-1, states):
        with pytest.raises(EvidenceError, match=f"index {bad} of {child!r} is out of range"):
            c.factor({child: torch.tensor([0, bad])}, inputs_of(c, 2))
    with pytest.raises(EvidenceError, match=f"{child!r} must be integer indices"):
        c.factor({child: torch.zeros(2)}, inputs_of(c, 2))
    with pytest.raises(EvidenceError, match=r"must be observed with shape \(B\), got \(\)"):
        c.factor({child: torch.tensor(0)}, inputs_of(c, 2))
    if c.parents:
        rows = {child: torch.tensor([0, 0, 0]), c.parents[0].name: torch.tensor([0])}
        with pytest.raises(EvidenceError, match="same number of rows everywhere, got 1 of"):
            c.factor(rows, inputs_of(c, 3))
        with pytest.raises(
            EvidenceError, match=f"needs a value of its parent {c.parents[0].name!r}"
        ):
            c.distribution({}, inputs_of(c))
        parents = {v.name: torch.tensor([-1]) for v in c.parents}
        with pytest.raises(EvidenceError, match=r"index -1 of .* is out of range"):
            c.distribution(parents, inputs_of(c, 1))
    if c.inputs:
        with pytest.raises(EvidenceError, match="needs a value of its input 'u'"):
            c.factor()


@pytest.mark.parametrize("make", REAL_PARENT.values(), ids=REAL_PARENT.keys())
def test_real_parents(make: Callable[[], Conditional]) -> None:
    c = make()
    r, child = normal(ROWS, 2, seed=4), c.child.name
    factor = c.factor({"r": r})
    assert factor.names == tuple(v.name for v in c.scope if v.name != "r")
    assert factor.batch_shape == (ROWS,)
    torch.testing.assert_close(factor.values.sum(-1), torch.ones(factor.values.shape[:-1]).double())
    values = states_of(c)
    got = c.factor({**values, "r": r}).log_values
    torch.testing.assert_close(got, c.distribution({**values, "r": r}).log_prob(values[str(child)]))
    torch.testing.assert_close(got, factor.condition(values).log_values)
    torch.testing.assert_close(c.factor({"r": r.float()}).values, factor.values, rtol=1e-5, atol=0)
    with pytest.raises(Unsupported, match="'r' is real and not observed"):
        c.factor()
    with pytest.raises(EvidenceError, match=r"'r' must be observed with shape \(B, 2\)"):
        c.factor({"r": normal(ROWS)})


@pytest.mark.parametrize("make", REAL_CHILD.values(), ids=REAL_CHILD.keys())
def test_observed_real_child_is_a_likelihood_table(make: Callable[[], Conditional]) -> None:
    c = make()
    image = (normal(ROWS, 1, 2, 3) > 0).double()
    factor = c.factor({"y": image})
    assert factor.variables == c.parents
    assert factor.batch_shape == (ROWS,)
    values = states_of(c)
    rowwise = c.factor({**values, "y": image}).log_values
    torch.testing.assert_close(rowwise, c.distribution(values).log_prob(image))
    torch.testing.assert_close(factor.condition(values).log_values, rowwise)
    one = {str(c.parents[0].name): values[str(c.parents[0].name)]}
    torch.testing.assert_close(
        c.factor({**one, "y": image}).log_values, factor.condition(one).log_values
    )
    with pytest.raises(Unsupported, match="'y' is real and not observed"):
        c.factor()


MANY = [Variable(f"x{k}", 2) for k in range(40)]


@pytest.mark.parametrize("kind", [Sigmoid, NoisyOr, Softmax])
def test_many_parents_cost_what_is_unobserved(kind: type[Conditional]) -> None:
    c = kind(Y2, MANY, torch.full((40, 2) if kind is Softmax else (40,), 0.03).double())
    with pytest.raises(Intractable, match=r"2,199,023,255,552 entries.*observe more"):
        c.factor()
    observed = {f"x{k}": torch.randint(2, (3,), generator=rng(k)) for k in range(37)}
    factor = c.factor(observed)
    assert factor.names == ("x37", "x38", "x39", "y")
    assert factor.log_values.shape == (3, 2, 2, 2, 2)
    rest = {f"x{k}": torch.tensor([0, 1, 1]) for k in range(37, 40)}
    torch.testing.assert_close(
        factor.condition(rest).log_values, c.distribution({**observed, **rest}).logits
    )


def test_free_parameters() -> None:
    expected = {
        "tabular root": 2,
        "tabular": 12,
        "tabular one state": 0,
        "sigmoid": 3,
        "noisy-or": 3,
        "noisy-or at its ends": 2,
        "noisy-or uniform": 3,
        "noisy-max": 2 * 4,
        "noisy-max one state": 0,
        "softmax": 2 * 4,
        "softmax input": 2 * 7,
        "neural": 18,
    }
    assert {name: MAKERS[name]().num_free_parameters for name in expected} == expected


def test_given_numbers_are_constants_and_missing_ones_are_learnt() -> None:
    assert not any(p.requires_grad for p in MAKERS["noisy-max"]().parameters())
    assert not Tabular(Y2, [A], table(2, 2)).logits.requires_grad
    assert Tabular(Y2, [A]).logits.requires_grad
    unit = Sigmoid(Y2, [A], weight=[1.0])
    assert not unit.weight.requires_grad
    assert unit.bias.requires_grad
    assert all(p.requires_grad for p in NoisyOr(Y2, [A], leak=None).parameters())


def test_a_variable_occurs_once() -> None:
    with pytest.raises(ModelError, match="'y' names a variable twice"):
        Tabular(Y2, [A, A])
    with pytest.raises(ModelError, match="names a variable twice"):
        Softmax(Y2, [A], inputs={"a": 2})


@pytest.mark.parametrize("kind", [Tabular, Sigmoid, NoisyOr, NoisyMax])
def test_tables_need_single_discrete_variables(kind: type[Conditional]) -> None:
    with pytest.raises(ModelError, match="'y' needs discrete variables, but 'r' is real"):
        kind(Y2, [REAL])
    pixels = Variable("pixels", 2, shape=(4,))
    with pytest.raises(ModelError, match=r"'pixels' is an array of shape \(4,\)"):
        kind(Y2, [pixels])


def test_batches_equal_single_rows() -> None:
    for make in MAKERS.values():
        c = make()
        values, inputs = states_of(c), inputs_of(c)
        batch = c.factor({"y": values["y"]} if "y" in values else None, inputs).log_values
        if batch.dim() and "y" in values:
            for row in range(ROWS):
                single = c.factor(
                    {"y": values["y"][row : row + 1]},
                    {k: x[row : row + 1] for k, x in inputs.items()} if inputs else None,
                )
                torch.testing.assert_close(single.log_values[0], batch[row])


def test_entropy_of_the_table_is_finite() -> None:
    """Zeros of a table must not turn sums of p log p into NaN."""
    c = MAKERS["noisy-or at its ends"]()
    dist = c.distribution({"a": torch.tensor([0, 1, 0, 1]), "b": torch.tensor([0, 0, 1, 1])})
    assert dist.entropy().tolist() == [0.0] * 4
    assert Tabular(Y2).distribution({}).entropy().item() == pytest.approx(math.log(2))
