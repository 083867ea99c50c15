"""One contract for every model of the zoo and every engine that claims to answer it.

A new engine is one more line in :data:`ENGINES`; what it cannot do it must say by ``Unsupported``.
"""

import copy
import io
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import pgnn
from pgnn.errors import EvidenceError, ImpossibleEvidence, ModelError
from pgnn.factors.piece import Piece
from pgnn.inference.engine import Engine
from tests import oracle
from tests.zoo import NUM_ROWS, ZOO, Example, Row


@dataclass(frozen=True)
class Case:
    """A model of the zoo with an engine that answers about it."""

    example: Example
    engine: Engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.example, name)

    def query(
        self, model: pgnn.Model, targets: Any = None, evidence: Any = None, **options: Any
    ) -> Any:
        asked = self._asked(model, targets)
        return model.query(asked, evidence, engine=self.engine, **options)

    def most_probable(
        self, model: pgnn.Model, evidence: Any = None, targets: Any = None, **options: Any
    ) -> Any:
        asked = self._asked(model, targets)
        return model.most_probable(evidence, asked, engine=self.engine, **options)

    def _asked(self, model: pgnn.Model, targets: Any) -> Any:
        """What is compared with tables: all that is discrete, if nothing was named."""
        discrete = all(v.is_discrete for v in model.variables.values())
        return self.names if targets is None and not discrete else targets

    def sample(self, model: pgnn.Model, *args: Any, **options: Any) -> Any:
        return model.sample(*args, engine=self.engine, **options)

    def log_prob(self, model: pgnn.Model, *args: Any, **options: Any) -> Tensor:
        return model.log_prob(*args, engine=self.engine, **options)

    def close(self, got: Any, expected: Any) -> None:
        """Compare numbers, an infinity only with itself."""
        array = got.detach().numpy() if isinstance(got, Tensor) else np.asarray(got)
        np.testing.assert_allclose(
            array, np.asarray(expected), rtol=self.tolerance, atol=self.tolerance
        )


ENGINES: list[tuple[Engine, set[str]]] = [(pgnn.JunctionTree(), set(ZOO))]
"""Exact engines, with the models that each claims."""
CASES = [
    pytest.param(Case(ZOO[name], engine), id=f"{name}-{type(engine).__name__}")
    for engine, claimed in ENGINES
    for name in ZOO
    if name in claimed
]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=[c for c in CASES if c.values[0].example.impossible])
def doomed(request: pytest.FixtureRequest) -> Case:
    """A case that has impossible evidence."""
    return request.param


@pytest.fixture(autouse=True)
def untouched_random_state() -> Iterator[None]:
    """No verb may draw from or seed the global generators."""
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


# --- marginals and log evidence -----------------------------------------------------------------


def test_one_row(case: Case) -> None:
    model = case.make()
    for r, row in enumerate(case.rows):
        posterior = case.query(model, None, case.one(r), **case.covariates(r))
        joint = case.joint(r, row)
        assert list(posterior) == case.names
        assert (posterior.kind, posterior.engine) == ("exact", type(case.engine).__name__)
        # inputs come in rows, so their answers do
        squeeze = (lambda x: x[0]) if case.inputs else (lambda x: x)
        for name, marginal in posterior.items():
            p = squeeze(marginal.probs)
            assert marginal.batch_shape == ((1,) if case.inputs else ())
            assert p.shape == (case.cards[name],)
            case.close(p.sum(), 1.0)
            case.close(p, oracle.marginal(joint, [name]))
        case.close(squeeze(posterior.log_evidence), oracle.log_evidence(joint))
        assert str(posterior)


def test_types_follow_the_parameters(case: Case) -> None:
    model = case.make()
    for dtype in (torch.float64, torch.float32):
        model = model.to(dtype)
        posterior = case.query(model, None, case.batch(), **case.covariates())
        assert posterior.log_evidence.dtype == dtype
        assert all(p.probs.dtype == dtype for p in posterior.values())
        for r, row in enumerate(case.rows):
            joint = case.joint(r, row)
            for name, p in posterior.items():
                expected = oracle.marginal(joint, [name])
                np.testing.assert_allclose(p.probs[r].detach().numpy(), expected, atol=1e-5)


def test_a_batch_is_its_rows(case: Case) -> None:
    model = case.make()
    posterior = case.query(model, None, case.batch(), **case.covariates())
    assert posterior.log_evidence.shape == (NUM_ROWS,)
    for r, row in enumerate(case.rows):
        joint = case.joint(r, row)
        alone = case.query(model, None, case.one(r), **case.covariates(r))
        case.close(posterior.log_evidence[r], oracle.log_evidence(joint))
        case.close(posterior.log_evidence[r], alone.log_evidence.reshape(()).detach())
        for name, p in posterior.items():
            assert p.batch_shape == (NUM_ROWS,)
            assert p.probs.shape == (NUM_ROWS, case.cards[name])
            case.close(p.probs[r], oracle.marginal(joint, [name]))
            case.close(p.probs[r], alone[name].probs.reshape(-1).detach())


