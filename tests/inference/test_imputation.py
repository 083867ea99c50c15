"""Tables with holes: what is filled in, what stays, and how often draws have it right."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import DataError, EvidenceError, Unsupported

RNG = np.random.default_rng(0)
N = 120


def mixed() -> tuple[pgnn.BayesianNetwork, pd.DataFrame, pd.DataFrame]:
    """A group that tells a kind and two numbers, one of which depends on the other."""
    kinds = {
        "a": pgnn.Gaussian(
            pgnn.Variable("a"), [pgnn.Variable("group", ["g", "h"])], [0.0, 5.0], [1.0, 1.0]
        ),
        "b": pgnn.LinearGaussian(pgnn.Variable("b"), [pgnn.Variable("a")], [2.0], 1.0, 0.25),
        "group": [0.5, 0.5],
        "kind": [[0.9, 0.1], [0.2, 0.8]],
    }
    states = {"group": ["g", "h"], "kind": [1, 2]}
    model = pgnn.BayesianNetwork([("group", "a"), ("a", "b"), ("group", "kind")], kinds, states)
    whole = model.sample(N, seed=0).frame()
    whole["kind"] = whole["kind"].astype(int)
    holes = whole.astype(object).mask(RNG.random(whole.shape) < 0.3)
    holes = holes.astype({"a": float, "b": float})
    return model, whole, holes.set_index(np.arange(100, 100 + N))


def test_the_most_probable_values_are_filled_in() -> None:
    model, whole, holes = mixed()
    before = holes.copy()
    made = model.impute(holes)
    pd.testing.assert_frame_equal(holes, before)
    assert not made.isna().any().any()
    assert made.index.equals(holes.index)
    assert [*made.columns] == [*holes.columns]
    for name in holes:
        observed = holes[name].notna()
        assert (made[name][observed].astype(str) == holes[name][observed].astype(str)).all()
    one = holes.iloc[int(np.flatnonzero(holes["a"].isna() & holes["b"].notna())[0])]
    row = made.loc[one.name]
    best = model.most_probable({n: x for n, x in one.items() if not pd.isna(x)})
    assert row["group"] == best["group"]
    known = {n: row[n] for n in ("group", "kind")} | {"b": one["b"]}
    assert row["a"] == pytest.approx(float(model.query("a", known)["a"].mean))
    wrong = (made["group"].to_numpy() != whole["group"].astype(str).to_numpy()).mean()
    assert wrong < 0.1


def test_draws_are_spread_as_the_posterior() -> None:
    model, _, holes = mixed()
    tables = model.impute(holes.head(20), draws=400, seed=0)
    assert len(tables) == 400
    place = int(np.flatnonzero(holes["a"].head(20).isna())[0])
    one = {n: x for n, x in holes.iloc[place].items() if not pd.isna(x)}
    drawn = np.array([t.iloc[place]["a"] for t in tables], dtype=float)
    expected = model.query("a", one)["a"]
    assert drawn.mean() == pytest.approx(float(expected.mean), abs=5 * float(expected.std) / 20)
    assert all(t.notna().all().all() for t in tables)
    again = model.impute(holes.head(20), draws=2, seed=0)
    pd.testing.assert_frame_equal(again[0], model.impute(holes.head(20), draws=2, seed=0)[0])


def test_csv_in_and_out(tmp_path: Path) -> None:
    model, _, holes = mixed()
    holes.assign(note="x").to_csv(tmp_path / "holes.csv", index=False)
    made = model.impute(tmp_path / "holes.csv", to=tmp_path / "whole.csv", ignore=["note"])
    written = pd.read_csv(tmp_path / "whole.csv")
    assert not written.isna().any().any()
    assert (written["note"] == "x").all()
    np.testing.assert_allclose(written["a"], made["a"].astype(float))
    model.impute(
        tmp_path / "holes.csv", draws=3, to=tmp_path / "three.csv", ignore=["note"], seed=0
    )
    assert pd.read_csv(tmp_path / "three.csv").groupby("draw").size().tolist() == [N] * 3
    with pytest.raises(EvidenceError, match="unknown column 'note'"):
        model.impute(tmp_path / "holes.csv")


@pytest.mark.parametrize(
    "make", [lambda: pgnn.FactorAnalysis(1), lambda: pgnn.Density(pgnn.Gaussian)]
)
def test_vectors_with_named_numbers(make: Any) -> None:
    x = RNG.normal(size=(200, 1)) @ [[1.0, 2.0, -1.0]] + 0.1 * RNG.normal(size=(200, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    holes = frame.mask(RNG.random(x.shape) < 0.2)
    model = make().fit(holes, seed=0, progress=False, learner=pgnn.EM())
    made = model.impute(holes)
    assert not made.isna().any().any()
    some = holes.isna().to_numpy() & ~holes.isna().all(axis=1).to_numpy()[:, None]
    assert np.abs((made - frame).to_numpy()[some]).mean() < 0.2
    drawn = model.impute(holes, draws=2, seed=0)
    assert not drawn[0].equals(drawn[1])
    assert np.abs((drawn[0] - frame).to_numpy()[some]).mean() < 0.4


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    model, _, _ = mixed()
    with pytest.raises(DataError, match="expected a data frame"):
        model.impute(3)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="expected the names of columns"):
        model.impute(tmp_path / "empty.csv")
    chain = pgnn.HiddenMarkovModel(2, {"x": 2})
    with pytest.raises(Unsupported, match="smooth"):
        chain.impute({"x": [0, 1]})
    whole = model.sample(3, seed=0).frame()
    pd.testing.assert_frame_equal(model.impute(whole), whole)
    assert torch.is_tensor(model.log_prob(whole))


def test_whole_numbers_in_a_file_stay_whole() -> None:
    pair = {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.1, 0.9]]}
    model = pgnn.BayesianNetwork([("a", "b")], pair, states={"a": [0, 1], "b": [1, 2]})
    written = io.StringIO()
    model.impute(io.StringIO("a,b\n0,1\n,2\n1,\n"), to=written)
    assert written.getvalue() == "a,b\n0,1\n1,2\n1,2\n"


def test_arrays_of_discrete_variables_are_completed() -> None:
    rng = np.random.default_rng(0)
    grid = pgnn.MarkovRandomField.grid((2, 2), coupling=0.3, name="p")
    rows = rng.integers(0, 2, (3, 2, 2)).astype(float)
    holes = rows.copy()
    holes[0, 0, 1] = np.nan
    best = np.stack([*grid.impute({"p": holes})["p"]])
    (drawn,) = grid.impute({"p": holes}, draws=1, seed=0)
    for whole in (best, np.stack([*drawn["p"]])):
        assert np.isfinite(whole).all()
        assert (whole[~np.isnan(holes)] == rows[~np.isnan(holes)]).all()
    expected = grid.most_probable({"p": holes})["p"]
    assert (best == np.asarray(expected)).all()


def labelled(**states: list[str]) -> pgnn.BayesianNetwork:
    tables = {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.1, 0.9]]}
    return pgnn.BayesianNetwork([("a", "b")], tables, states=states)


def test_labels_in_files_stay_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    model = labelled(a=["001", "1"], b=["None", "NA"])
    path.write_text("a,b\n001,\n1,NA\n,None\n")
    assert model.impute(path).to_numpy().tolist() == [["001", "None"], ["1", "NA"], ["001", "None"]]
    path.write_text("a,b\n001,,\n1,NA,\n")  # a comma too many at the end of each row
    assert model.impute(path).to_numpy().tolist() == [["001", "None"], ["1", "NA"]]
    path.write_text("a,b\n001,NA,1\n")
    with pytest.raises(DataError, match="line 2: expected 2 cells, one for each column, got 3"):
        model.impute(path)


def test_impossible_rows_are_told_without_advice_that_does_not_help() -> None:
    tables = {"a": [0.5, 0.5], "b": [[1.0, 0.0], [0.2, 0.8]]}
    model = pgnn.BayesianNetwork([("a", "b")], tables)
    with pytest.raises(pgnn.ImpossibleEvidence, match=r"1 of 2 rows.*row 1.*remove them"):
        model.impute(pd.DataFrame({"a": [None, 0.0], "b": [0.0, 1.0]}))


@pytest.mark.parametrize("hidden", [[1, 3], [0, 1, 2, 3]])
def test_counts_that_are_missing_are_told_by_their_parents(hidden: list[int]) -> None:
    count = pgnn.Poisson(pgnn.Variable("n"), [pgnn.Variable("k", 2)], rate=[1.0, 5.0])
    model = pgnn.BayesianNetwork([("k", "n")], {"k": [0.6, 0.4], "n": count})
    table = pd.DataFrame({"k": [0, 1, None, None], "n": [1.0, 7.0, 6.0, 0.0]})
    table.loc[hidden, "n"] = np.nan
    whole = model.impute(table)
    expected = {0: 1.0, 1: 5.0, 2: 1.0, 3: 1.0}
    for row in hidden:
        assert whole["k"][row] == int(row == 1)
        assert whole["n"][row] == pytest.approx(expected[row])
    assert whole["k"][2] == int(2 not in hidden)


def test_covariates_of_what_is_missing() -> None:
    network = torch.nn.Linear(1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        network.bias.zero_()
    model = pgnn.BayesianNetwork([], {"y": pgnn.Neural(pgnn.Variable("y", 2), [], network, ["x"])})
    x = torch.tensor([[-9.0], [9.0], [9.0]])
    holes = {"y": [None, None, 0]}
    assert model.impute(holes, inputs={"x": x})["y"].tolist() == [0, 1, 0]
    (drawn,) = model.impute(holes, inputs={"x": x}, draws=1, seed=0)
    assert drawn["y"].tolist() == [0, 1, 0]
