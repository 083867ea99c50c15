"""Tables of slices are where the model's parameters are; the device without numbers stands in."""

from __future__ import annotations

import pytest

import pgnn
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.time.boyen_koller import _Run
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.slice_elimination import table_over
from pgnn.inference.time.slice_tables import LeafSliceTables, SliceTables


@pytest.mark.parametrize("kind", [SliceTables, LeafSliceTables])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tables_are_where_the_parameters_are(kind: type[SliceTables], device: str) -> None:
    edges = [(("z", -1), "z"), ("z", "x"), ("z", "y")]
    model = pgnn.DynamicBayesianNetwork(edges, states={"z": 2, "x": 3, "y": 2})
    rows = SequenceEvidence.read(
        list(model.variables.values()),
        {"x": [[0, 1, None, 2], [1, 1]], "y": [[[0.5, 0.5], [0.9, 0.1]] * 2, [[1.0, 0.0]] * 2]},
    )
    model.to(device)
    tables = kind(model, rows, {})
    for span in (slice(0, 1), slice(1, None)):
        unary = [u for n in model.variables if (u := tables.unary(n, span)) is not None]
        factors = [*tables.conditionals(span), *unary]
        assert {f.log_values.device.type for f in factors} == {device}
        scope = list({v.name: v for f in factors for v in f.variables}.values())
        total, by_row = table_over(factors, scope)
        assert total.device.type == device
        assert by_row


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_beliefs_about_clusters_are_where_the_parameters_are(device: str) -> None:
    edges = [(("a", -1), "a"), (("b", -1), "b"), ("a", "x"), ("b", "x")]
    model = pgnn.DynamicBayesianNetwork(edges, states={"a": 2, "b": 3, "x": 2})
    engine = pgnn.BoyenKoller()
    rows = SequenceEvidence.of(model, {"x": [[0, 1, None], [1, 1]]})
    question = SequenceQuestion(model, rows, names=["a"])
    model.to(device)
    run = _Run.of(engine, question)
    steps = run.forward()
    assert run.increments(steps).device.type == device
    marginals = run.backward(steps)
    parts = [*steps[1].before, *steps[1].now, *marginals[1]]
    assert {x.device.type for x in parts} == {device}
    assert [tuple(x.shape) for x in marginals[1]] == [(2, 2)]
