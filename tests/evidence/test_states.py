"""Variables found in the columns of frames and mappings."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pgnn.errors import DataError
from pgnn.evidence import states_of
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.factors import Variable


def frame() -> pd.DataFrame:
    """Columns of every type that pandas has for labels, each with a missing cell."""
    return pd.DataFrame(
        {
            "smoke": pd.Categorical(["no", "yes", None, "yes"], ["never", "yes", "no"]),
            "age": [40.0, 20.0, 30.0, np.nan],
            "kind": pd.Categorical([1, 0, 2, None], [2, 1, 0]),
            "flag": pd.Series([True, False, True, None], dtype=object),
            "day": pd.Series(["tue", "mon", None, "tue"], dtype="string"),
            "half": [0.5, 1.0, 0.5, np.nan],
        }
    )


def test_states_of_a_frame() -> None:
    found = states_of(frame(), ignore=["kind"])
    assert list(found) == ["smoke", "age", "flag", "day", "half"]
    assert found["smoke"] == Variable("smoke", ["never", "yes", "no"])
    assert found["age"] == Variable("age", [20, 30, 40])
    assert found["flag"] == Variable("flag", [False, True])
    assert found["day"] == Variable("day", ["mon", "tue"])
    assert found["half"] == Variable("half", [0.5, 1.0])
    whole = states_of(pd.DataFrame({"x": [3.0, 1.0, np.nan]}))["x"]
    assert whole == Variable("x", [1, 3])
    assert isinstance((whole.states or ())[0], int)
    indices = {"x": torch.tensor([2, 0, -1]), "y": np.array([3])}
    assert [v.num_states for v in states_of(indices).values()] == [3, 4]


def test_states_found_read_the_same_frame() -> None:
    data = frame()
    found = states_of(data)
    codes = EvidenceReader(list(found.values())).read(data).codes
    for k, name in enumerate(data):
        labels = pd.Series(found[str(name)].decode(codes[:, k]), dtype=object)
        present = data[name].notna()
        assert (labels[present] == data[name][present].astype(object)).all()
        assert labels[~present].isna().all()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.linspace(0, 1, 50), r"column 'x' has 50 different real numbers; .*cut .*qcut"),
        (pd.Series(range(2000)), "column 'x' has 2000 different values in 2000 rows.*leave it out"),
        ([f"id{k}" for k in range(2000)], "look like identifiers"),
        (np.array([-1]), "column 'x' has no value"),
        ([None, None], "column 'x' has no value"),
        ([1, "a"], "cannot be sorted, they mix int and str"),
    ],
)
def test_columns_that_have_no_states(column: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        states_of({"x": column})


def test_tensors_of_any_type_and_cells_that_are_no_labels() -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.int8):
        column = torch.tensor([0, 1, 1], dtype=dtype)
        assert states_of({"c": column})["c"].states == (0, 1)
    for cell in ([0, 1], {0: 0.5}):
        with pytest.raises(DataError, match="column 'c' must have one label in each cell"):
            states_of(pd.DataFrame({"c": [cell, cell]}))