def test_many_rows_are_their_distinct_ones(case: Case) -> None:
    """More rows than a tile has, in an order that mixes what they observe."""
    model = case.make()
    pick = np.random.default_rng(0).permutation(np.repeat(np.arange(NUM_ROWS), 7))[:-1]
    batch = {n: x[torch.from_numpy(pick)] for n, x in case.batch().items()}
    inputs = {n: x[torch.from_numpy(pick)] for n, x in case.inputs.items()}
    options = {"inputs": inputs} if inputs else {}
    few = case.query(model, None, case.batch(), **case.covariates())
    many = case.query(model, None, batch, **options)
    case.close(many.log_evidence, few.log_evidence[pick].detach())
    for name in case.names:
        case.close(many[name].probs, few[name].probs[pick].detach())


def test_targets_in_any_number_and_order(case: Case) -> None:
    model = case.make()
    whole = case.query(model, None, case.batch(), **case.covariates())
    backward = case.names[::-1]
    for targets in (backward, backward[:1], backward[-1:] + backward[:-1], []):
        some = case.query(model, targets, case.batch(), **case.covariates())
        assert list(some) == list(targets)
        case.close(some.log_evidence, whole.log_evidence.detach())
        for name in targets:
            case.close(some[name].probs, whole[name].probs.detach())
    single = case.query(model, case.names[0], case.batch(), **case.covariates())
    assert list(single) == case.names[:1]


def test_the_order_of_findings_is_irrelevant(case: Case) -> None:
    model = case.make()
    for r in (1, 3, None):
        evidence = case.batch() if r is None else case.one(r)
        turned = dict(reversed(list(evidence.items())))
        first = case.query(model, None, evidence, **case.covariates(r))
        second = case.query(model, None, turned, **case.covariates(r))
        assert torch.equal(first.log_evidence, second.log_evidence)
        assert all(torch.equal(first[n].probs, second[n].probs) for n in case.names)


def test_joints(case: Case) -> None:
    model = case.make()
    names = case.names
    scopes = {(a, b) for a in names for b in (names[0], names[-1]) if a != b}
    scopes |= {tuple(names[:1]), tuple(names[-3:])}
    posterior = case.query(model, names[0], case.batch(), **case.covariates())
    joints = [case.joint(r, row) for r, row in enumerate(case.rows)]
    for scope in scopes:
        table = posterior.joint(*scope)
        assert table.names == scope
        case.close(table.values, [oracle.marginal(joint, scope) for joint in joints])
    if not case.inputs:
        single = case.query(model, None, case.one(2)).joint(*names[-2:])
        assert single.batch_shape == ()
        case.close(single.values, oracle.marginal(joints[2], names[-2:]))


def test_soft_evidence(case: Case) -> None:
    model = case.make()
    soft = case.soft
    batch = {n: x for n, x in case.batch().items() if n not in soft}
    rows = [{n: s for n, s in row.items() if n not in soft} for row in case.rows]
    stacked = {n: torch.from_numpy(np.stack([p * (r + 1) for r in range(NUM_ROWS)]))
               for n, p in soft.items()}  # fmt: skip
    posterior = case.query(model, None, {**batch, **stacked}, **case.covariates())
    for r, row in enumerate(rows):
        joint = case.joint(r, row, {n: p * (r + 1) for n, p in soft.items()})
        case.close(posterior.log_evidence[r], oracle.log_evidence(joint))
        for name, p in posterior.items():
            case.close(p.probs[r], oracle.marginal(joint, [name]))
    best = case.most_probable(model, {**batch, **stacked}, **case.covariates())
    case.close(
        best.log_prob,
        [
            oracle.mode(case.joint(r, row, {n: p * (r + 1) for n, p in soft.items()}))[1]
            for r, row in enumerate(rows)
        ],
    )


def test_no_rows(case: Case) -> None:
    model = case.make()
    empty = {n: x[:0] for n, x in case.batch().items()}
    inputs = {n: x[:0] for n, x in case.inputs.items()}
    options = {"inputs": inputs} if inputs else {}
    posterior = case.query(model, None, empty, **options)
    assert posterior.log_evidence.shape == (0,)
    assert all(p.probs.shape == (0, case.cards[n]) for n, p in posterior.items())
    assert posterior.joint(case.names[0]).values.shape == (0, case.cards[case.names[0]])
    best = case.most_probable(model, empty, **options)
    assert all(best[n].shape == (0,) for n in case.names)
    assert case.most_probable(model, empty, k=2, **options).log_prob.shape == (0, 2)
    assert case.log_prob(model, empty, **options).shape == (0,)
    if not case.reals and not case.inputs:
        assert case.sample(model, 3, empty).codes.shape == (3, 0, len(case.names))
        assert model.explain(None, empty, engine=case.engine).fits


