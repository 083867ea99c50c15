"""Missing cells are the same in every container, and each of them is filled in."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn

PAIR = {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.2, 0.8]]}
WHOLE = [[0, 0], [1, 1], [1, 1]]


def pair(**states: Any) -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork([("a", "b")], PAIR, states=states or {"a": 2, "b": 2})


def gaussian() -> pgnn.BayesianNetwork:
    x = pgnn.Variable("x", shape=(2,))
    return pgnn.BayesianNetwork([], [pgnn.Gaussian(x, mean=[0.0, 5.0], covariance=np.eye(2))])


def array_of_states() -> pgnn.BayesianNetwork:
    """A state and a ``(2, 2)`` array of others, each of which is told by the state."""
    s, y = pgnn.Variable("s", 2), pgnn.Variable("y", 3, shape=(2, 2))
    linear = torch.nn.Linear(2, 12, bias=False)
    with torch.no_grad():
        linear.weight.zero_()
        for cell in range(4):
            linear.weight[3 * cell + cell % 3, 0] = 3.0
            linear.weight[3 * cell + (cell + 1) % 3, 1] = 3.0
    network = torch.nn.Sequential(linear, torch.nn.Unflatten(1, (2, 2, 3))).double()
    return pgnn.BayesianNetwork(
        [("s", "y")], [pgnn.Tabular(s, [], [0.6, 0.4]), pgnn.Neural(y, [s], network)]
    )


A, B = [0, -1, 1], [0, 1, -1]
MASKED = {
    "a": np.ma.masked_array([0, 0, 1], [False, True, False]),
    "b": np.ma.masked_array([0, 1, 0], [False, False, True]),
}


@pytest.mark.parametrize(
    "holes",
    [
        pd.DataFrame({"a": A, "b": B}),
        pd.DataFrame({"a": A, "b": B}, dtype=object),
        pd.DataFrame({"a": A, "b": B}, dtype="Int8"),
        pd.DataFrame({"a": [0, None, 1], "b": [0, 1, None]}),
        {"a": A, "b": B},
        {"a": np.array(A), "b": torch.tensor(B)},
        {"a": torch.tensor(A, dtype=torch.bfloat16), "b": B},
        {"a": [torch.tensor(k) for k in A], "b": B},
        MASKED,
        pd.DataFrame({n: pd.Series(list(x), dtype=object) for n, x in MASKED.items()}),
        [{"a": 0, "b": 0}, {"a": -1, "b": 1}, {"a": 1}],
    ],
)
def test_cells_that_are_missing_are_filled_in_every_container(holes: Any) -> None:
    made = pair().impute(holes)
    assert made.to_numpy().tolist() == WHOLE
    assert {type(x) for x in made.to_numpy().ravel().tolist()} == {int}
    (drawn,) = pair().impute(holes, draws=1, seed=0)
    assert ((drawn == made) | np.array([[0, 0], [1, 0], [0, 1]], dtype=bool)).all().all()
    assert drawn.isin([0, 1]).all().all()


def test_a_label_that_is_minus_one_is_not_missing() -> None:
    model = pair(a=[-1, 1], b=[5, 6])
    made = model.impute({"a": [-1, 1, None], "b": [None, 6, 5]})
    assert made.to_numpy().tolist() == [[-1, 5], [1, 6], [-1, 5]]


def test_indices_beside_labels_that_are_filled_in_become_labels() -> None:
    model = pair(a=["n", "y"], b=["n", "y"])
    assert model.impute({"a": A, "b": B})["a"].tolist() == ["n", "y", "y"]
    narrow = pd.DataFrame({"a": pd.Categorical(["n", None]), "b": ["n", "y"]})
    assert model.impute(narrow)["a"].tolist() == ["n", "y"]  # not a category of the column


def test_masked_cells_of_real_variables_are_filled_in() -> None:
    model = gaussian()
    masked = np.ma.masked_array([[1.0, 99.0]], [[False, True]])
    for x in (masked, [masked[0]], masked.astype(int), masked.filled(np.nan)):
        assert model.impute({"x": x})["x"][0].tolist() == [1.0, 5.0]
        (drawn,) = model.impute({"x": x}, draws=1, seed=0)
        assert drawn["x"][0][0] == 1.0
        assert drawn["x"][0][1] not in (99.0, 5.0)
    assert masked.data.tolist() == [[1.0, 99.0]]


@pytest.mark.parametrize("family", ["factors", "autoencoder"])
def test_masked_rows_of_vectors_are_rows_with_nan(family: str) -> None:
    x = np.random.default_rng(0).normal(size=(30, 3)) @ np.array([[1.0, 2, 0]] * 3)
    if family == "factors":
        model: Any = pgnn.FactorAnalysis(1).fit(x + 0.1, seed=0, progress=False)
    else:
        torch.manual_seed(0)
        model = pgnn.VAE(
            torch.nn.Linear(3, 4), torch.nn.Linear(2, 3), pgnn.BernoulliHead((3,)), latent=2
        )
    holes = x[:2].copy()
    holes[0, 1] = np.nan
    mask = np.isnan(holes)
    masked = np.ma.masked_array(np.where(mask, 99.0, holes), mask)
    whole = model.impute(holes)
    assert abs(whole[0, 1] - 99) > 50
    for rows in (masked, [*masked], [*holes]):
        np.testing.assert_array_equal(model.impute(rows), whole)
    assert type(model.impute(masked)) is np.ndarray
    read = model.reconstruct if family == "autoencoder" else model.log_prob
    torch.testing.assert_close(read([*masked]), read(holes))
    assert np.isfinite(model.impute(holes * np.nan)).all()  # nothing observed at all


def test_elements_of_arrays_of_states_have_columns() -> None:
    model = array_of_states()
    whole = model.sample(4, seed=1).frame()
    holes = whole.copy()
    holes.iloc[1, 1] = holes.iloc[2, 0] = holes.iloc[3, 3] = holes.iloc[3, 4] = None
    made = model.impute(holes)
    pd.testing.assert_index_equal(made.columns, whole.columns)
    known = holes.notna().to_numpy()
    assert (made.to_numpy()[known] == whole.to_numpy()[known]).all()
    best = model.most_probable(holes)
    assert made["s"].astype(int).tolist() == best["s"].tolist()
    states = made.iloc[:, 1:].astype(int).to_numpy().reshape(4, 2, 2)
    assert states.tolist() == best["y"].tolist()
    for drawn in model.impute(holes, draws=2, seed=0):
        assert not drawn.isna().any().any()
        assert (drawn.to_numpy()[known] == whole.to_numpy()[known]).all()
    cells = whole.drop(columns="s")
    cells.columns = pd.MultiIndex.from_tuples(cells.columns)
    cells.iloc[3] = None
    assert model.impute(cells).notna().all().all()


def test_elements_of_real_arrays_have_columns() -> None:
    model = gaussian()
    table = pd.DataFrame({("x", 0): [1.0, np.nan], ("x", 1): [np.nan, 7.0]}, index=[4, 9])
    made = model.impute(table)
    assert made.to_numpy().tolist() == [[1.0, 5.0], [0.0, 7.0]]
    assert made.index.tolist() == [4, 9]
    assert made.columns.equals(table.columns)
    (drawn,) = model.impute(table[[("x", 1)]], draws=1, seed=0)
    assert drawn.shape == (2, 1)
    assert drawn.iloc[1, 0] == 7.0
    assert np.isfinite(drawn.iloc[0, 0])
