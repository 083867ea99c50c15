"""One contract for every model of the zoo and every engine that approximates.

A new engine is one more line in :data:`ENGINES`; what it cannot do it must say by ``Unsupported``.
"""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import (
    EvidenceError,
    ImpossibleEvidence,
    Intractable,
    ModelError,
    NotConverged,
    Unsupported,
)
from pgnn.factors.piece import Piece
from pgnn.inference.engine import Engine
from tests import oracle
from tests.zoo import NUM_ROWS, ZOO, Example

ENGINES: dict[str, Engine] = {
    "sequential": pgnn.BeliefPropagation(),
    "flooding": pgnn.BeliefPropagation(schedule=pgnn.Flooding(), damping=0.3),
    "residual": pgnn.BeliefPropagation(schedule=pgnn.Residual()),
    "reweighted": pgnn.BeliefPropagation(tree_reweighted=True),
    "mean-field": pgnn.MeanField(seed=0, restarts=3),
    "gibbs": pgnn.Gibbs(seed=0, burn_in=100, samples=400),
    "weighting": pgnn.ImportanceSampling(2000, seed=0),
    "annealed": pgnn.AnnealedImportanceSampling(seed=0),
    "annealing": pgnn.Annealing(sweeps=200, seed=0),
    "dual": pgnn.DualDecomposition(seed=0),
    "bounds": pgnn.BranchAndBound(seed=0),
}
DETERMINISTIC = ("sequential", "flooding", "residual", "reweighted")
DRAWING = ("gibbs", "weighting", "annealed")
DIRECTED = {n for n, e in ZOO.items() if e.make().graph.is_directed()} - {"deep_belief"}


@dataclass(frozen=True)
class Case:
    """A model of the zoo with an engine that approximates answers about it."""

    example: Example
    name: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.example, name)

    @property
    def engine(self) -> Engine:
        return ENGINES[self.name]

    def offers(self, method: str) -> bool:
        """Whether the engine has its own version of what the verb needs."""
        return getattr(type(self.engine), method) is not getattr(Engine, method)


def _cases() -> Iterator[Any]:
    for name in ENGINES:
        for example in ZOO.values():
            if name != "weighting" or example.name in DIRECTED:
                yield pytest.param(Case(example, name), id=f"{example.name}-{name}")


CASES = list(_cases())
pytestmark = pytest.mark.filterwarnings("ignore::pgnn.NotConverged")


@pytest.fixture(params=[c for c in CASES if c.values[0].offers("infer")])
def inferring(request: pytest.FixtureRequest) -> Case:
    return request.param


INFERRING = [c for c in CASES if c.values[0].offers("infer")]


@pytest.fixture(params=[c for c in INFERRING if c.values[0].name not in DRAWING])
def steady(request: pytest.FixtureRequest) -> Case:
    """A case whose answers are no draws."""
    return request.param


@pytest.fixture(params=[c for c in INFERRING if c.values[0].name in DETERMINISTIC])
def propagated(request: pytest.FixtureRequest) -> Case:
    """A case whose rows are worked on apart."""
    return request.param


@pytest.fixture(params=[c for c in INFERRING if c.values[0].example.impossible])
def doomed(request: pytest.FixtureRequest) -> Case:
    """A case that has impossible evidence."""
    return request.param