# --- most probable states -----------------------------------------------------------------------


def _codes(case: Case, model: pgnn.Model, found: Any) -> Row:
    return {n: model.variables[n].index(found[n]) for n in case.names}


def test_most_probable(case: Case) -> None:
    model = case.make()
    batch = case.most_probable(model, case.batch(), **case.covariates())
    assert batch.log_prob.shape == (NUM_ROWS,)
    for r, row in enumerate(case.rows):
        joint = case.joint(r, row)
        top = oracle.mode(joint)[1]
        found = {n: int(batch[n][r]) for n in case.names}
        case.close(batch.log_prob[r], top)
        case.close(math.log(oracle.weight(joint, found)), top)
        assert row.items() <= found.items()
        if case.inputs:
            continue
        single = case.most_probable(model, case.one(r))
        assert list(single) == case.names
        case.close(single.log_prob, top)
        case.close(math.log(oracle.weight(joint, _codes(case, model, single))), top)


def test_k_best(case: Case) -> None:
    model = case.make()
    k = 7
    batch = case.most_probable(model, case.batch(), k=k, **case.covariates())
    assert batch.log_prob.shape == (NUM_ROWS, k)
    for r, row in enumerate(case.rows):
        joint = case.joint(r, row)
        expected = oracle.k_best(joint, k)
        observed = set()
        for place, (_, log_prob) in enumerate(expected):
            found = {n: int(batch[place][n][r]) for n in case.names}
            observed.add(tuple(found.values()))
            case.close(batch.log_prob[r, place], log_prob)
            case.close(math.log(oracle.weight(joint, found)), log_prob)
        assert len(observed) == len(expected)
        assert (batch.log_prob[r, len(expected) :] == -math.inf).all()
        if not case.inputs:
            single = case.most_probable(model, case.one(r), k=k)
            assert len(single) == len(expected)
            case.close(single.log_prob, [value for _, value in expected])


def test_marginal_map(case: Case) -> None:
    model = case.make()
    for targets in (case.names[:1], case.names[::2], case.names[::-2]):
        batch = case.most_probable(model, case.batch(), targets, **case.covariates())
        best = case.most_probable(model, case.batch(), targets, k=3, **case.covariates())
        assert list(batch) == list(targets)
        for r, row in enumerate(case.rows):
            joint = case.joint(r, row)
            found = {n: int(batch[n][r]) for n in targets}
            case.close(batch.log_prob[r], oracle.marginal_map(joint, targets)[1])
            case.close(math.log(oracle.weight(joint, found)), batch.log_prob[r].detach())
            rest = oracle.Joint(tuple(targets), oracle._sum_to(joint, targets))
            logs = [value for _, value in oracle.k_best(rest, 3)]
            case.close(best.log_prob[r], [*logs, *[-math.inf] * (3 - len(logs))])


# --- draws --------------------------------------------------------------------------------------


def test_draws(case: Case) -> None:
    if case.inputs or case.reals:
        pytest.skip("tables differ from row to row; see test_draws_of_a_batch")
    model = case.make()
    n = 8000
    for r in (0, 2, 4):
        samples = case.sample(model, n, case.one(r), seed=r)
        assert list(samples) == case.names
        assert all(x.shape == (n,) and x.dtype == torch.int64 for x in samples.values())
        _check_frequencies(case, samples, case.joint(r, case.rows[r]))


def test_draws_of_a_batch(case: Case) -> None:
    if case.reals:
        pytest.skip("real variables are drawn for one row")
    model = case.make()
    samples = case.sample(model, 4000, case.batch(), seed=1, **case.covariates())
    assert samples.codes.shape == (4000, NUM_ROWS, len(case.names))
    for r, row in enumerate(case.rows):
        mine = {n: samples[n][:, r] for n in case.names}
        _check_frequencies(case, mine, case.joint(r, row))


def _check_frequencies(case: Case, samples: Any, joint: oracle.Joint) -> None:
    """Every joint state as often as it should be, impossible ones never.

    A state of probability p is drawn with variance p (1 - p) / n; five sigma leave a chance of
    6e-7 for each of the fewer than 10,000 states looked at. Where n p is small the Poisson tail is
    heavier than the normal one, which 3 / n makes up for.
    """
    states = np.stack([samples[n].numpy() for n in joint.names])
    p = joint.table.ravel() / joint.table.sum()
    n = states.shape[1]
    frequency = np.bincount(np.ravel_multi_index(states, joint.table.shape), minlength=p.size) / n
    assert (frequency[p == 0] == 0).all()
    assert (np.abs(frequency - p) <= 5 * np.sqrt(p * (1 - p) / n) + 3 / n).all()


