"""Chains whose transitions are listed: the kernels along them against chains of all pairs."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pgnn
from pgnn.errors import Intractable, ModelError
from pgnn.inference.chains import edge_chain as edge_chain_module
from pgnn.inference.chains import label_states, labelled_chain, wide_chain
from pgnn.inference.chains.edge_chain import EdgeChain, EdgeRows
from pgnn.inference.chains.edge_log_partition import edge_log_partition, wide_log_partition
from pgnn.inference.chains.kernels import edge_messages, vector_registers
from pgnn.inference.chains.label_states import LabelMoves, LabelStates
from pgnn.inference.chains.labelled_chain import LabelledChain, LabelledLikelihood
from pgnn.inference.chains.wide_chain import WideChain

K = 3
MASK = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=bool)
# after a label 2 no other may come, and a row ends with 1 or 2
STOPS = LabelMoves(np.array([[0, 1, 2], [0, 1, 2], [-1, -1, 2]]), 0, np.array([False, True, True]))
CASES: dict[str, tuple[Any, int, Any]] = {
    "order 1": (np.ones((K, K), dtype=bool), 1, None),
    "order 2": (np.ones((K, K), dtype=bool), 2, None),
    "order 3": (np.ones((K, K), dtype=bool), 3, None),
    "order 2, mask": (MASK, 2, None),
    "order 3, mask": (MASK, 3, None),
    "automaton": (np.ones((K, K), dtype=bool), 1, STOPS),
    "order 2, mask, automaton": (MASK, 2, STOPS),
}
LENGTHS = [7, 1, 0, 12, 2, 3, *[1 + n % 11 for n in range(34)]]


class Case:
    """A chain with random scores; row 3 has hard ones, row 5 none that are possible."""

    def __init__(self, name: str, scale: float = 1.0, kind: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(len(name))
        self.states = LabelStates(*CASES[name])
        shapes = (K,), (len(self.states.edges),), (len(LENGTHS), max(LENGTHS), K)
        self.parts = [
            (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(kind)
            for shape in shapes
        ]
        self.parts[2][3, :, 0] -= 40.0
        self.parts[2][5, 1] = -torch.inf
        self.lengths = torch.tensor(LENGTHS)

    def fast(self) -> LabelledChain:
        return LabelledChain(self.states, *self.parts, self.lengths)

    def slow(self) -> WideChain:
        return WideChain(self.states.edges, *self.parts, self.lengths)

    def kernel(self) -> EdgeChain:
        return self.fast()._edges

    def requires_grad(self) -> list[Tensor]:
        return [part.clone().requires_grad_() for part in self.parts]


@pytest.fixture(params=CASES)
def case(request: Any) -> Case:
    return Case(request.param)


def possible(chain: Any) -> Tensor:
    return ~chain.log_partition().isneginf()


def test_sums_are_those_of_all_pairs_of_states(case: Case) -> None:
    for ask in ("log_partition", "smoothed", "filtered"):
        found, expected = getattr(case.fast(), ask)(), getattr(case.slow(), ask)()
        torch.testing.assert_close(found, expected, equal_nan=True)


def test_best_paths_are_those_of_all_pairs_of_states(case: Case) -> None:
    for k in (1, 4):
        found, expected = case.fast().best(k), case.slow().best(k)
        assert torch.equal(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])


def test_ties_go_to_the_smallest_last_labels(case: Case) -> None:
    for part in case.parts:
        part.zero_()
    for k in (1, 3):
        assert torch.equal(case.fast().best(k)[0], case.slow().best(k)[0])


def test_draws_are_those_of_all_pairs_of_states(case: Case) -> None:
    fast, slow = case.fast(), case.slow()
    found = torch.from_numpy(fast._edges.sample(20, 7)[0]).reshape(20, *case.parts[2].shape[:2])
    (chain,) = slow._blocks()
    states = torch.from_numpy(chain._cpu.sample(20, 7))
    assert torch.equal(found, slow._labels_of(states))


@pytest.mark.parametrize("rows", ["alike", "weighted"])
def test_gradients_are_those_of_all_pairs_of_states(case: Case, rows: str) -> None:
    weights = torch.linspace(0.0 if rows == "weighted" else 2.0, 2.0, len(LENGTHS)).double()
    weights = weights.masked_fill(~possible(case.fast()), 0.0)
    steps = torch.arange(len(LENGTHS)).numpy() * max(LENGTHS)
    where = EdgeRows(steps, np.array(LENGTHS))
    found = []
    for function in (edge_log_partition, wide_log_partition):
        parts = case.requires_grad()
        flat = parts[2].flatten(0, 1)
        logs = function(case.states.edges, where, parts[0], parts[1], flat)
        found.append(torch.autograd.grad(logs.nan_to_num(neginf=0.0) @ weights, parts))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_second_derivatives() -> None:
    states, where = LabelStates(*CASES["order 2, mask"]), EdgeRows(np.array([0]), np.array([3]))
    generator = torch.Generator().manual_seed(1)
    parts = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((K,), (len(states.edges),), (3, K))
    ]
    assert torch.autograd.gradgradcheck(
        lambda *p: edge_log_partition(states.edges, where, *p), parts
    )


@pytest.mark.parametrize("name", ["order 2", "order 2, mask, automaton"])
def test_numbers_that_cannot_be_held_are_not_lost(name: str) -> None:
    case = Case(name, scale=400.0)
    kernel = case.kernel()
    sums = kernel._empty(2)
    kernel._sum(sums, 2, kernel.present)
    assert len(kernel._doubtful(sums)) > 3  # most are impossible as they are computed first
    for ask in ("log_partition", "smoothed", "filtered"):
        found, expected = getattr(case.fast(), ask)(), getattr(case.slow(), ask)()
        torch.testing.assert_close(found, expected, equal_nan=True)
    weights = np.linspace(0.5, 1.5, len(LENGTHS))
    counts = kernel.smooth(weights, counted=True).counts
    total = sum(
        w * chain.expected_transitions()[n].nan_to_num(0.0)
        for chain in case.slow()._blocks()
        for n, w in enumerate(weights)
    )
    edges = case.states.edges
    np.testing.assert_allclose(counts, total.numpy()[edges.sources, edges.targets], atol=1e-9)
    draws = case.fast().sample(3, seed=0)
    assert torch.equal(draws >= 0, case.fast().best()[0].expand(3, -1, -1) >= 0)


def test_single_precision() -> None:
    case, exact = Case("order 2", kind=torch.float32), Case("order 2")
    found = case.fast().smoothed()
    assert {x.dtype for x in found} == {torch.float32}
    expected = [x.float() for x in exact.fast().smoothed()]
    torch.testing.assert_close(list(found), expected, equal_nan=True)


def test_other_devices_take_the_chain_of_all_pairs(case: Case, monkeypatch: Any) -> None:
    expected, (paths, scores) = case.fast().smoothed(), case.fast().best()
    monkeypatch.setattr(labelled_chain, "has_numba", lambda: False)
    torch.testing.assert_close(case.fast().smoothed(), expected, equal_nan=True)
    assert torch.equal(case.fast().best()[0], paths)
    torch.testing.assert_close(case.fast().log_partition(), expected[1])
    assert case.fast().sample(2, seed=0).shape == (2, *paths.shape)
    assert scores.shape == (len(LENGTHS),)


def test_sizes_are_checked_before_memory_is_taken(monkeypatch: Any) -> None:
    case = Case("order 3")
    monkeypatch.setattr(edge_chain_module, "MAX_ROOM", 1000)
    with pytest.raises(Intractable, match="smaller order"):
        case.fast().smoothed()
    monkeypatch.setattr(wide_chain, "MAX_TABLE", 1000)
    with pytest.raises(Intractable, match="transition table over 39 states"):
        case.fast().entropy()


def test_limits_are_in_bytes_and_in_transitions(monkeypatch: Any) -> None:
    case = Case("order 3")  # 39 states; tables of 8 bytes a number
    steps, width = max(LENGTHS), vector_registers.WIDTH
    room = 8 * (steps + edge_messages.COUNTED) * 39 * width
    limits = [
        (edge_chain_module, "MAX_ROOM", room, lambda: case.fast().smoothed()),
        (wide_chain, "MAX_TABLE", 8 * 39**2, lambda: case.fast().entropy()),
        (label_states, "MAX_EDGES", 39 * K, lambda: LabelStates(*CASES["order 3"])),
    ]
    for module, name, limit, ask in limits:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, limit)
            ask()
            patch.setattr(module, name, limit - 1)
            with pytest.raises(Intractable, match="Give a smaller order"):
                ask()


def test_order_three_of_many_labels_fits() -> None:
    states = LabelStates(np.ones((23, 23), dtype=bool), 3)
    assert (len(states), len(states.edges)) == (23 + 23**2 + 23**3, 23**2 + 23**3 + 23**4)
    zeros = torch.zeros(23), torch.zeros(len(states.edges)), torch.zeros(2, 78, 23)
    chain = LabelledChain(states, *(part.double() for part in zeros))
    torch.testing.assert_close(
        chain.log_partition(), torch.full((2,), 78 * math.log(23.0)).double()
    )


def test_only_possible_rows_are_drawn_from_all_pairs(monkeypatch: Any) -> None:
    case = Case("order 2", scale=400.0)
    asked = list[int]()
    wide = LabelledChain._wide_chain

    def noted(chain: LabelledChain, rows: Any) -> WideChain:
        asked.extend(rows.tolist())
        return wide(chain, rows)

    monkeypatch.setattr(LabelledChain, "_wide_chain", noted)
    draws = case.fast().sample(3, seed=0)
    monkeypatch.undo()
    assert asked
    assert 5 not in asked
    assert bool((draws[:, 5] == -1).all())
    assert all(bool(possible(case.fast())[row]) for row in asked)


def test_no_rows_and_no_steps() -> None:
    states = LabelStates(*CASES["order 2"])
    parts = torch.zeros(K), torch.zeros(len(states.edges))
    none = LabelledChain(states, *parts, torch.zeros(0, 4, K))
    assert none.log_partition().shape == (0,)
    assert none.best()[0].shape == (0, 4)
    assert none.log_score(torch.zeros(0, 4, dtype=torch.int64)).shape == (0,)
    empty = LabelledChain(states, *parts, torch.zeros(2, 0, K))
    assert empty.log_partition().tolist() == [0.0, 0.0]
    assert empty.smoothed()[0].shape == (2, 0, K)
    assert empty.log_score(torch.zeros(2, 0, dtype=torch.int64)).tolist() == [0.0, 0.0]
    assert empty.best(2)[1].tolist() == [[0.0, float("-inf")]] * 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_logs_are_named(value: float) -> None:
    case = Case("order 2")
    for part, (message, at) in enumerate(
        [("begins .*entry .1.", 1), ("moves .*entry .4.", 4), ("row 3, step 7", (3, 7, 2))]
    ):
        wrong = Case("order 2")
        wrong.parts[part][at] = value
        with pytest.raises(ModelError, match=message):
            wrong.fast()
    case.parts[2][1, 1:] = value  # beyond the end
    found = case.fast().smoothed()
    torch.testing.assert_close(found, Case("order 2").fast().smoothed(), equal_nan=True)


def test_shapes_and_lengths_are_checked() -> None:
    case, (begins, moves, field) = Case("order 2"), Case("order 2").parts
    wrong: list[tuple[tuple[Any, ...], str]] = [
        ((begins[:2], moves, field), "begins must be .3,., got .2,."),
        ((begins, moves[:2], field), "moves must be"),
        ((begins, moves, field[0]), "log_field must be .B, T, K."),
        ((begins, moves, field[..., :2]), "3 labels, got 2"),
        ((begins, moves, field.long()), "floating-point"),
        ((begins, moves, field, case.lengths + 9), "between 0 and 12; row 0 has 16"),
        ((begins, moves, field, case.lengths - 1), "between 0 and 12; row 2 has -1"),
        ((begins, moves, field, case.lengths[:3]), "lengths must be .40,. integers"),
        ((begins, moves, field, case.lengths.double()), "integers"),
    ]
    for parts, message in wrong:
        with pytest.raises(ModelError, match=message):
            LabelledChain(case.states, *parts)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_learned_from_is_checked(value: float) -> None:
    states = LabelStates(*CASES["order 2"])
    lengths, codes = torch.tensor([2, 0, 3]), torch.zeros(3, 3, dtype=torch.int64)
    with pytest.raises(ModelError, match="between 0 and 3; row 1 has 4"):
        LabelledLikelihood(states, torch.tensor([2, 4, 3]), codes)
    likelihood = LabelledLikelihood(states, lengths, codes)
    tables = [torch.zeros((K,) * n) for n in (2, 3)]
    assert bool(likelihood(torch.zeros(5, K), torch.zeros(K), tables).isfinite().all())
    steps = torch.zeros(5, K)
    steps[3, 1] = value
    with pytest.raises(ModelError, match="row 2, step 1"):
        likelihood(steps, torch.zeros(K), tables)
    with pytest.raises(ModelError, match=r"begins .*entry .0."):
        likelihood(torch.zeros(5, K), torch.full((K,), value), tables)
    with pytest.raises(ModelError, match=r"scores of steps must be .5, 3."):
        likelihood(torch.zeros(4, K), torch.zeros(K), tables)
    tables[1][0, 1, 2] = value
    with pytest.raises(ModelError, match=r"moves .*entry"):
        likelihood(torch.zeros(5, K), torch.zeros(K), tables)


@pytest.mark.parametrize("ask", ["smoothed", "filtered"])
def test_derivatives_of_probabilities_are_those_of_all_pairs(case: Case, ask: str) -> None:
    generator, found = torch.Generator().manual_seed(2), []
    weights = torch.randn((len(LENGTHS), max(LENGTHS), K), generator=generator).double()
    sums = torch.randn((len(LENGTHS), max(LENGTHS)), generator=generator).double()
    sums = sums if ask == "filtered" else sums[:, 0]
    for kind in (LabelledChain, WideChain):
        parts = case.requires_grad()
        states: Any = case.states if kind is LabelledChain else case.states.edges
        probs, logs = getattr(kind(states, *parts, case.lengths), ask)()
        known = logs.masked_fill(~logs.isfinite(), 0.0)
        total = (probs.nan_to_num(0.0) * weights).sum() + (known * sums).sum()
        probs = probs[torch.arange(max(LENGTHS)) < case.lengths[:, None]]
        found.append((probs, logs, *torch.autograd.grad(total, parts)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)


@pytest.mark.parametrize("ask", ["smoothed", "filtered"])
def test_probabilities_are_differentiable_twice(ask: str) -> None:
    states, lengths = LabelStates(*CASES["order 2, mask"]), torch.tensor([3, 1])
    generator = torch.Generator().manual_seed(1)
    shapes = (K,), (len(states.edges),), (2, 3, K)
    parts = [torch.randn(s, generator=generator).double().requires_grad_() for s in shapes]

    def answer(*numbers: Tensor) -> tuple[Tensor, Tensor]:
        return getattr(LabelledChain(states, *numbers, lengths), ask)()  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(answer, parts)
    assert torch.autograd.gradgradcheck(answer, parts)


def test_only_derivatives_of_probabilities_take_a_table(monkeypatch: Any) -> None:
    case = Case("order 3")
    monkeypatch.setattr(wide_chain, "MAX_TABLE", 1000)
    parts = case.requires_grad()
    chain = LabelledChain(case.states, *parts, case.lengths)
    probs, log_z = chain.smoothed()
    torch.testing.assert_close([probs, log_z], list(case.fast().smoothed()), equal_nan=True)
    torch.testing.assert_close(chain.filtered(), case.fast().filtered(), equal_nan=True)
    total = log_z.masked_fill(log_z.isneginf(), 0.0).sum()
    expected = chain.log_partition().masked_fill(log_z.isneginf(), 0.0).sum()
    for ours, theirs in zip(
        *(torch.autograd.grad(x, parts) for x in (total, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(Intractable, match="transition table over 39 states"):
        chain.smoothed()[0][0].sum().backward()


def test_a_fitted_field_of_many_labels_answers_without_all_pairs(monkeypatch: Any) -> None:
    monkeypatch.setattr(wide_chain, "MAX_TABLE", 1000)
    letters = "abcdefghijklm"
    tags = [[*letters], [*letters[::-1]], [*letters[3:9]]]
    inputs: dict[str, Any] = {"attributes": [[[w] for w in row] for row in tags]}
    field = pgnn.ConditionalRandomField([*letters], order=3)
    field.fit(tags, inputs=inputs, learner=pgnn.Gradient(l2=0.1), progress=False)
    assert any(p.requires_grad for p in field.parameters())
    asked: dict[str, Any] = {"attributes": [[[w] for w in row] for row in ("abcd", "mlkj")]}
    smoothed = field.query(None, inputs=asked)["label"].probs
    torch.testing.assert_close(field.smooth(inputs=asked)["label"].probs, smoothed)
    filtered = field.filter(inputs=asked)["label"].probs
    torch.testing.assert_close(filtered[0, 3], smoothed[0, 3])
    torch.testing.assert_close(smoothed[0].sum(1), torch.ones(4).to(smoothed))
    assert field.decode(inputs=asked)["label"][0].tolist() == smoothed[0].argmax(1).tolist()
    with torch.no_grad():
        torch.testing.assert_close(field.query(None, inputs=asked)["label"].probs, smoothed)
