"""Columns that are the numbers of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pgnn
from pgnn.errors import DataError, EvidenceError
from pgnn.evidence.cell_names import CellNames


def bits(rows: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (rows, 4))


def vae() -> pgnn.VAE:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    return pgnn.VAE(encoder, nn.Linear(2, 4), pgnn.BernoulliHead((2, 2)), latent=2)


def machine() -> pgnn.RestrictedBoltzmannMachine:
    return pgnn.RestrictedBoltzmannMachine(pgnn.Variable("visible", 2, shape=(2, 2)), 3)


def belief() -> pgnn.DeepBeliefNetwork:
    return pgnn.DeepBeliefNetwork([4, 3])


FEW = {
    vae: pgnn.LowerBound(max_iterations=1),
    machine: pgnn.ContrastiveDivergence(epochs=1),
    belief: pgnn.GreedyLayerwise(pgnn.ContrastiveDivergence(epochs=1)),
}


def fitted(make: Any, data: Any, **rest: Any) -> Any:
    return make().fit(data, learner=FEW[make], seed=0, progress=False, **rest)


@pytest.mark.parametrize("make", FEW)
def test_a_frame_is_the_matrix_of_its_columns(make: Any) -> None:
    rows = bits()
    frame = pd.DataFrame(rows, columns=[*"abcd"])
    model, plain = (
        fitted(make, frame),
        fitted(make, rows.reshape(-1, *make().variables[make().vector].shape)),
    )
    for name, x in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], x)
    assert (model.columns, plain.columns) == (("a", "b", "c", "d"), ())
    engine = (
        pgnn.Variational(
            objective=pgnn.ImportanceWeighted(3),
            max_iterations=0,
            seed=0,
            num_samples=3,
            progress=False,
        )
        if make is vae
        else None
    )
    expected = model.log_prob(
        {model.vector: rows.reshape(-1, *model.variables[model.vector].shape)}, engine=engine
    )
    mixed = frame[["c", "a", "d", "b"]]  # names tell the places, where they are known
    assert torch.equal(model.log_prob(mixed, engine=engine), expected)
    assert torch.equal(plain.log_prob(frame, engine=engine), expected)
    assert torch.equal(plain.log_prob(frame.rename(columns={"a": "e"}), engine=engine), expected)
    with pytest.raises(EvidenceError, match=r"unknown columns? 'e'"):
        model.log_prob(frame.rename(columns={"a": "e"}), engine=engine)
    with pytest.raises(EvidenceError, match=r"unknown columns 'a', 'b', 'c'.*but this one has 3"):
        plain.log_prob(frame[["a", "b", "c"]], engine=engine)


def test_names_are_kept_in_files_and_by_fits_that_succeed(tmp_path: Any) -> None:
    frame = pd.DataFrame(bits(), columns=[*"abcd"])
    model = fitted(machine, frame)
    model.save(tmp_path / "machine")
    again = pgnn.load(tmp_path / "machine")
    assert again.columns == ("a", "b", "c", "d")
    assert torch.equal(again.log_prob(frame[[*"dcba"]]), model.log_prob(frame))
    with pytest.raises(DataError):
        model.fit(5 * frame.rename(columns=str.upper), learner=FEW[machine], progress=False)
    assert model.columns == ("a", "b", "c", "d")


def test_columns_that_occur_twice_are_told() -> None:
    frame = pd.DataFrame(bits(), columns=[*"abca"])
    model = machine()
    for ask in (lambda: model.fit(frame, learner=FEW[machine]), lambda: model.impute(frame)):
        with pytest.raises(DataError, match="'a' occurs twice"):
            ask()


def test_single_numbers_are_told_by_their_names() -> None:
    frame = pd.DataFrame(bits(), columns=[*"abcd"])
    model = fitted(machine, frame)
    by_name, by_place = ({n: 1} for n in ("c", ("visible", 1, 0)))
    assert torch.equal(
        model.query("hidden", by_name)["hidden"].probs,
        model.query("hidden", by_place)["hidden"].probs,
    )


def test_grey_values_and_weights_come_in_columns() -> None:
    grey = pd.DataFrame(np.random.default_rng(0).random((20, 4)), columns=[*"abcd"])
    learner = pgnn.ContrastiveDivergence(epochs=1, probabilities=True)
    model = machine().fit(grey, learner=learner, seed=0, progress=False)
    assert model.history["rows"] == 20
    heavy = pd.DataFrame(bits(), columns=[*"abcd"]).assign(w=np.arange(30.0))
    assert fitted(machine, heavy, weights="w").history["rows"] == 29  # one counts nothing


@pytest.mark.parametrize("make", [vae, machine])
@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor, pd.DataFrame])
def test_holes_of_arrays_and_frames_are_filled(make: Any, form: Any) -> None:
    rows = bits(6).astype(float)
    rows[0, 1] = rows[3, 2] = np.nan
    model = fitted(make, bits())
    filled = model.impute(form(rows.copy()))
    assert type(filled) is type(form(rows))
    values = np.asarray(filled)
    np.testing.assert_array_equal(values[~np.isnan(rows)], rows[~np.isnan(rows)])
    found = model.impute(pd.DataFrame({model.vector: [*rows.reshape(-1, 2, 2)]}))[model.vector]
    np.testing.assert_allclose(values, np.stack([*found]).reshape(-1, 4).astype(float))
    shaped = model.impute(rows.reshape(-1, 2, 2))
    assert shaped.shape == (6, 2, 2)
    with pytest.raises(DataError, match=r"shape \(N, 2, 2\), got \(6, 3\)"):
        model.impute(rows[:, :3])


def test_draws_of_arrays_are_arrays() -> None:
    rows = bits(3).astype(float)
    rows[0, 1] = np.nan
    first, second = fitted(machine, bits()).impute(rows, draws=2, seed=0)
    assert first.shape == second.shape == rows.shape
    assert not np.isnan(first).any()


def test_columns_that_are_no_numbers_are_states() -> None:
    array = pgnn.Variable("x", ["no", "yes"], shape=(2,))
    cells = CellNames(array, ["a", "b"])
    assert cells.rows({"a": ["no"], "b": ["yes"]}) is None
    model = pgnn.RestrictedBoltzmannMachine(array, 2)
    learner = FEW[machine]
    frame = pd.DataFrame({"a": ["no", "yes"] * 5, "b": ["yes", "no"] * 5})
    model.fit(frame, learner=learner, seed=0, progress=False)
    whole = {"x": [["no", "yes"], ["yes", "no"]]}
    torch.testing.assert_close(model.log_prob(frame[:2]), model.log_prob(whole))


@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("make", [
    lambda: pgnn.RestrictedBoltzmannMachine(4, 2),
    lambda: pgnn.SigmoidBeliefNetwork([4, 2]),
    lambda: pgnn.Hopfield(pgnn.Variable("units", 2, (4,))),
    lambda: pgnn.Autoencoder(
        torch.nn.Linear(4, 1), torch.nn.Linear(1, 4), pgnn.NormalHead((4,), 1.0), latent=1),
], ids=["machine", "belief net", "memory", "autoencoder"])  # fmt: skip
def test_a_frame_of_another_width_is_told_so(make: Any, width: int) -> None:
    frame = pd.DataFrame(np.zeros((6, width), dtype=int), columns=[*"abcde"][:width])
    says = rf"has 4 elements, and a frame has a column for each of them, but this one has {width};"
    with pytest.raises(DataError, match=says):
        make().fit(frame, progress=False)
    with pytest.raises(EvidenceError, match=says):
        make().log_prob(frame)
    with pytest.raises(EvidenceError, match="known"):  # one column of a wrong name
        make().log_prob(frame[["a"]])


def test_labels_are_a_column_beside_those_of_the_array() -> None:
    """A machine with labels takes a frame, a mapping and an array of its visible units."""
    rows = np.array([[1, 1, 0, 0], [0, 0, 1, 1]] * 10)
    labels = ["odd", "even"] * 10
    frame = pd.DataFrame(rows, columns=[*"abcd"]).assign(label=labels)
    learner = pgnn.ContrastiveDivergence(epochs=3)

    def machine(data: Any) -> Any:
        model = pgnn.RestrictedBoltzmannMachine(4, 2, labels=["odd", "even"])
        return model.fit(data, learner=learner, seed=0, progress=False)

    named, mapped = machine(frame), machine({"visible": rows, "label": labels})
    for one, other in zip(named.parameters(), mapped.parameters(), strict=True):
        assert torch.equal(one, other)
    assert tuple(named.columns) == ("a", "b", "c", "d")
    expected = mapped.query("label", {"visible": rows})["label"].probs
    for asked in (frame[["d", "b", "a", "c"]], rows):
        assert torch.equal(named.query("label", asked)["label"].probs, expected)
    torch.testing.assert_close(named.log_prob(frame), mapped.log_prob(
        {"visible": rows, "label": labels}))  # fmt: skip
    with pytest.raises(DataError, match="but this one has 3"):
        machine(frame.drop(columns="a"))


def test_columns_beside_a_whole_array_are_no_elements_of_it() -> None:
    machine = pgnn.RestrictedBoltzmannMachine(4, 2)
    frame = pd.DataFrame({("visible", k): [0, 1] for k in range(4)} | {"id": [1, 2], "day": [3, 4]})
    with pytest.raises(pgnn.PgnnError) as told:
        machine.log_prob(frame)
    assert "'id', 'day'" in str(told.value)
    assert "has 4 elements" not in str(told.value)