def test_seeds(case: Case) -> None:
    if case.reals:
        pytest.skip("real variables are drawn for one row")
    model = case.make()
    draw = {}
    for key, seed in (("a", 3), ("again", 3), ("b", 4), ("none", None)):
        draw[key] = case.sample(model, 200, case.batch(), seed=seed, **case.covariates()).codes
    assert torch.equal(draw["a"], draw["again"])
    if max(case.cards.values()) > 1:
        assert not torch.equal(draw["a"], draw["b"])
        assert not torch.equal(draw["a"], draw["none"])


def test_unobserved_everywhere_is_still_a_batch(case: Case) -> None:
    if case.rowwise:
        pytest.skip("rows come with the values")
    model = case.make()
    name = case.names[0]
    for size in (0, 1, 3):
        blank = {name: torch.full((size,), -1)}
        assert case.sample(model, 5, blank, seed=0).codes.shape == (5, size, len(case.names))
        assert case.query(model, None, blank)[name].batch_shape == (size,)
        assert case.most_probable(model, blank)[name].shape == (size,)
        assert case.log_prob(model, blank).shape == (size,)


# --- log probabilities --------------------------------------------------------------------------


UNDIRECTED = (pgnn.MarkovRandomField, pgnn.DeepBeliefNetwork)
DIRECTED = (pgnn.BayesianNetwork, pgnn.SigmoidBeliefNetwork)


def test_log_prob(case: Case) -> None:
    model = case.make()
    got = case.log_prob(model, case.batch(), **case.covariates())
    assert got.shape == (NUM_ROWS,)
    undirected = isinstance(model, UNDIRECTED)
    for r, row in enumerate(case.rows):
        base = oracle.log_evidence(case.joint(r)) if undirected else 0.0
        expected = oracle.log_evidence(case.joint(r, row)) - base
        case.close(got[r], expected)
        if not case.inputs:
            single = case.log_prob(model, case.one(r))
            assert single.shape == ()
            case.close(single, expected)


def test_log_prob_of_complete_rows(case: Case) -> None:
    if case.rowwise:
        pytest.skip("no more rows than there are values")
    model = case.make()
    states = oracle.all_states({n: case.cards[n] for n in case.names})
    joint = case.joint(0)
    expected = oracle.log_prob_rows(joint, states)
    if not isinstance(model, UNDIRECTED):
        expected = expected + oracle.log_evidence(joint)
    case.close(case.log_prob(model, case.batch(states)), expected)
    matrix = torch.tensor([list(row.values()) for row in states])
    case.close(case.log_prob(model, pgnn.codes(matrix)), expected)


# --- prepared queries ---------------------------------------------------------------------------


def test_compiled_queries(case: Case) -> None:
    if case.rowwise:
        pytest.skip("compiled queries look at states alone")
    model = case.make()
    codes = case.codes()
    want = case.query(model, None, case.batch())
    whole = model.compile(engine=case.engine)
    assert whole.observed == whole.targets == tuple(case.names)
    answer = whole(codes)
    case.close(answer.log_evidence, want.log_evidence.detach())
    for name in case.names:
        case.close(answer.marginals[:, whole.columns[name]], want[name].probs.detach())
        single = whole(codes[2])
        case.close(single.marginals[whole.columns[name]], want[name].probs[2].detach())
    last, first = case.names[-1], case.names[:1]
    states = torch.arange(case.cards[first[0]]).reshape(-1, 1)
    possible = [oracle.weight(case.joint(0), {first[0]: int(s)}) > 0 for s in states]
    some = model.compile(last, first, engine=case.engine)
    assert (some.targets, some.observed) == ((last,), tuple(first))
    expected = case.query(model, last, {first[0]: states[:, 0]}, errors="nan")
    answer = some(states)
    case.close(answer.log_evidence, expected.log_evidence.detach())
    case.close(answer.marginals[possible], expected[last].probs[possible].detach())
    assert not answer.marginals.isnan().any()


def test_compiled_queries_refuse_wrong_codes(case: Case) -> None:
    if case.rowwise:
        pytest.skip("compiled queries look at states alone")
    model = case.make()
    query = model.compile(None, case.names[:1], engine=case.engine)
    wrong = (
        torch.zeros(2, 3, dtype=torch.int64),
        torch.tensor([[99]]),
        torch.tensor([[-2]]),
        torch.tensor([[0.5]]),
        np.array([["no"]]),
    )
    for codes in wrong:
        with pytest.raises(EvidenceError):
            query(codes)
    with pytest.raises(EvidenceError, match="twice"):
        model.compile(None, [case.names[0], case.names[0]], engine=case.engine)
    with pytest.raises(EvidenceError, match="unknown"):
        model.compile("nobody", engine=case.engine)


# --- impossible evidence ------------------------------------------------------------------------


