"""Arrays summed out at once give what the kernel gives, variable by variable."""

import numpy as np
import pytest
import torch

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.variable import Variable
from pgnn.inference.exact.differentiable import Differentiable
from pgnn.inference.exact.plate_elimination import PlateElimination
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph

N, ROWS = 20, 3


def tensor(rng, *shape, zeros=False):
    values = rng.normal(size=shape)
    if zeros:
        values[rng.random(shape) < 0.2] = -np.inf
    return torch.from_numpy(values)


def plates(seed, rowwise=False, zeros=False):
    """Leaves z (3 states) under w, one under each, under a root of them all; and a chain aside."""
    rng = np.random.default_rng(seed)
    batch = (ROWS,) if rowwise else ()
    z, w, root, chain = np.arange(N), np.arange(N, 2 * N), 2 * N, np.arange(2 * N + 1, 3 * N + 1)
    mixed = rng.permutation(N)
    cards = [3] * N + [2] * N + [2] + [2] * N
    aside = np.stack([chain[:-1], chain[1:]], axis=1)
    return FactorGraph(
        tuple(Variable(k, n) for k, n in enumerate(cards)),
        (
            Factor([Variable(root, 2)], tensor(rng, 2)),
            TableGroup(z[:, None], tensor(rng, *batch, N, 3, zeros=zeros)),
            TableGroup(np.stack([z, w], 1)[mixed], tensor(rng, N, 3, 2, zeros=zeros)),
            TableGroup(np.stack([w, np.full(N, root), z], 1), tensor(rng, *batch, 1, 2, 2, 3)),
            TableGroup(aside, tensor(rng, 1, 2, 2)),
            TableGroup(np.zeros((4, 0)), tensor(rng, *batch, 4)),
        ),
    )


def free(graph, *observed):
    mask = np.ones(len(graph.variables), dtype=np.bool_)
    mask[list(observed)] = False
    return mask


def log_z(graph, rows=1):
    nothing = np.full((rows, len(graph.variables)), -1, dtype=np.int32)
    return Solver(graph).log_evidence(nothing, None)


@pytest.mark.parametrize("rowwise", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_kernel(seed, rowwise, zeros):
    graph = plates(seed, rowwise, zeros)
    found = PlateElimination.find(graph, free(graph))
    # both leaves go, the root and the chain stay
    assert found.kept.tolist() == [*range(2 * N, 3 * N + 1)]
    assert len(found.steps) == 2
    rows = ROWS if rowwise else 1
    np.testing.assert_allclose(log_z(found(graph), rows), log_z(graph, rows), rtol=1e-12)


def test_observed_variables_stay():
    graph = plates(0)
    found = PlateElimination.find(graph, free(graph, 4, 2 * N))
    assert found.kept.tolist() == [
        *range(N),
        *range(2 * N, 3 * N + 1),
    ]  # one z was observed: w goes
    np.testing.assert_allclose(log_z(found(graph)), log_z(graph), rtol=1e-12)
    observed_root = PlateElimination.find(graph, free(graph, 2 * N))
    assert observed_root.kept.tolist() == [*range(2 * N, 3 * N + 1)]


def test_gradients_are_those_of_single_tables():
    graph = plates(1, rowwise=True)
    leaves = [x.requires_grad_() for x in graph.sources[:4]]
    graph = FactorGraph(graph.elements, graph.groups)
    found = PlateElimination.find(graph, free(graph))(graph)
    assert found.requires_grad

    def value(g):
        codes = np.full((ROWS, len(g.variables)), -1, dtype=np.int32)
        return Differentiable(
            Solver(g), RowEvidence(codes, True, None, np.zeros(ROWS))
        )._log_evidence()

    ours = torch.autograd.grad(value(found).sum(), leaves)
    theirs = torch.autograd.grad(value(graph).sum(), leaves)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_variables_that_share_some_neighbours_only_stay():
    rng = np.random.default_rng(0)
    z, w = np.arange(N), np.arange(N, 2 * N)
    other = np.where(np.arange(N) < 5, w, np.roll(w, 1))  # the same one for some
    graph = FactorGraph(
        tuple(Variable(k, 2) for k in range(2 * N)),
        (
            TableGroup(np.stack([z, w], 1), tensor(rng, 1, 2, 2)),
            TableGroup(np.stack([z, other], 1), tensor(rng, 1, 2, 2)),
        ),
    )
    found = PlateElimination.find(graph, free(graph))
    np.testing.assert_allclose(log_z(found(graph)), log_z(graph), rtol=1e-12)
    assert set(found.kept) >= set(z.tolist()) or set(found.kept) >= set(w.tolist())


def test_large_tables_and_short_arrays_are_left_to_the_kernel():
    rng = np.random.default_rng(0)
    few = FactorGraph(
        tuple(Variable(k, 2) for k in range(8)),
        (TableGroup(np.arange(8)[:, None], tensor(rng, 8, 2)),),
    )
    assert PlateElimination.find(few, free(few)).steps == ()
    wide = FactorGraph(
        tuple(Variable(k, 40) for k in range(2 * N)),
        (TableGroup(np.arange(2 * N).reshape(N, 2), tensor(rng, 1, 40, 40)),),
    )
    assert PlateElimination.find(wide, free(wide)).steps == ()


def test_tables_on_their_own_keep_their_variables():
    graph = plates(0)
    own = Factor([graph.variables[3]], tensor(np.random.default_rng(5), 3))
    graph = graph.with_factors(own)
    found = PlateElimination.find(graph, free(graph))
    assert found.kept.tolist() == [*range(N), *range(2 * N, 3 * N + 1)]
    np.testing.assert_allclose(log_z(found(graph)), log_z(graph), rtol=1e-12)
