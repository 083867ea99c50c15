"""The differentiable operation, with the torch executor and enumeration as its kernels."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.exact import torch_executor as executor
from pgnn.inference.exact.log_partition import Kernel, log_partition, with_tables
from pgnn.inference.factor_graph import FactorGraph
from tests import oracle

INF = math.inf


class Model:
    """A small network with evidence, some tables row-wise, and two kernels."""

    def __init__(self, seed: int, rows: int = 3) -> None:
        rng = np.random.default_rng(seed)
        network = oracle.random_network(rng, "loop", num_variables=4, max_states=2, zeros=0.25)
        self.cards, self.scopes = network.cards, [scope for scope, _ in network.tables]
        evidence = oracle.random_evidence(rng, network.joint(), 0.3, rows)
        self.codes = torch.tensor([[row.get(n, -1) for n in self.cards] for row in evidence])
        with np.errstate(divide="ignore"):
            self.values = [torch.from_numpy(np.log(values)) for _, values in network.tables]
        self.values[1] = torch.stack([self.values[1] - 0.1 * row for row in range(rows)])
        self.order = [int(v) for v in rng.permutation(len(self.cards))]
        self.calls: list[str] = []

    def leaves(self) -> list[Tensor]:
        return [v.clone().requires_grad_() for v in self.values]

    def graph(self, values: Sequence[Tensor]) -> FactorGraph:
        variables = {n: Variable(n, k) for n, k in self.cards.items()}
        factors = [
            Factor([variables[n] for n in scope], table)
            for scope, table in zip(self.scopes, values, strict=True)
        ]
        return FactorGraph(tuple(variables.values()), tuple(factors))

    def reference(self, graph: FactorGraph) -> Tensor:
        self.calls.append("reference")
        return executor.log_partition(graph, self.order, self.codes)

    def by_torch(self) -> Kernel:
        def evaluate(graph: FactorGraph) -> np.ndarray:
            assert not torch.is_grad_enabled()
            self.calls.append("evaluate")
            return executor.log_partition(graph, self.order, self.codes).numpy()

        def accumulate(graph: FactorGraph, weights: np.ndarray) -> list[np.ndarray]:
            self.calls.append("accumulate")
            everything = range(len(graph.factors))
            tables = executor.beliefs(graph, self.order, self.codes, factors=everything)
            return [
                _weighted(f, t.numpy(), weights) for f, t in zip(graph.factors, tables, strict=True)
            ]

        return Kernel(evaluate, accumulate, self.reference)

    def by_enumeration(self) -> Kernel:
        def joints(graph: FactorGraph) -> list[oracle.Joint]:
            found = []
            for row, codes in enumerate(self.codes.tolist()):
                tables = [
                    (f.names, (f.values[row] if f.batch_shape else f.values).detach().numpy())
                    for f in graph.factors
                ]
                observed = dict(zip(self.cards, codes, strict=True))
                found.append(oracle.joint(self.cards, tables, observed))
            return found

        def evaluate(graph: FactorGraph) -> np.ndarray:
            return np.array([oracle.log_evidence(joint) for joint in joints(graph)])

        def accumulate(graph: FactorGraph, weights: np.ndarray) -> list[np.ndarray]:
            rows = joints(graph)
            return [
                _weighted(f, np.stack([oracle.marginal(j, f.names) for j in rows]), weights)
                for f in graph.factors
            ]

        return Kernel(evaluate, accumulate, self.reference)


def _weighted(factor: Factor, tables: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """In the shape of the factor's group, which has it alone."""
    weighted = tables * weights.reshape(-1, *[1] * (tables.ndim - 1))
    return weighted[:, None] if factor.batch_shape else weighted.sum(axis=0, keepdims=True)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["by_torch", "by_enumeration"])
def test_first_and_second_derivatives(seed: int, kind: str) -> None:
    model = Model(seed)
    kernel = getattr(model, kind)()
    assert any(bool(v.isneginf().any()) for v in model.values)

    def f(*values: Tensor) -> Tensor:
        return log_partition(model.graph(values), kernel)

    assert torch.autograd.gradcheck(f, model.leaves())
    assert torch.autograd.gradgradcheck(f, model.leaves())