def test_impossible_evidence_is_noticed_whatever_the_target(doomed: Case) -> None:
    model = doomed.make()
    row = doomed.impossible
    assert row is not None
    evidence = doomed.one(0, row)
    for targets in (None, [], *doomed.names):
        with pytest.raises(ImpossibleEvidence) as caught:
            doomed.query(model, targets, evidence)
        _check_conflict(doomed, model, caught.value, row)
    for targets in (None, doomed.names[:1]):
        for k in (1, 3):
            with pytest.raises(ImpossibleEvidence):
                doomed.most_probable(model, evidence, targets, k=k)
    with pytest.raises(ImpossibleEvidence):
        doomed.sample(model, 2, evidence)
    assert doomed.log_prob(model, evidence) == -math.inf
    codes = torch.tensor([row.get(n, -1) for n in doomed.names])
    compiled = model.compile(doomed.names[0], engine=doomed.engine)(codes)
    assert compiled.log_evidence == -math.inf


def _check_conflict(
    case: Case, model: pgnn.Model, error: ImpossibleEvidence, row: Row, r: int = 0
) -> None:
    """The named findings cannot occur together, but all of them but one can."""
    assert error.rows[0] == r
    found = {n: model.variables[n].index(label) for n, label in error.conflict.items()}
    assert found
    assert found.items() <= row.items()
    for name, label in error.conflict.items():
        assert f"{name}={label}" in str(error)
    joint = case.joint(r)
    assert oracle.weight(joint, found) == 0
    for name in found:
        assert oracle.weight(joint, {n: s for n, s in found.items() if n != name}) > 0


def test_impossible_rows_of_a_batch(doomed: Case) -> None:
    model = doomed.make()
    row = doomed.impossible
    assert row is not None
    rows = [*doomed.rows[:2], row, doomed.rows[3], row]
    batch = doomed.batch(rows)
    for verb in (doomed.query, doomed.most_probable):
        arguments = (None, batch) if verb == doomed.query else (batch,)
        with pytest.raises(ImpossibleEvidence, match="2 of 5 rows") as caught:
            verb(model, *arguments)
        assert caught.value.rows == (2, 4)
        _check_conflict(doomed, model, caught.value, row, 2)
    with pytest.raises(ImpossibleEvidence):
        doomed.sample(model, 2, batch)
    posterior = doomed.query(model, None, batch, errors="nan")
    good = doomed.query(model, None, doomed.batch([*doomed.rows[:2], doomed.rows[3]]))
    assert (posterior.log_evidence[[2, 4]] == -math.inf).all()
    doomed.close(posterior.log_evidence[[0, 1, 3]], good.log_evidence.detach())
    for name, p in posterior.items():
        assert p.probs[[2, 4]].isnan().all()
        doomed.close(p.probs[[0, 1, 3]], good[name].probs.detach())
    best = doomed.most_probable(model, batch, errors="nan")
    assert all((best[n][[2, 4]] == -1).all() and (best[n][[0, 1, 3]] >= 0).all() for n in best)
    assert (best.log_prob[[2, 4]] == -math.inf).all()
    logs = doomed.log_prob(model, batch)
    assert logs.isneginf().tolist() == [False, False, True, False, True]
    with pytest.raises(EvidenceError, match="'raise' or 'nan'"):
        doomed.query(model, None, batch, errors="ignore")


def test_soft_evidence_can_be_impossible(doomed: Case) -> None:
    model = doomed.make()
    row = doomed.impossible
    assert row is not None
    soft = {n: pgnn.likelihood(np.eye(doomed.cards[n])[s]) for n, s in row.items()}
    for targets in (None, [], doomed.names[-1]):
        with pytest.raises(ImpossibleEvidence, match="soft"):
            doomed.query(model, targets, soft)


# --- wrong questions ----------------------------------------------------------------------------


def test_unknown_names_and_states(case: Case) -> None:
    model = case.make()
    name = case.names[0]
    typo = f"{name}x"
    verbs = (
        lambda: case.query(model, None, {typo: 0}),
        lambda: case.query(model, typo),
        lambda: case.query(model, [name, typo]),
        lambda: case.query(model, None, pd.DataFrame({typo: [0]})),
        lambda: case.most_probable(model, {typo: 0}),
        lambda: case.most_probable(model, {}, [typo]),
        lambda: case.sample(model, 1, {typo: 0}),
        lambda: case.log_prob(model, {typo: [0]}),
        lambda: model.explain(typo, engine=case.engine),
        lambda: model.compile(typo, engine=case.engine),
    )
    for verb in verbs if not case.rowwise else verbs[:1]:
        with pytest.raises(EvidenceError, match="unknown") as caught:
            verb()
        assert repr(str(name))[1:-1] in str(caught.value)
    with pytest.raises(EvidenceError, match="no state"):
        case.query(model, None, {name: "no such state"})
    with pytest.raises(EvidenceError, match="out of range"):
        case.query(model, None, {name: torch.tensor([0, 99])})
    other = case.names[-1]
    if other != name:
        with pytest.raises(EvidenceError, match="rows"):
            case.query(model, None, {name: torch.tensor([0, 0]), other: torch.tensor([0])})
    with pytest.raises(EvidenceError, match="likelihood"):
        case.query(model, None, {name: torch.ones(case.cards[name] + 1) / 4})