@pytest.fixture(params=[c for c in CASES if c.values[0].offers("maximize")])
def maximizing(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(autouse=True)
def untouched_random_state() -> Iterator[None]:
    """No verb may draw from or seed the global generators."""
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


# --- marginals and log evidence -----------------------------------------------------------------


def test_marginals_are_distributions_and_bounds_hold(inferring: Case) -> None:
    model = inferring.make()
    found = model.query(
        evidence=inferring.batch(), engine=inferring.engine, **inferring.covariates()
    )
    assert list(found) == inferring.names
    assert found.engine == type(inferring.engine).__name__
    assert str(found)
    for k, marginal in enumerate(found.values()):
        assert marginal.batch_shape == (NUM_ROWS,)
        total = marginal.probs.sum(-1).detach().numpy()
        np.testing.assert_allclose(total, 1.0, atol=1e-5)
        observed = inferring.codes()[:, k]
        rows = (observed >= 0).nonzero()[:, 0]
        np.testing.assert_allclose(marginal.probs[rows, observed[rows]].detach(), 1.0, atol=1e-6)
    for r, row in enumerate(inferring.rows):
        joint = inferring.joint(r, row)
        exact, value = oracle.log_evidence(joint), float(found.log_evidence[r].detach())
        slack = inferring.tolerance * 10 + 1e-6 * abs(exact)
        if found.kind == "lower bound":
            assert value <= exact + slack
        elif found.kind == "upper bound":
            assert value >= exact - slack
        elif found.kind == "exact":
            assert value == pytest.approx(exact, abs=slack)
            for name, marginal in found.items():
                expected = oracle.marginal(joint, [name])
                np.testing.assert_allclose(marginal.probs[r].detach(), expected, atol=slack)


def test_complete_rows_are_looked_up(inferring: Case) -> None:
    """Row 1 observes everything: nothing is left to approximate."""
    model = inferring.make()
    observed = {n: x[1:2] for n, x in inferring.batch().items()}
    found = model.query(evidence=observed, engine=inferring.engine, **inferring.covariates(1))
    value = float(found.log_evidence[0].detach())
    if not np.isnan(value):
        exact = oracle.log_evidence(inferring.joint(1, inferring.rows[1]))
        assert value == pytest.approx(exact, abs=max(inferring.tolerance * 10, 1e-5))


def test_soft_evidence_counts(steady: Case) -> None:
    """Likelihoods that leave one state are findings, whatever their scale."""
    model = steady.make()
    name = next(iter(steady.cards))
    state = steady.rows[1][name]
    hard = {n: x[:1] for n, x in steady.batch().items()}
    soft = dict(hard)
    hard[name] = torch.tensor([state])
    soft[name] = torch.nn.functional.one_hot(hard[name], steady.cards[name]).double() * 0.5
    one = model.query(evidence=hard, engine=steady.engine, **steady.covariates(0))
    two = model.query(evidence=soft, engine=steady.engine, **steady.covariates(0))
    for n in one:
        np.testing.assert_allclose(two[n].probs.detach(), one[n].probs.detach(), atol=1e-4)
    gap = float((one.log_evidence[0] - two.log_evidence[0]).detach())
    assert gap == pytest.approx(np.log(2.0), abs=1e-3)


def test_rows_do_not_look_at_each_other(propagated: Case) -> None:
    model, batch = propagated.make(), propagated.batch()
    whole = model.query(evidence=batch, engine=propagated.engine, **propagated.covariates())
    for r in range(NUM_ROWS):
        observed = {n: x[r : r + 1] for n, x in batch.items()}
        one = model.query(evidence=observed, engine=propagated.engine, **propagated.covariates(r))
        np.testing.assert_array_equal(
            one.diagnostics["iterations"][0], whole.diagnostics["iterations"][r]
        )
        for n in one:
            np.testing.assert_allclose(
                one[n].probs[0].detach(), whole[n].probs[r].detach(), atol=1e-9
            )


def test_targets_and_frames(inferring: Case) -> None:
    model = inferring.make()
    names = inferring.names[::-1][:2]
    if inferring.reals or inferring.inputs:
        evidence: Any = inferring.batch()
    else:
        codes = {
            n: x.double().where(x >= 0, torch.nan).numpy() for n, x in inferring.batch().items()
        }
        evidence = pd.DataFrame(codes, index=list("uvwxyz"))
    found = model.query(names, evidence, engine=inferring.engine, **inferring.covariates())
    assert list(found) == names
    none = model.query([], evidence, engine=inferring.engine, **inferring.covariates())
    assert list(none) == []
    np.testing.assert_allclose(
        none.log_evidence.detach(), found.log_evidence.detach(), atol=1e-9, equal_nan=True
    )


def test_no_rows(inferring: Case) -> None:
    model = inferring.make()
    empty = {n: x[:0] for n, x in inferring.batch().items()}
    inputs = {n: x[:0] for n, x in inferring.inputs.items()}
    options = {"inputs": inputs} if inputs else {}
    found = model.query(evidence=empty, engine=inferring.engine, **options)
    assert found.log_evidence.shape == (0,)
    assert all(p.probs.shape == (0, inferring.cards[n]) for n, p in found.items())


def test_arguments_stay_as_they_are(inferring: Case) -> None:
    model, batch = inferring.make(), inferring.batch()
    held, parameters = copy.deepcopy(batch), copy.deepcopy(model.state_dict())
    model.query(evidence=batch, engine=inferring.engine, **inferring.covariates())
    assert all(torch.equal(batch[n].nan_to_num(), held[n].nan_to_num()) for n in batch)
    now = model.state_dict()
    assert all(torch.equal(now[n], parameters[n]) for n in parameters)


# --- most probable states -----------------------------------------------------------------------


def test_most_probable_states(maximizing: Case) -> None:
    """What is found scores what it says, no more than the best; so do the bounds."""
    model = maximizing.make()
    found = model.most_probable(
        maximizing.batch(), engine=maximizing.engine, **maximizing.covariates()
    )
    for r, row in enumerate(maximizing.rows):
        joint = maximizing.joint(r, row)
        scale = max(maximizing.tolerance * 10, 1e-5)
        with np.errstate(divide="ignore"):
            scores = np.log(joint.table)
        states = tuple(int(found[n][r]) for n in joint.names)
        score = float(found.log_prob[r].detach())
        assert score == pytest.approx(float(scores[states]), abs=scale)
        assert score == pytest.approx(float(scores.max()), abs=scale)  # so few states
        if found.upper_bound is not None:
            assert float(found.upper_bound[r].detach()) >= float(scores.max()) - scale


def test_seeds(maximizing: Case) -> None:
    model = maximizing.make()
    options = {"engine": maximizing.engine, **maximizing.covariates()}
    one, two = (model.most_probable(maximizing.batch(), **options) for _ in range(2))
    assert all(np.array_equal(one[n], two[n]) for n in one)


# --- what engines do not do, and wrong questions ------------------------------------------------


@pytest.mark.parametrize("case", [c for c in CASES if c.values[0].example.name == "sprinkler"])
def test_what_is_not_offered_is_said(case: Case) -> None:
    model, batch = case.make(), case.batch()
    options = {"engine": case.engine, **case.covariates()}
    verbs = {
        "infer": lambda: model.query(evidence=batch, **options),
        "maximize": lambda: model.most_probable(batch, **options),
        "draw": lambda: model.sample(2, batch, seed=0, **options),
    }
    for method, verb in verbs.items():
        if case.offers(method):
            verb()
        else:
            with pytest.raises(Unsupported, match=r"use \w+\("):
                verb()
    told = model.explain(engine=case.engine)
    assert told.engine == type(case.engine).__name__
    assert told.reason
    with pytest.raises(Unsupported):
        model.compile(engine=case.engine)


def test_wrong_questions(inferring: Case) -> None:
    model, engine = inferring.make(), inferring.engine
    options = inferring.covariates(0)
    first = inferring.names[0]
    for evidence, targets in [
        ({"nobody": 0}, None),
        ({first: inferring.cards[first]}, None),
        ({}, "nobody"),
    ]:
        with pytest.raises(EvidenceError):
            model.query(targets, evidence, engine=engine, **options)
    with pytest.raises((EvidenceError, ValueError), match="errors"):
        model.query(evidence={}, engine=engine, errors="maybe", **options)


def test_impossible_rows(doomed: Case) -> None:
    """Proven impossible rows are refused, or left out; what is not proven is warned of."""
    model = doomed.make()
    rows = [doomed.rows[0], dict(doomed.impossible)]
    batch = doomed.batch(rows)
    inputs = {n: x[:2] for n, x in doomed.inputs.items()}
    options: dict[str, Any] = {"inputs": inputs} if inputs else {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = model.query(evidence=batch, engine=doomed.engine, errors="nan", **options)
    value = found.log_evidence.detach()
    proven = bool(torch.isneginf(value[1]))
    assert not torch.isneginf(value[0])
    if not proven:
        assert any(issubclass(w.category, NotConverged) for w in caught)
        return
    assert all(bool(p.probs[1].isnan().all()) for p in found.values())
    assert not any(bool(p.probs[0].isnan().any()) for p in found.values())
    with pytest.raises(ImpossibleEvidence) as refused:
        model.query(evidence=batch, engine=doomed.engine, **options)
    assert refused.value.rows == (1,)


# --- impossible evidence, in every verb ---------------------------------------------------------


def _asked(case: Case, model: pgnn.Model, evidence: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The verbs that an engine offers, as calls."""
    verbs: dict[str, Any] = {}
    if case.offers("infer"):
        verbs["query"] = lambda: model.query(evidence=evidence, engine=case.engine, **options)
        if case.name != "gibbs":
            verbs["log prob"] = lambda: model.log_prob(evidence, engine=case.engine, **options)
    if case.offers("maximize"):
        verbs["most probable"] = lambda: model.most_probable(
            evidence, engine=case.engine, **options
        )
    if case.offers("draw"):
        verbs["sample"] = lambda: model.sample(3, evidence, engine=case.engine, seed=0, **options)
    return verbs


IMPOSSIBLE = [c for c in CASES if c.values[0].example.impossible]


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_evidence_is_an_error_of_every_verb(case: Case) -> None:
    model, batch = case.make(), case.batch([case.rows[0], dict(case.impossible)])
    inputs = {n: x[:2] for n, x in case.inputs.items()}
    for name, verb in _asked(case, model, batch, {"inputs": inputs} if inputs else {}).items():
        if name == "log prob":
            assert bool(verb()[1].isneginf())
            continue
        with pytest.raises(ImpossibleEvidence) as refused:
            verb()
        assert refused.value.rows == (1,)


@pytest.mark.parametrize("case", CASES)
def test_parameters_that_are_no_numbers_are_refused(case: Case) -> None:
    model, batch = case.make(), case.batch()
    whole = [m for m in model.modules() if isinstance(m, Piece)]
    pieces = [m for m in whole if not any(p in whole for p in [*m.modules()][1:])]
    piece = next((m for m in pieces if any(p.numel() for p in m.parameters())), None)
    name, parameter = next((n, p) for n, p in (piece or model).named_parameters() if p.numel())
    with torch.no_grad():
        parameter.view(-1)[0] = np.nan
    verbs = _asked(case, model, batch, case.covariates())
    assert verbs
    for verb in verbs.values():
        with pytest.raises(ModelError, match="among its numbers") as caught:
            verb()
        assert repr(name if piece is None else piece.key) in str(caught.value)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("example", ["sprinkler", "noisy_max", "markov"])
def test_inference_mode(example: str, name: str) -> None:
    """Models are asked in it, made in it, and asked afterwards."""
    if name == "weighting" and example == "markov":
        pytest.skip("weighted draws are of directed models")
    case = Case(ZOO[example], name)
    expected = {n: verb() for n, verb in _asked(case, case.make(), case.batch(), {}).items()}
    with torch.inference_mode():
        made = case.make()
        within = {n: verb() for n, verb in _asked(case, made, case.batch(), {}).items()}
    after = {n: verb() for n, verb in _asked(case, made, case.batch(), {}).items()}
    assert within.keys() == after.keys() == expected.keys() != set()
    for found in (within, after):
        for verb, answer in found.items():
            for x, y in zip(_numbers(answer), _numbers(expected[verb]), strict=True):
                torch.testing.assert_close(x, y, equal_nan=True)


def _numbers(answer: Any) -> list[torch.Tensor]:
    """The numbers of an answer to any verb, outside of inference mode."""
    if isinstance(answer, torch.Tensor):
        return [answer.clone()]
    if isinstance(answer, pgnn.Posterior):
        return [answer.log_evidence.clone(), *(answer[n].probs.clone() for n in answer)]
    logs = [] if isinstance(answer, pgnn.Samples) else [torch.as_tensor(answer.log_prob).clone()]
    return [torch.as_tensor(answer.codes).clone(), *logs]


def _parity(length: int, ends: tuple[int, int]) -> pgnn.MarkovRandomField:
    """A chain of equalities through pairs of parities, whose ends are held."""
    variables = [pgnn.Variable(f"x{k}", 2) for k in range(length)]
    even = torch.tensor([[[0.0, -np.inf], [-np.inf, 0.0]], [[-np.inf, 0.0], [0.0, -np.inf]]])
    factors = [pgnn.Factor([*variables[k : k + 3]], even.double()) for k in range(length - 2)]
    for k, state in zip((0, 1, length - 1), (ends[0], 0, ends[1]), strict=True):
        held = torch.full((2,), -np.inf, dtype=torch.float64)
        held[state] = 0.0
        factors.append(pgnn.Factor([variables[k]], held))
    return pgnn.MarkovRandomField(factors)


def _clauses(number: int, ratio: float, seed: int) -> pgnn.MarkovRandomField:
    """Random clauses of three literals, none of which may be wrong; a planted assignment fits."""
    rng = np.random.default_rng(seed)
    planted = rng.integers(2, size=number)
    factors = []
    variables = [pgnn.Variable(k, 2) for k in range(number)]
    while len(factors) < ratio * number:
        scope, wrong = rng.choice(number, 3, replace=False), rng.integers(2, size=3)
        if (planted[scope] != wrong).any():
            table = torch.zeros(2, 2, 2, dtype=torch.float64)
            table[tuple(wrong)] = -np.inf
            factors.append(pgnn.Factor([variables[k] for k in scope], table))
    return pgnn.MarkovRandomField(factors)


HARD = {
    "possible parity": lambda: _parity(12, (0, 0)),
    "impossible parity": lambda: _parity(12, (0, 1)),
    "few clauses": lambda: _clauses(40, 2.0, 0),
    "many clauses": lambda: _clauses(40, 4.2, 1),
}


@pytest.mark.parametrize("what", HARD)
@pytest.mark.parametrize("name", [n for n in ENGINES if n != "weighting"])
def test_no_answer_is_nan_where_factors_exclude_nearly_all(name: str, what: str) -> None:
    """An answer of numbers, or an error: nothing possible was found, or none is within reach."""
    model, engine = HARD[what](), ENGINES[name]
    example = ZOO["markov"]
    case = Case(example, name)
    for verb, call in _asked(case, model, {}, {}).items():
        try:
            found = call()
        except EvidenceError:  # impossible evidence is one
            continue
        except Intractable:  # of the engine that eliminates
            assert name == "bounds"
            continue
        if verb == "query":
            assert all(bool(p.probs.isfinite().all()) for p in found.values()), verb
            assert engine == ENGINES["gibbs"] or not bool(found.log_evidence.isnan())
        elif verb == "most probable":
            states = torch.tensor([found[n] for n in found])
            assert bool((states >= 0).all())
            assert bool(found.log_prob.isfinite())
            score = model.log_score({n: found[n] for n in found})
            assert float(score) == pytest.approx(float(found.log_prob), abs=1e-6)
        elif verb == "sample":
            counted = slice(None)
            if found.log_weights is not None:  # draws of weight zero count for nothing
                counted = found.log_weights.isfinite()
            rows = {n: found[n][counted] for n in found}
            assert bool(model.log_score(rows).isfinite().all())
        else:
            assert not bool(found.isnan())
