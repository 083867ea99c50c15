"""Tables of transitions: what is refused, and labels of data frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import pgnn

TURNED = pd.DataFrame([[0.0, 1.0], [2.0, 3.0]], index=[*"ba"], columns=[*"ba"])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_transitions_are_below_infinity(wrong: float) -> None:
    with pytest.raises(pgnn.ModelError, match=f"got {wrong} in row 0, column 1; -inf forbids"):
        pgnn.ConditionalRandomField(["a", "b"], transitions=[[0, wrong], [2, 3]])
    field = pgnn.ConditionalRandomField(["a", "b"], transitions=[[0, -np.inf], [2, 3]])
    assert field.moves().tolist() == [[0, -np.inf], [2, 3]]


@pytest.mark.parametrize("wrong", [2, 0.5, np.nan])
def test_masks_are_true_or_false(wrong: float) -> None:
    got = "NaN" if np.isnan(wrong) else f"{wrong:g}"
    with pytest.raises(pgnn.ModelError, match=f"got {got} in row 0, column 1"):
        pgnn.ConditionalRandomField(["a", "b"], mask=[[1, wrong], [1, 1]])


def test_labels_of_frames_are_heeded() -> None:
    field = pgnn.ConditionalRandomField(["a", "b"], transitions=TURNED)
    assert field.moves().tolist() == [[3, 2], [1, 0]]
    mask = pgnn.ConditionalRandomField(["a", "b"], mask=TURNED > 0)
    assert mask.forbidden().tolist() == [[False, False], [False, True]]
    plain = pgnn.ConditionalRandomField(["a", "b"], transitions=pd.DataFrame(TURNED.to_numpy()))
    assert plain.moves().tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("labels", [["a", "c"], ["x", "y"], ["a", "a"]])
def test_other_labels_are_refused(labels: Any) -> None:
    for table in (TURNED.set_axis(labels, axis=0), TURNED.set_axis(labels, axis=1)):
        with pytest.raises(pgnn.ModelError, match=r"not the states of 'label'|occurs twice"):
            pgnn.ConditionalRandomField(["a", "b"], transitions=table)