def test_wrong_numbers(case: Case) -> None:
    if case.rowwise:
        pytest.skip("said of the same arguments elsewhere")
    model = case.make()
    with pytest.raises(EvidenceError, match="k must"):
        case.most_probable(model, k=0)
    with pytest.raises(EvidenceError, match="negative"):
        case.sample(model, -1)
    with pytest.raises(EvidenceError, match="twice"):
        case.query(model, [case.names[0], case.names[0]])
    with pytest.raises(EvidenceError, match="unknown"):
        case.query(model, case.names[0])["nobody"]
    assert case.sample(model, 0, seed=0).codes.shape == (0, len(case.names))
    assert case.sample(model, 0, case.one(3), seed=0).codes.shape == (0, len(case.names))


def test_reals_are_no_targets(case: Case) -> None:
    if not case.reals:
        pytest.skip("all variables are discrete")
    model = case.make()
    with pytest.raises(EvidenceError, match="is real and observed"):
        case.query(model, list(case.reals), case.one(0))


# --- data frames --------------------------------------------------------------------------------


def _frame(case: Case) -> pd.DataFrame:
    variables = case.make().variables
    columns = {}
    for n in case.names:
        labels = [None if n not in row else variables[n].states[row[n]] for row in case.rows]
        cells = np.empty(len(labels), dtype=object)
        cells[:] = labels
        columns[n] = pd.Series(cells)
    frame = pd.DataFrame(dict(enumerate(columns.values())))
    frame.columns = pd.Index(list(columns), tupleize_cols=False)
    frame.index = pd.Index([f"row {r}" for r in range(NUM_ROWS)], name="patient")
    return frame


def test_data_frames(case: Case) -> None:
    if case.rowwise:
        pytest.skip("tables differ from row to row")
    model = case.make()
    frame = _frame(case)
    kept = frame.copy(deep=True)
    want = case.query(model, None, case.batch())
    posterior = case.query(model, None, frame)
    out = posterior.frame()
    assert out.index.equals(frame.index)
    for name in case.names:
        assert torch.equal(posterior[name].probs, want[name].probs)
        for k, state in enumerate(model.variables[name].states):
            column = [i for i, pair in enumerate(out.columns) if pair == (name, state)]
            case.close(out.iloc[:, column[0]], want[name].probs[:, k].detach())
    best = case.most_probable(model, frame).frame()
    assert best.index.equals(frame.index)
    assert list(best.columns) == case.names
    assert torch.equal(case.log_prob(model, frame), case.log_prob(model, case.batch()))
    drawn = case.sample(model, 2, frame, seed=0).frame()
    assert len(drawn) == 2 * NUM_ROWS
    assert drawn.notna().all().all()
    pd.testing.assert_frame_equal(frame, kept)


# --- manners ------------------------------------------------------------------------------------


def test_arguments_stay_as_they_are(case: Case) -> None:
    model = case.make()
    batch, inputs = case.batch(), {n: x.clone() for n, x in case.inputs.items()}
    soft = {n: torch.from_numpy(p).requires_grad_() for n, p in case.soft.items()}
    evidence = {**batch, **soft}
    before = {n: x.detach().clone() for n, x in evidence.items()}
    names, state = list(evidence), copy.deepcopy(model.state_dict())
    wanted = {n: p.requires_grad for n, p in model.named_parameters()}
    options = {"inputs": inputs} if inputs else {}
    targets = case.names[:2]
    posterior = case.query(model, targets, evidence, **options)
    for name in targets:
        posterior[name].probs.sum().item()
    case.most_probable(model, evidence, targets, k=2, **options)
    case.log_prob(model, evidence, **options)
    assert list(evidence) == names
    assert targets == case.names[:2]
    assert all(torch.equal(evidence[n].nan_to_num(), x.nan_to_num()) for n, x in before.items())
    assert all(evidence[n].requires_grad == (n in soft) for n in evidence)
    assert all(evidence[n].grad is None for n in evidence)
    assert all(torch.equal(model.state_dict()[n], x) for n, x in state.items())
    assert {n: p.requires_grad for n, p in model.named_parameters()} == wanted
    assert all(p.grad is None for p in model.parameters())