def test_the_kernel_gives_the_gradient_and_torch_the_second() -> None:
    model = Model(3)
    kernel = model.by_torch()
    leaves = model.leaves()
    log_z = log_partition(model.graph(leaves), kernel)
    assert model.calls == ["evaluate"]
    weights = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    first = torch.autograd.grad(log_z, leaves, weights, retain_graph=True)
    assert model.calls == ["evaluate", "accumulate"]
    again = torch.autograd.grad(log_z, leaves, weights, create_graph=True)
    assert model.calls == ["evaluate", "accumulate", "reference"]
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    expected = torch.autograd.grad(model.reference(model.graph(leaves)), leaves, weights)
    for a, b in zip(first, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_tables_computed_from_one_another() -> None:
    model = Model(4)
    kernel = model.by_torch()

    def chained(logits: Tensor) -> Tensor:
        values = [v + 0.3 * k * logits.tanh().sum() for k, v in enumerate(model.values)]
        values[0] = values[0] + logits.exp().mean()
        values[2] = values[2] + values[0].logsumexp(tuple(range(values[0].dim())))
        return log_partition(model.graph(values), kernel)

    logits = torch.tensor([0.3, -0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(chained, logits)
    assert torch.autograd.gradgradcheck(chained, logits)
    (once,) = torch.autograd.grad(chained(logits).sum(), logits)
    (twice,) = torch.autograd.grad(chained(logits).sum(), logits, create_graph=True)
    torch.testing.assert_close(twice, once)


def test_one_parameter_in_two_tables() -> None:
    a, b = Variable("a", 2), Variable("b", 2)
    codes = torch.tensor([[-1, -1], [0, -1]])

    def f(shared: Tensor) -> Tensor:
        graph = FactorGraph((a, b), (Factor([a, b], shared), Factor([b, a], shared)))

        def reference(graph: FactorGraph) -> Tensor:
            return executor.log_partition(graph, [0, 1], codes)

        def accumulate(graph: FactorGraph, weights: np.ndarray) -> list[np.ndarray]:
            tables = executor.beliefs(graph, [0, 1], codes, factors=[0, 1])
            return [np.tensordot(weights, t.numpy(), 1)[None] for t in tables]

        return log_partition(graph, Kernel(lambda g: reference(g).numpy(), accumulate, reference))

    shared = torch.tensor([[0.2, -INF], [0.7, -0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(f, shared)
    assert torch.autograd.gradgradcheck(f, shared)
    assert torch.autograd.gradgradcheck(f, shared)


def test_constants_get_no_gradient_and_need_none() -> None:
    model = Model(5)
    kernel = model.by_torch()
    log_z = log_partition(model.graph(model.values), kernel)
    assert not log_z.requires_grad
    leaves = model.leaves()
    mixed = [*model.values[:2], *leaves[2:]]
    log_partition(model.graph(mixed), kernel).sum().backward()
    assert all(v.grad is None and not v.requires_grad for v in model.values)
    assert all(v.grad is not None for v in leaves[2:])
    with torch.no_grad():
        quiet = log_partition(model.graph(leaves), kernel)
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, log_z)


def test_soft_evidence_with_a_gradient() -> None:
    model = Model(6)
    kernel = model.by_torch()
    (v, w) = (0, 2)
    cards = list(model.cards.values())
    shared = torch.zeros(cards[v], dtype=torch.float64, requires_grad=True)
    rowwise = torch.zeros(3, cards[w], dtype=torch.float64, requires_grad=True)

    def f(shared: Tensor, rowwise: Tensor) -> Tensor:
        graph = with_tables(model.graph(model.values), {v: shared, w: rowwise})
        return log_partition(graph, kernel)

    assert torch.autograd.gradcheck(f, (shared, rowwise))
    assert torch.autograd.gradgradcheck(f, (shared, rowwise))
    graph = model.graph(model.values)
    p, _ = executor.marginals(graph, model.order, model.codes, wanted=[v, w])
    gradients = torch.autograd.grad(f(shared, rowwise).sum(), (shared, rowwise))
    torch.testing.assert_close(gradients[0], p[:, : cards[v]].sum(0))
    torch.testing.assert_close(gradients[1], p[:, cards[v] :])


def test_impossible_rows_have_no_gradient() -> None:
    a = Variable("a", 2)
    table = torch.tensor([0.0, -INF], dtype=torch.float64, requires_grad=True)
    codes = torch.tensor([[1], [-1]])
    given: list[list[float]] = []

    def reference(graph: FactorGraph) -> Tensor:
        return executor.log_partition(graph, [0], codes)

    def accumulate(graph: FactorGraph, weights: np.ndarray) -> list[np.ndarray]:
        given.append(weights.tolist())
        tables = executor.beliefs(graph, [0], codes, factors=[0])
        return [np.tensordot(weights, tables[0].numpy(), 1)[None]]

    kernel = Kernel(lambda g: reference(g).numpy(), accumulate, reference)
    log_z = log_partition(FactorGraph((a,), (Factor([a], table),)), kernel)
    assert log_z.tolist() == [-INF, 0]
    # the gradient of a sum in which an impossible row has an infinite share
    (gradient,) = torch.autograd.grad(
        log_z, table, torch.tensor([INF, 2.0], dtype=torch.float64), retain_graph=True
    )
    assert given == [[0.0, 2.0]]
    assert gradient.tolist() == [2, 0]
    (gradient,) = torch.autograd.grad(log_z.sum(), table, create_graph=True)
    assert gradient.tolist() == [1, 0]
    (second,) = torch.autograd.grad(gradient[0], table)
    assert second.tolist() == [0, 0]


def test_single_precision_stays_single() -> None:
    model = Model(7)
    leaves = [v.float().requires_grad_() for v in model.values]
    log_z = log_partition(model.graph(leaves), model.by_torch())
    assert log_z.dtype == torch.float32
    log_z.sum().backward()
    assert all(v.grad is not None and v.grad.dtype == torch.float32 for v in leaves)


def test_a_changed_table_is_noticed() -> None:
    model = Model(8)
    leaves = model.leaves()
    log_z = log_partition(model.graph(leaves), model.by_torch())
    with torch.no_grad():
        leaves[0].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        log_z.sum().backward()
