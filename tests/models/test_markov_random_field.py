"""Products of tables: declaration, numbers that are not normalised, numbers that are."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgnn
from pgnn import Factor, ModelError, Variable
from tests import oracle

A, B, C = Variable("a", 2), Variable("b", ["x", "y", "z"]), Variable("c", 2)


def make(rng: np.random.Generator) -> tuple[pgnn.MarkovRandomField, dict[str, int], list]:
    cards, tables = oracle.random_factors(rng)
    used = {n for scope, _ in tables for n in scope}
    tables += [((n,), np.ones(k)) for n, k in cards.items() if n not in used]
    variables = {n: Variable(n, k) for n, k in cards.items()}
    with np.errstate(divide="ignore"):
        model = pgnn.MarkovRandomField(
            Factor([variables[n] for n in scope], torch.from_numpy(np.log(values)))
            for scope, values in tables
        )
    return model, cards, tables


@given(st.integers(0, 2**31))
def test_normalised_and_unnormalised(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, cards, tables = make(rng)
    joint = oracle.joint(cards, tables)
    rows = oracle.random_evidence(rng, joint, 0.6, 5)
    batch = {n: torch.tensor([row.get(n, -1) for row in rows]) for n in cards}
    log_z = oracle.log_evidence(joint)
    weights = np.log([oracle.weight(joint, row) for row in rows])
    assert float(model.log_partition()) == pytest.approx(log_z, abs=1e-9)
    assert float(model.query([]).log_evidence) == pytest.approx(log_z, abs=1e-9)
    np.testing.assert_allclose(model.log_score(batch), weights, atol=1e-9)
    np.testing.assert_allclose(model.log_prob(batch), weights - log_z, atol=1e-9)
    np.testing.assert_allclose(model.query([], batch).log_evidence, weights, atol=1e-9)
    assert float(model.most_probable().log_prob) == pytest.approx(oracle.mode(joint)[1], abs=1e-9)


def test_variables_and_graph() -> None:
    model = pgnn.MarkovRandomField(
        [
            Factor([B, A], torch.zeros(3, 2)),
            Factor([C], torch.zeros(2)),
            Factor([], torch.zeros(())),
        ]
    )
    assert list(model.variables) == ["b", "a", "c"]
    assert {frozenset(e) for e in model.graph.edges} == {frozenset("ab")}
    assert set(model.graph) == set("abc")
    assert not any(p.requires_grad for p in model.parameters())
    numbered = pgnn.MarkovRandomField(Factor([Variable(k, 2)], torch.zeros(2)) for k in (3, 1, 2))
    assert list(numbered.variables) == [1, 2, 3]


def test_constants_count() -> None:
    model = pgnn.MarkovRandomField(
        [Factor([A], torch.zeros(2).double()), Factor([], torch.tensor(2.5).double())]
    )
    assert float(model.log_partition()) == pytest.approx(2.5 + math.log(2))


def test_the_callers_tables_are_their_own() -> None:
    table = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    model = pgnn.MarkovRandomField([Factor([A], table)])
    before = model.query("a")["a"].probs
    with torch.no_grad():
        table += torch.tensor([5.0, 0.0])
    assert torch.equal(model.query("a")["a"].probs, before)
    assert table.requires_grad


def test_factors_at_observed_states() -> None:
    table = torch.arange(6.0).reshape(2, 3)
    model = pgnn.MarkovRandomField([Factor([A, B], table)])
    (factor,) = model.factors({"a": torch.tensor([1, 0])})
    assert factor.names == ("b",)
    assert torch.equal(factor.log_values, table[[1, 0]])


def test_wrong_declarations() -> None:
    with pytest.raises(ModelError, match=r"disagree.*'a'"):
        pgnn.MarkovRandomField(
            [Factor([A], torch.zeros(2)), Factor([Variable("a", 3)], torch.zeros(3))]
        )
    with pytest.raises(ModelError, match="at least one factor"):
        pgnn.MarkovRandomField([])
    with pytest.raises(ModelError, match=r"\(2, 3\)"):
        pgnn.MarkovRandomField([Factor([A, B], torch.zeros(3, 2))])