def test_without_gradients(case: Case) -> None:
    model = case.make()
    want = case.query(model, None, case.batch(), **case.covariates())
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            got = case.query(model, None, case.batch(), **case.covariates())
            logs = case.log_prob(model, case.batch(), **case.covariates())
            assert not got.log_evidence.requires_grad
            assert not logs.requires_grad
        case.close(got.log_evidence, want.log_evidence.detach())
        for name in case.names:
            assert not got[name].probs.requires_grad
            case.close(got[name].probs, want[name].probs.detach())
    learnable = any(p.requires_grad for p in model.parameters())
    again = case.query(model, None, case.batch(), **case.covariates())
    assert again.log_evidence.requires_grad == learnable


def _answers(case: Case, model: pgnn.Model) -> dict[Any, Tensor]:
    posterior = case.query(model, None, case.batch(), **case.covariates())
    numbers = {n: p.probs.detach() for n, p in posterior.items()}
    numbers["log evidence"] = posterior.log_evidence.detach()
    numbers["best"] = case.most_probable(model, case.batch(), **case.covariates()).log_prob
    numbers["log prob"] = case.log_prob(model, case.batch(), **case.covariates()).detach()
    if not case.rowwise:
        codes = case.codes()
        numbers["compiled"] = model.compile(engine=case.engine)(codes).marginals
        numbers["joint"] = posterior.joint(*case.names[-2:]).values.detach()
    return numbers


def _same(first: dict[Any, Tensor], second: dict[Any, Tensor]) -> bool:
    return all(torch.allclose(first[k], second[k], rtol=0, atol=1e-12) for k in first)


def test_changed_parameters_change_the_answers(case: Case) -> None:
    model = case.make()
    for parameter in model.parameters():
        if parameter.numel() < 2:
            continue
        before = _answers(case, model)
        with torch.no_grad():
            noise = torch.linspace(-0.7, 0.5, parameter.numel()).to(parameter.dtype)
            parameter += noise.reshape(parameter.shape)
        after = _answers(case, model)
        fresh = case.make()
        fresh.load_state_dict(model.state_dict())
        assert _same(after, _answers(case, fresh))
        if parameter.shape[-1] > 1 and not parameter.isneginf().any():
            assert not _same(after, before)


def test_replaced_parameters_change_the_answers(case: Case) -> None:
    """Loading, swapping the data and assigning another parameter are noticed, too."""
    model = case.make()
    other = case.make()
    with torch.no_grad():
        for p in other.parameters():
            p += torch.linspace(-0.7, 0.5, p.numel()).reshape(p.shape).to(p.dtype)
    want = _answers(case, other)
    _answers(case, model)
    model.load_state_dict(other.state_dict())
    assert _same(_answers(case, model), want)
    model = case.make()
    _answers(case, model)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        p.data = q.detach().clone()
    assert _same(_answers(case, model), want)
    model = case.make()
    _answers(case, model)
    for module, twin in zip(model.modules(), other.modules(), strict=True):
        for name, q in list(twin.named_parameters(recurse=False)):
            again = torch.nn.Parameter(q.detach().clone(), q.requires_grad)
            setattr(module, name, again)
    assert _same(_answers(case, model), want)


