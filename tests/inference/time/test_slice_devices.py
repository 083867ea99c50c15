"""Tables of slices are where the model's parameters are; the device without numbers stands in."""

from __future__ import annotations

import pytest

import pgnn
from pgnn.evidence.sequence_evidence import SequenceEvidence
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
