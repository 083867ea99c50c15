"""The torch executor against enumeration, its derivatives against finite differences."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.exact import torch_executor as executor
from pgnn.inference.exact.torch_tables import observed_tables
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.semiring import MAX, Draw
from tests import oracle

INF = math.inf
SEEDS = st.integers(0, 2**31)
KINDS = st.sampled_from([*oracle.KINDS, "markov"])


class Case:
    """A random model with evidence rows and soft evidence, and its enumeration."""

    def __init__(self, seed: int, kind: str = "loop", rows: int = 3, share: float = 0.3) -> None:
        self.rng = rng = np.random.default_rng(seed)
        if kind == "markov":
            self.cards, self.tables = oracle.random_factors(rng)
        else:
            network = oracle.random_network(rng, kind)
            self.cards, self.tables = network.cards, network.tables
        self.names = list(self.cards)
        always = set(rng.permutation(self.names)[: int(rng.integers(0, 3))])
        self.evidence = [
            {n: k for n, k in states.items() if n in always or rng.random() < share}
            for states in oracle.random_evidence(rng, self.joint({}), 1.0, rows)
        ]
        self.soft: dict[str, np.ndarray] = {}
        for name in rng.permutation(self.names)[: int(rng.integers(0, 3))]:
            shape = (self.cards[name],) if rng.random() < 0.5 else (rows, self.cards[name])
            self.soft[str(name)] = rng.random(shape) + 0.05
        with np.errstate(divide="ignore"):
            self.log_tables = [torch.from_numpy(np.log(values)) for _, values in self.tables]
        self.codes = torch.tensor([[row.get(n, -1) for n in self.names] for row in self.evidence])

    def joint(self, evidence: dict[str, int], row: int = 0) -> oracle.Joint:
        soft = getattr(self, "soft", {})
        likelihoods = {n: t if t.ndim == 1 else t[row] for n, t in soft.items()}
        return oracle.joint(self.cards, self.tables, evidence, likelihoods)

    @property
    def joints(self) -> list[oracle.Joint]:
        return [self.joint(row, k) for k, row in enumerate(self.evidence)]

    def graph(self, log_tables: Sequence[Tensor] | None = None) -> FactorGraph:
        variables = {n: Variable(n, k) for n, k in self.cards.items()}
        factors = [
            Factor([variables[n] for n in scope], values)
            for (scope, _), values in zip(self.tables, log_tables or self.log_tables, strict=True)
        ]
        return FactorGraph(tuple(variables.values()), tuple(factors))

    @property
    def unary(self) -> dict[int, Tensor]:
        return {self.names.index(n): torch.from_numpy(t).log() for n, t in self.soft.items()}

    @property
    def sliced(self) -> frozenset[int]:
        """Some of the variables that every row observes."""
        always = np.flatnonzero((self.codes >= 0).all(0).numpy())
        return frozenset(int(v) for v in always if self.rng.random() < 0.7)

    def order(self, sliced: frozenset[int] = frozenset()) -> list[int]:
        return [int(v) for v in self.rng.permutation(len(self.names)) if v not in sliced]


def close(got: Tensor, expected: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(got.detach().numpy(), np.asarray(expected), rtol=0, atol=tolerance)


@given(SEEDS, KINDS, st.sampled_from([0.0, 0.3, 1.0]))
def test_log_partition_equals_enumeration_in_any_order(seed: int, kind: str, share: float) -> None:
    case = Case(seed, kind, share=share)
    expected = [oracle.log_evidence(joint) for joint in case.joints]
    for _ in range(2):
        sliced = case.sliced
        order = case.order(sliced)
        got = executor.log_partition(case.graph(), order, case.codes, case.unary, sliced=sliced)
        assert got.dtype == torch.float64
        close(got, expected)


@given(SEEDS, KINDS, st.sampled_from([0.0, 0.3, 1.0]))
def test_marginals_equal_enumeration(seed: int, kind: str, share: float) -> None:
    case = Case(seed, kind, share=share)
    sliced = case.sliced
    wanted = [int(v) for v in case.rng.permutation(len(case.names))][: len(case.names) // 2 + 1]
    got, log_z = executor.marginals(
        case.graph(), case.order(sliced), case.codes, case.unary, wanted, sliced
    )
    expected = [
        np.concatenate([oracle.marginal(joint, [case.names[v]]) for v in wanted])
        for joint in case.joints
    ]
    close(got, expected)
    close(log_z, [oracle.log_evidence(joint) for joint in case.joints])
    assert not got.requires_grad
    assert not log_z.requires_grad


@given(SEEDS, KINDS)
def test_beliefs_equal_enumeration(seed: int, kind: str) -> None:
    case = Case(seed, kind)
    sliced = case.sliced
    factors = [int(f) for f in case.rng.permutation(len(case.tables))[:4]]
    graph = case.graph()
    found = executor.beliefs(
        graph, case.order(sliced), case.codes, case.unary, factors=factors, sliced=sliced
    )
    assert len(found) == len(factors)
    for f, belief in zip(factors, found, strict=True):
        close(belief, [oracle.marginal(joint, case.tables[f][0]) for joint in case.joints])


@given(SEEDS, KINDS, st.sampled_from([0.0, 0.3, 1.0]))
def test_most_probable_reaches_the_maximum(seed: int, kind: str, share: float) -> None:
    case = Case(seed, kind, share=share)
    sliced = case.sliced
    states, value = executor.most_probable(
        case.graph(), case.order(sliced), case.codes, case.unary, sliced
    )
    assert states.dtype == torch.int64
    for row, joint in enumerate(case.joints):
        close(value[row], oracle.mode(joint)[1])
        found = dict(zip(case.names, states[row].tolist(), strict=True))
        close(value[row], math.log(oracle.weight(joint, found)))
        assert case.evidence[row].items() <= found.items()


@given(SEEDS, KINDS)
def test_marginal_map_sums_first(seed: int, kind: str) -> None:
    case = Case(seed, kind, share=0.2)
    sliced = case.sliced
    chosen = case.rng.random(len(case.names)) < 0.5
    order = sorted(case.order(sliced), key=lambda v: bool(chosen[v]))
    states, value = executor.most_probable(
        case.graph(), order, case.codes, case.unary, sliced, maximized=chosen
    )
    targets = [n for n, flag in zip(case.names, chosen, strict=True) if flag]
    for row, joint in enumerate(case.joints):
        expected = oracle.marginal_map(joint, targets)[1] if targets else oracle.log_evidence(joint)
        close(value[row], expected)
        found = dict(zip(case.names, states[row].tolist(), strict=True))
        close(value[row], math.log(oracle.weight(joint, {n: found[n] for n in targets})))
        unobserved = [n for n in case.names if n not in targets and n not in case.evidence[row]]
        assert all(found[n] == -1 for n in unobserved)


@settings(max_examples=8)
@given(SEEDS, KINDS, st.integers(1, 2000))
def test_pieces_give_the_same_answers(seed: int, kind: str, max_bytes: int) -> None:
    case = Case(seed, kind, rows=7)
    sliced = case.sliced
    order = case.order(sliced)
    arguments: Any = (case.graph(), order, case.codes, case.unary)
    small: Any = {"sliced": sliced, "max_bytes": max_bytes}
    wanted = range(len(case.names))
    close(
        executor.log_partition(*arguments, **small),
        executor.log_partition(*arguments, sliced=sliced),
        1e-12,
    )
    close(
        executor.marginals(*arguments, wanted=wanted, **small)[0],
        executor.marginals(*arguments, wanted=wanted, sliced=sliced)[0],
        1e-12,
    )
    assert torch.equal(
        executor.sample(*arguments, n=3, seed=1, **small),
        executor.sample(*arguments, n=3, seed=1, sliced=sliced),
    )
    assert torch.equal(
        executor.most_probable(*arguments, **small)[0],
        executor.most_probable(*arguments, sliced=sliced)[0],
    )


def test_pieces_are_as_many_as_memory_asks() -> None:
    case = Case(0, "dense", rows=40, share=0.2)
    task = observed_tables(case.graph(), case.order(), case.codes)
    assert len(task.pieces(2**30)) == 1
    assert [p.num_rows for p in task.pieces(1)] == [1] * 40
    cut = task.pieces(task._bytes_per_row(()) * 15)
    assert [p.num_rows for p in cut] == [15, 15, 10]


def test_bytes_of_a_row() -> None:
    a, b, c = Variable("a", 2), Variable("b", 3), Variable("c", 5)
    shared = [Factor([a, b], torch.zeros(2, 3)), Factor([c, b], torch.zeros(5, 3))]
    own = Factor([a], torch.zeros(4, 2))
    graph = FactorGraph((a, b, c), (*shared, own))
    task = observed_tables(graph, [0, 2, 1], torch.full((4, 3), -1))
    # tables 2 + (2 + 3 + 5) likelihoods, messages over b, b and nothing; products 6, 15 and 3
    assert task._bytes_per_row(()) == 4 * (4 * 15 + 2 * (1 + 2 + 10 + 3 + 3 + 1))
    task = observed_tables(
        FactorGraph((a, b, c), (*shared, own)), [0, 2], torch.zeros(4, 3).int(), sliced=[1]
    )
    # slices 2 and 5, table 2, likelihoods 2 and 5, two empty messages; products 2 and 5
    assert task._bytes_per_row(()) == 4 * (4 * 5 + 2 * (1 + 2 + 5 + 2 + 7 + 2))


def test_rowwise_factors_are_each_rows_own() -> None:
    case = Case(11, "loop", rows=4)
    rng = np.random.default_rng(0)
    graph = case.graph(
        [torch.from_numpy(np.log(rng.random((4, *t.shape)))) for _, t in case.tables]
    )
    sliced = case.sliced
    order = case.order(sliced)
    whole = executor.log_partition(graph, order, case.codes, case.unary, sliced=sliced)
    states, _ = executor.most_probable(graph, order, case.codes, case.unary, sliced)
    family = executor.beliefs(graph, order, case.codes, case.unary, range(3), sliced)
    for row, evidence in enumerate(case.evidence):
        tables = [
            (scope, f.values[row].numpy())
            for (scope, _), f in zip(case.tables, graph.factors, strict=True)
        ]
        soft = {n: t if t.ndim == 1 else t[row] for n, t in case.soft.items()}
        joint = oracle.joint(case.cards, tables, evidence, soft)
        close(whole[row], oracle.log_evidence(joint))
        best = oracle.mode(joint)[0]
        assert states[row].tolist() == [best[n] for n in case.names]
        for f in range(3):
            close(family[f][row], oracle.marginal(joint, case.tables[f][0]))


def test_one_row_of_evidence_serves_all_rows_of_tables() -> None:
    case = Case(3, rows=1)
    stacked = [torch.stack([t, t.roll(1, -1)]) for t in case.log_tables]
    both = executor.log_partition(case.graph(stacked), case.order(), case.codes)
    for k in range(2):
        graph = case.graph([t[k] for t in stacked])
        close(both[k : k + 1], executor.log_partition(graph, case.order(), case.codes), 1e-12)


def test_isolated_and_untouched_variables_count_their_states() -> None:
    variables = (Variable("a", 3), Variable("b", 1), Variable("c", 2))
    graph = FactorGraph(variables, ())
    codes = torch.tensor([[-1, -1, -1], [2, -1, -1], [-1, 0, 1]])
    got = executor.log_partition(graph, [2, 0, 1], codes)
    close(got, np.log([6.0, 2.0, 3.0]))
    assert executor.log_partition(graph, [2, 0, 1], codes, reduction=MAX).tolist() == [0, 0, 0]
    got, _ = executor.marginals(graph, [2, 0, 1], codes, wanted=[0, 2])
    third, half = [1 / 3] * 3, [0.5, 0.5]
    close(got, [third + half, [0, 0, 1, *half], [*third, 0, 1]])
    # a variable that is neither eliminated nor observed is not decided
    assert executor.sample(graph, [0, 1], codes)[0, :, 2].tolist() == [-1, -1, 1]
    assert executor.marginals(graph, [0], codes)[0].shape == (3, 0)
    assert executor.beliefs(graph, [0], codes) == []


def test_no_rows() -> None:
    case = Case(2, "loop", rows=3)
    graph, codes = case.graph(), case.codes[:0]
    size = len(case.names)
    for order, sliced in (([0, 1, 2, 3, 4, 5], []), ([1, 2, 4, 5], [0, 3])):
        assert executor.log_partition(graph, order, codes, sliced=sliced).shape == (0,)
        p, log_z = executor.marginals(graph, order, codes, wanted=range(size), sliced=sliced)
        assert (p.shape, log_z.shape) == ((0, sum(case.cards.values())), (0,))
        assert executor.sample(graph, order, codes, n=2, sliced=sliced).shape == (2, 0, size)
        assert executor.most_probable(graph, order, codes, sliced=sliced)[0].shape == (0, size)


def test_only_used_factors_count() -> None:
    case = Case(4, "tree", share=0.0)
    used = np.ones(len(case.tables), dtype=bool)
    used[[0, 3]] = False
    left = [t for t, flag in zip(case.tables, used, strict=True) if flag]
    expected = oracle.log_evidence(oracle.joint(case.cards, left))
    codes = torch.full((1, len(case.names)), -1)
    order = range(len(case.names))
    got = executor.log_partition(case.graph(), order, codes, used=used)
    close(got, [expected])
    numbers = np.flatnonzero(used)
    close(executor.log_partition(case.graph(), order, codes, used=numbers), got)


def test_sliced_may_be_a_mask() -> None:
    case = Case(5, share=1.0)
    mask = np.zeros(len(case.names), dtype=bool)
    mask[[1, 4]] = True
    order = case.order(frozenset({1, 4}))
    by_mask = executor.log_partition(case.graph(), order, case.codes, sliced=mask)
    numbered = executor.log_partition(case.graph(), order, case.codes, sliced=[1, 4])
    tensor = executor.log_partition(case.graph(), order, case.codes, sliced=torch.tensor(mask))
    assert torch.equal(by_mask, numbered)
    assert torch.equal(by_mask, tensor)


# --- draws ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["loop", "disconnected", "markov"])
@pytest.mark.parametrize("by_gradient", [False, True])
def test_draws_follow_the_joint_posterior(kind: str, by_gradient: bool) -> None:
    n = 20_000
    case = Case(6, kind, rows=2, share=0.2)
    sliced = case.sliced
    order = case.order(sliced)
    if by_gradient:
        states = _drawn_by_gradient(case, order, n)
    else:
        states = executor.sample(
            case.graph(), order, case.codes, case.unary, n=n, seed=0, sliced=sliced
        )
    assert states.shape == (n, 2, len(case.names))
    for row, joint in enumerate(case.joints):
        observed = np.ravel_multi_index(states[:, row].numpy().T, joint.table.shape)
        p = joint.table.ravel() / joint.table.sum()
        frequency = np.bincount(observed, minlength=p.size) / n
        assert (frequency[p == 0] == 0).all()
        # a cell of probability p is observed with variance p (1 - p) / n, and a share of 1e-4
        # in each of up to 729 cells; where n p is small the Poisson tail is heavier, so add 2 / n
        sigma = np.sqrt(p * (1 - p) / n)
        assert (np.abs(frequency - p) <= 4 * sigma + 2 / n).all()


def _drawn_by_gradient(case: Case, order: list[int], n: int) -> Tensor:
    """One-hot gradients of tables of zeros, each row repeated n times."""
    codes = case.codes.repeat(n, 1)
    soft = {v: t if t.dim() == 1 else t.repeat(n, 1) for v, t in case.unary.items()}
    variables = [Variable(name, k) for name, k in case.cards.items()]
    zeros = [
        torch.zeros(len(codes), v.num_states, dtype=torch.float64).requires_grad_()
        for v in variables
    ]
    units = tuple(Factor([v], z) for v, z in zip(variables, zeros, strict=True))
    graph = FactorGraph(tuple(variables), (*case.graph().factors, *units))
    reduction = Draw(torch.Generator().manual_seed(1))
    order = [*order, *(v for v in range(len(variables)) if v not in order)]
    log_z = executor.log_partition(graph, order, codes, soft, reduction)
    gradients = torch.autograd.grad(log_z.sum(), zeros)
    for gradient in gradients:
        assert torch.equal(gradient.amax(1), torch.ones(len(codes), dtype=torch.float64))
        assert torch.equal(gradient.sum(1), torch.ones(len(codes), dtype=torch.float64))
    return torch.stack([g.argmax(1) for g in gradients], dim=1).reshape(n, 2, len(variables))


def test_rows_that_share_a_table_are_drawn_one_by_one() -> None:
    n = 5000
    a, b = Variable("a", 2), Variable("b", 2)
    p = torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64)
    table = p.log().requires_grad_()
    graph = FactorGraph((a, b), (Factor([a, b], table),))
    drawn = Draw(torch.Generator().manual_seed(0))
    log_z = executor.log_partition(graph, [0, 1], torch.full((n, 2), -1), reduction=drawn)
    (counts,) = torch.autograd.grad(log_z.sum(), table)
    assert counts.sum() == n
    assert bool(((counts - n * p).abs() <= 4 * (n * p * (1 - p)).sqrt()).all())


def test_seeds() -> None:
    case = Case(7, "dense", share=0.0)
    arguments: Any = (case.graph(), case.order(), case.codes)
    before = torch.get_rng_state()
    first = executor.sample(*arguments, n=50, seed=3)
    assert torch.equal(first, executor.sample(*arguments, n=50, seed=3))
    assert not torch.equal(first, executor.sample(*arguments, n=50, seed=4))
    unseeded = executor.sample(*arguments, n=50)
    assert not torch.equal(unseeded, executor.sample(*arguments, n=50))
    assert torch.equal(before, torch.get_rng_state())
    assert executor.sample(*arguments, n=0, seed=0).shape == (0, 3, len(case.names))


# --- derivatives ------------------------------------------------------------------------------


def differentiable(case: Case, rowwise: Sequence[int] = ()) -> list[Tensor]:
    """Leaf tables, some with a row axis; structural zeros stay."""
    rows = len(case.codes)
    tables = []
    for k, t in enumerate(case.log_tables):
        values = torch.stack([t + 0.1 * row for row in range(rows)]) if k in rowwise else t.clone()
        tables.append(values.requires_grad_())
    return tables


def small(seed: int, kind: str = "loop", rows: int = 2) -> Case:
    rng = np.random.default_rng(seed)
    case = Case(seed, kind, rows=rows)
    network = oracle.random_network(rng, kind, num_variables=4, max_states=2, zeros=0.2)
    case.cards, case.tables, case.names = network.cards, network.tables, list(network.cards)
    case.soft = {}
    case.evidence = oracle.random_evidence(rng, case.joint({}), 0.3, rows)
    with np.errstate(divide="ignore"):
        case.log_tables = [torch.from_numpy(np.log(values)) for _, values in case.tables]
    case.codes = torch.tensor([[row.get(n, -1) for n in case.names] for row in case.evidence])
    return case


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_log_partition_is_twice_differentiable(seed: int) -> None:
    case = small(seed)
    sliced = case.sliced
    order = case.order(sliced)
    tables = differentiable(case, rowwise=[1])
    soft = torch.zeros(2, case.graph().card[0], dtype=torch.float64, requires_grad=True)

    def f(soft: Tensor, *tables: Tensor) -> Tensor:
        graph = case.graph(tables)
        return executor.log_partition(graph, order, case.codes, {0: soft}, sliced=sliced)

    assert torch.autograd.gradcheck(f, (soft, *tables))
    assert torch.autograd.gradgradcheck(f, (soft, *tables))


@pytest.mark.parametrize("seed", [3, 4])
def test_marginals_and_beliefs_are_twice_differentiable(seed: int) -> None:
    case = small(seed)
    order = case.order()
    tables = differentiable(case, rowwise=[0])

    def f(*tables: Tensor) -> tuple[Tensor, ...]:
        graph = case.graph(tables)
        p, log_z = executor.marginals(
            graph, order, case.codes, wanted=[0, 2], create_graph=True, max_bytes=1
        )
        return (
            p,
            log_z,
            *executor.beliefs(graph, order, case.codes, factors=[1], create_graph=True),
        )

    assert torch.autograd.gradcheck(f, tables)
    assert torch.autograd.gradgradcheck(f, tables)


def test_the_gradient_of_a_table_is_its_expected_count() -> None:
    case = Case(9, rows=5)
    sliced = case.sliced
    tables = differentiable(case)
    order = case.order(sliced)
    log_z = executor.log_partition(
        case.graph(tables), order, case.codes, case.unary, sliced=sliced, max_bytes=1000
    )
    upstream = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    gradients = torch.autograd.grad(log_z, tables, upstream)
    for (scope, _), gradient in zip(case.tables, gradients, strict=True):
        counts = [oracle.marginal(joint, scope) for joint in case.joints]
        close(gradient, np.tensordot(upstream.numpy(), np.stack(counts), 1))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_callers_without_gradients(mode: Any) -> None:
    case = Case(10)
    order = case.order()
    wanted = range(len(case.names))
    graph = case.graph(differentiable(case))
    expected, expected_z = executor.marginals(graph, order, case.codes, case.unary, wanted)
    with mode():
        # tables made in here are inference tensors, which autograd refuses to keep
        inside = case.graph([t * 1.0 for t in case.log_tables])
        for g in (graph, inside):
            got, log_z = executor.marginals(g, order, case.codes * 1, case.unary, wanted)
            close(got, expected, 1e-12)
            close(log_z, expected_z, 1e-12)
            close(executor.log_partition(g, order, case.codes, case.unary), expected_z, 1e-12)
            assert executor.beliefs(g, order, case.codes, case.unary, [0])[0].shape[0] == 3
    assert torch.is_grad_enabled()


def test_callers_tensors_are_unchanged() -> None:
    case = Case(12)
    tables = differentiable(case)
    tables[0].requires_grad_(False)
    tables[1] = tables[1] * 1.0
    soft = case.unary
    kept = [(t, t.detach().clone(), t.requires_grad) for t in [*tables, *soft.values(), case.codes]]
    arguments: Any = (case.graph(tables), case.order(), case.codes, soft)
    executor.log_partition(*arguments)
    executor.marginals(*arguments, wanted=[0, 1], create_graph=True)
    executor.beliefs(*arguments, factors=[0])
    executor.most_probable(*arguments)
    executor.sample(*arguments)
    for tensor, copy, flag in kept:
        assert torch.equal(tensor, copy)
        assert tensor.requires_grad is flag
        assert not tensor.is_leaf or tensor.grad is None


# --- zeros, ties, extremes ----------------------------------------------------------------------


def test_impossible_rows() -> None:
    a, b, c = Variable("a", 2), Variable("b", 2), Variable("c", 2)
    implies = torch.tensor([[0.0, -INF], [-INF, 0.0]], dtype=torch.float64, requires_grad=True)
    free = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    graph = FactorGraph((a, b, c), (Factor([a, b], implies), Factor([c], free)))
    codes = torch.tensor([[0, 1, -1], [0, -1, -1]])
    for order, sliced in (([2, 1, 0], ()), ([1, 2], (0,))):
        p, log_z = executor.marginals(graph, order, codes, wanted=[0, 1, 2], sliced=sliced)
        close(log_z, [-INF, math.log(2)])
        assert p.tolist() == [[0] * 6, [1, 0, 1, 0, 0.5, 0.5]]
        log_z = executor.log_partition(graph, order, codes, sliced=sliced)
        gradients = torch.autograd.grad(log_z.sum(), [implies, free], create_graph=True)
        assert [g.tolist() for g in gradients] == [[[1, 0], [0, 0]], [0.5, 0.5]]
        second = torch.autograd.grad(gradients[1][0], [implies, free], materialize_grads=True)
        assert [g.tolist() for g in second] == [[[0, 0], [0, 0]], [0.25, -0.25]]
        states, value = executor.most_probable(graph, order, codes, sliced=sliced)
        close(value, [-INF, 0.0])
        assert states[0, :2].tolist() == [0, 1]
        drawn = executor.sample(graph, order, codes, n=5, seed=0, sliced=sliced)
        assert bool(((drawn >= 0) & (drawn < 2)).all())
        beliefs = executor.beliefs(graph, order, codes, factors=[0, 1], sliced=sliced)
        assert [t[0].count_nonzero().item() for t in beliefs] == [0, 0]


def test_tables_of_nothing_but_zeros() -> None:
    a = Variable("a", 3)
    nothing = torch.full((3,), -INF, dtype=torch.float64, requires_grad=True)
    graph = FactorGraph((a,), (Factor([a], nothing),))
    codes = torch.tensor([[-1], [1]])
    p, log_z = executor.marginals(graph, [0], codes, wanted=[0], create_graph=True)
    assert log_z.tolist() == [-INF, -INF]
    assert p.count_nonzero() == 0
    (gradient,) = torch.autograd.grad(p.sum(), nothing)
    assert gradient.tolist() == [0, 0, 0]
    assert executor.sample(graph, [0], codes, seed=0)[0].tolist() == [[0], [1]]
    assert executor.most_probable(graph, [0], codes)[0].tolist() == [[0], [1]]


def test_ties_give_one_assignment_of_the_best_value() -> None:
    a, b = Variable("a", 2), Variable("b", 2)
    equal = torch.tensor([[0.0, -1.0], [-1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    graph = FactorGraph((a, b), (Factor([a, b], equal),))
    codes = torch.tensor([[-1, -1], [-1, 1]])
    for order in ([0, 1], [1, 0]):
        states, value = executor.most_probable(graph, order, codes)
        assert states.tolist() == [[0, 0], [1, 1]]
        assert value.tolist() == [0, 0]
        top = executor.log_partition(graph, order, codes, reduction=MAX)
        (gradient,) = torch.autograd.grad(top.sum(), equal)
        assert gradient.tolist() == [[1, 0], [0, 1]]


def test_numbers_that_underflow_in_linear_space() -> None:
    n = 30
    variables = tuple(Variable(k, 2) for k in range(n))
    pair = torch.tensor([[-800.0, -900.0], [-INF, -800.5]], dtype=torch.float64)
    graph = FactorGraph(
        variables,
        tuple(Factor([a, b], pair) for a, b in itertools.pairwise(variables)),
    )
    codes = torch.full((1, n), -1)
    got, log_z = executor.marginals(graph, range(n), codes, wanted=[0, n - 1])
    message = np.zeros(2)
    for _ in range(n - 1):
        message = np.logaddexp.reduce(pair.numpy() + message, axis=1)
    close(log_z, [np.logaddexp.reduce(message)])
    close(got[0, :2], np.exp(message - np.logaddexp.reduce(message)))


def test_types_promote_to_the_widest() -> None:
    case = Case(13)
    expected = executor.log_partition(case.graph(), case.order(), case.codes)
    narrow = [t.float() for t in case.log_tables]
    single = executor.log_partition(case.graph(narrow), case.order(), case.codes)
    assert single.dtype == torch.float32
    close(single, expected, 1e-4)
    mixed = executor.log_partition(
        case.graph([*narrow[:-1], case.log_tables[-1]]), case.order(), case.codes
    )
    assert mixed.dtype == torch.float64
    p, _ = executor.marginals(case.graph(narrow), case.order(), case.codes, wanted=[0])
    assert p.dtype == torch.float32


# --- what is refused ------------------------------------------------------------------------------


def test_refusals() -> None:
    a, b = Variable("a", 2), Variable("b", 3)
    graph = FactorGraph((a, b), (Factor([a, b], torch.zeros(2, 3)),))
    free = torch.tensor([[-1, -1]])
    with pytest.raises(ValueError, match=r"\['b'\] are in a table, but neither in the order"):
        executor.log_partition(graph, [0], free)
    with pytest.raises(ValueError, match=r"eliminated once or sliced: \['a'\] are not"):
        executor.log_partition(graph, [0, 1, 0], free)
    with pytest.raises(ValueError, match=r"eliminated once or sliced: \['b'\] are not"):
        executor.log_partition(graph, [0, 1], torch.tensor([[0, 0]]), sliced=[1])
    with pytest.raises(EvidenceError, match="'b' is sliced but not observed in every row"):
        executor.log_partition(graph, [0], torch.tensor([[0, 1], [0, -1]]), sliced=[1])
    with pytest.raises(EvidenceError, match="row 1 puts 'b' in state 3; it has 3 states"):
        executor.log_partition(graph, [0, 1], torch.tensor([[0, 1], [0, 3]]))
    with pytest.raises(EvidenceError, match=r"codes must be integers of shape \(B, 2\)"):
        executor.log_partition(graph, [0, 1], torch.zeros(1, 2))
    with pytest.raises(EvidenceError, match=r"table over \['b'\] must have the shape \(3,\)"):
        executor.log_partition(graph, [0, 1], free, {1: torch.zeros(2)})
    with pytest.raises(EvidenceError, match=r"disagree on the number of rows: \[2, 4\]"):
        executor.log_partition(graph, [0, 1], free.expand(2, 2), {1: torch.zeros(4, 3)})
    with pytest.raises(ValueError, match=r"\['b'\] are summed out after a maximisation"):
        executor.most_probable(graph, [0, 1], free, maximized=[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_answers() -> None:
    case = Case(14, "dense", rows=5)
    sliced = case.sliced
    order = case.order(sliced)
    wanted = range(len(case.names))
    # one table stays behind: tables are brought together
    moved = [case.log_tables[0], *(t.cuda() for t in case.log_tables[1:])]
    here, there = case.graph(), case.graph(moved)
    rest: Any = (order, case.codes, case.unary)
    p, log_z = executor.marginals(there, *rest, wanted, sliced)
    assert p.device.type == "cuda"
    expected, expected_z = executor.marginals(here, *rest, wanted, sliced)
    close(p.cpu(), expected, 1e-10)
    close(log_z.cpu(), expected_z, 1e-10)
    assert torch.equal(
        executor.sample(there, *rest, n=100, seed=2, sliced=sliced).cpu(),
        executor.sample(here, *rest, n=100, seed=2, sliced=sliced),
    )
    assert torch.equal(
        executor.most_probable(there, *rest, sliced)[0].cpu(),
        executor.most_probable(here, *rest, sliced)[0],
    )
    tables = [t.clone().requires_grad_() for t in moved]
    gradients = torch.autograd.grad(
        executor.log_partition(case.graph(tables), *rest, sliced=sliced).sum(), tables
    )
    family = executor.beliefs(here, *rest, range(len(tables)), sliced)
    for gradient, belief in zip(gradients, family, strict=True):
        close(gradient.cpu(), belief.sum(0), 1e-10)