def test_copies_are_independent(case: Case) -> None:
    model = case.make()
    want = _answers(case, model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert _same(_answers(case, copied), want)
        with torch.no_grad():
            for p in copied.parameters():
                p += torch.linspace(-0.7, 0.5, p.numel()).reshape(p.shape).to(p.dtype)
        changed = case.make()
        changed.load_state_dict(copied.state_dict())
        assert _same(_answers(case, copied), _answers(case, changed))
        assert _same(_answers(case, model), want)


def test_state_dicts_go_through_files(case: Case) -> None:
    model = case.make()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = case.make()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert _same(_answers(case, fresh), _answers(case, model))


def test_answers_are_snapshots(case: Case) -> None:
    """A posterior does not move when the parameters do, its joints included."""
    model = case.make()
    posterior = case.query(model, None, case.batch(), **case.covariates())
    kept = {n: p.probs.detach().clone() for n, p in posterior.items()}
    joint = posterior.joint(*case.names[-2:]).values.detach().clone()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    assert all(torch.equal(posterior[n].probs.detach(), p) for n, p in kept.items())
    case.close(posterior.joint(*case.names[-2:]).values, joint)


def test_explanations(case: Case) -> None:
    if case.rowwise:
        pytest.skip("the plan depends on the tables of the rows")
    model = case.make()
    told = model.explain(None, case.batch(), engine=case.engine)
    assert told.engine == type(case.engine).__name__
    assert (told.kind, told.fits, told.num_variables) == ("exact", True, len(case.names))
    assert told.memory_bytes > 0
    assert str(told)
    pruned = model.explain([], {}, engine=case.engine)
    whole = len(case.names) if isinstance(model, DIRECTED) else 0
    assert pruned.num_pruned == (1 if isinstance(model, pgnn.DeepBeliefNetwork) else whole)
    rows = case.batch([case.rows[1]] * 10_000)
    complete = model.explain(None, rows, engine=case.engine)
    assert (complete.num_sliced, complete.num_eliminated) == (len(case.names), 0)


# --- numbers that are none, cells that are masked, inference mode ---------------------------------


def _verbs(case: Case, model: pgnn.Model) -> dict[str, Any]:
    """Everything that can be asked of a model of the zoo, as calls."""
    options = case.covariates()
    complete = {n: x[1:2] for n, x in case.batch().items()}
    alone = case.covariates(1)
    verbs: dict[str, Any] = {
        "query": lambda: case.query(model, None, case.batch(), **options),
        "most probable": lambda: case.most_probable(model, case.batch(), **options),
        "k best": lambda: case.most_probable(model, case.batch(), k=2, **options),
        "log prob": lambda: case.log_prob(model, case.batch(), **options),
        "log prob of a complete row": lambda: case.log_prob(model, complete, **alone),
    }
    if not case.reals:
        verbs["sample"] = lambda: case.sample(model, 2, case.batch(), seed=0, **options)
    if not case.rowwise:
        verbs["prior sample"] = lambda: case.sample(model, 2, seed=0)
        verbs["compile"] = lambda: model.compile(engine=case.engine)(case.codes())
        verbs["write"] = lambda: pgnn.write(model, io.StringIO(), "uai")
    return verbs


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_parameters_that_are_no_numbers_are_refused(
    case: Case, value: float, tmp_path: Path
) -> None:
    """Whoever wrote them, every verb names the piece; once mended, it answers."""
    model = case.make()
    want = case.query(model, None, case.batch(), **case.covariates())
    whole = [m for m in model.modules() if isinstance(m, Piece)]
    pieces = [m for m in whole if not any(p in whole for p in [*m.modules()][1:])]
    for piece in pieces:
        for parameter in piece.parameters():
            if not parameter.numel():
                continue
            kept = parameter.detach().clone()
            with torch.no_grad():
                parameter.view(-1)[-1] = value
            verbs = _verbs(case, model)
            if case.example.name != "odd_names":  # no file holds them
                verbs["save"] = lambda: model.save(tmp_path / "x.safetensors")
            for name, verb in verbs.items():
                with pytest.raises(ModelError, match="among its numbers") as caught:
                    verb()
                assert repr(piece.key) in str(caught.value), name
            with torch.no_grad():
                parameter.copy_(kept)
    assert not (tmp_path / "x.safetensors").exists()
    again = case.query(model, None, case.batch(), **case.covariates())
    case.close(again.log_evidence, want.log_evidence.detach())


def test_masked_cells_were_not_observed(case: Case) -> None:
    if case.rowwise:
        pytest.skip("rows come with the values")
    model = case.make()
    batch = case.batch()
    want = case.query(model, None, batch)
    codes = dict(zip(case.names, case.codes().T.numpy(), strict=True))
    forms = {
        "masked": {n: np.ma.masked_array(np.maximum(x, 0), x < 0) for n, x in codes.items()},
        "floats": {n: np.where(x < 0, np.nan, x) for n, x in codes.items()},
        "lists": {n: [None if k < 0 else k for k in x.tolist()] for n, x in codes.items()},
        "nullable": {
            n: pd.Series([pd.NA if k < 0 else k for k in x.tolist()], dtype="Int64")
            for n, x in codes.items()
        },
    }
    for evidence in forms.values():
        told = {n: pgnn.codes(x) for n, x in evidence.items()}
        found = case.query(model, None, told)
        case.close(found.log_evidence, want.log_evidence.detach())
        for name in case.names:
            case.close(found[name].probs, want[name].probs.detach())
        case.close(case.log_prob(model, told), case.log_prob(model, batch).detach())


def test_models_made_in_inference_mode(case: Case) -> None:
    """They answer inside and outside, learn, and can be differentiated."""
    want = _answers(case, case.make())
    with torch.inference_mode():
        made = case.make()
        inside = _answers(case, made)
    assert _same({k: x.clone() for k, x in inside.items()}, want)
    assert _same(_answers(case, made), want)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.0)
    posterior = case.query(made, None, case.batch(), **case.covariates())
    if any(p.requires_grad for p in made.parameters()):
        posterior.log_evidence.sum().backward()
    model = case.make()
    with torch.inference_mode():
        case.query(model, None, case.batch(), **case.covariates())
    name = case.names[0]
    soft = torch.ones(NUM_ROWS, case.cards[name], dtype=torch.float64, requires_grad=True)
    evidence = {n: x for n, x in case.batch().items() if n != name} | {name: soft}
    answer = case.query(model, None, evidence, **case.covariates())
    (slope,) = torch.autograd.grad(answer.log_evidence.sum(), soft)
    assert bool(slope.isfinite().all())
