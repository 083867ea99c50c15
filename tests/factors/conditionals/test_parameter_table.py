"""Parameters of real conditionals as data frames and as text."""

import numpy as np
import pytest
import torch
from torch.distributions import Gamma

import pgnn
from pgnn import Diagonal, Gaussian, LinearGaussian, Variable
from pgnn.factors import Renamed

DAY, X, V = Variable("day", ["work", "rest"]), Variable("x"), Variable("v", shape=(2,))
MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])

PIECES = {
    "gaussian": (
        Gaussian(X, [DAY], mean=[1.0, 2.0], covariance=[4.0, 9.0]),
        {"mean": [1.0, 2.0], "variance": [4.0, 9.0]},
    ),
    "diagonal": (
        Gaussian(V, mean=[1.0, 2.0], covariance=[4.0, 9.0], form=Diagonal()),
        {"mean[0]": [1.0], "mean[1]": [2.0], "variance[0]": [4.0], "variance[1]": [9.0]},
    ),
    "vector": (
        Gaussian(V, mean=[1.0, 2.0], covariance=MATRIX),
        {"mean[0]": [1.0], "mean[1]": [2.0]}
        | {f"covariance[{i}, {j}]": [MATRIX[i, j]] for i in range(2) for j in range(2)},
    ),
    "regression": (
        LinearGaussian(X, [V, DAY, Variable("u")], [[1, 2, 3], [4, 5, 6]], [7, 8], [4.0, 9.0]),
        {"bias": [7, 8], "weight of v[0]": [1, 4], "weight of v[1]": [2, 5]}
        | {"weight of u": [3, 6], "variance": [4, 9]},
    ),
    "mixture": (
        pgnn.GaussianMixture(X, [], 2, [0.25, 0.75], mean=[1.0, 2.0], covariance=[4.0, 9.0]),
        {"weight": [0.25, 0.75], "mean": [1.0, 2.0], "variance": [4.0, 9.0]},
    ),
    "counts": (pgnn.Poisson(X, [DAY], rate=[5.0, 1.0]), {"rate": [5.0, 1.0]}),
    "outcomes": (
        pgnn.Multinomial(V, [DAY], probs=[[0.5, 0.5], [0.25, 0.75]]),
        {"probs[0]": [0.5, 0.25], "probs[1]": [0.5, 0.75]},
    ),
    "bits": (
        pgnn.Bernoulli(Variable("b", 2, shape=(2,)), [DAY], probs=[[0.5, 0.25], [0.125, 1.0]]),
        {"probs[0]": [0.5, 0.125], "probs[1]": [0.25, 1.0]},
    ),
    "torch": (
        pgnn.Distributional(X, [DAY], Gamma, concentration=[1.0, 2.0], rate=[1.0, 0.5]),
        {"concentration": [1.0, 2.0], "rate": [1.0, 0.5]},
    ),
}


@pytest.mark.parametrize("kind", PIECES)
def test_frames_have_a_row_for_each_configuration_and_a_column_for_each_number(kind: str) -> None:
    piece, expected = PIECES[kind]
    frame = piece.frame()
    assert list(frame.columns) == list(expected)
    np.testing.assert_allclose(frame.to_numpy(), np.array([*expected.values()]).T, rtol=1e-12)
    if DAY in piece.parents:
        assert frame.index.name == "day"
        assert list(frame.index) == ["work", "rest"]
    lines = str(piece).splitlines()
    assert lines[0].endswith(f", {piece.kind_name}")
    assert all(name in lines[1] for name in expected)


def test_the_components_of_a_mixture_are_rows() -> None:
    piece = pgnn.GaussianMixture(X, [DAY], 3)
    assert piece.frame().index.names == ["day", "component of x"]
    assert len(piece.frame()) == 6


def test_fitted_models_show_their_numbers() -> None:
    rng = np.random.default_rng(0)
    data = {"class": rng.integers(0, 2, 50), "x": rng.normal(size=50)}
    model = pgnn.NaiveBayes(2, {"x": Gaussian}).fit(data, progress=False)
    means = [data["x"][data["class"] == k].mean() for k in (0, 1)]
    np.testing.assert_allclose(model.conditionals["x"].frame()["mean"], means, rtol=1e-9)
    assert f"{means[1]:.4f}" in str(model.conditionals["x"])
    assert "parameters of x" in model._repr_html_()
    assert f"{means[1]:.4g}" in model._repr_html_()


def test_renamed_pieces_show_the_new_names() -> None:
    for name in ("counts", "regression"):
        piece = PIECES[name][0]
        again = Renamed(piece, {"day": "monday", **({"u": "w"} if name == "regression" else {})})
        assert again.frame().index.name == "monday"
        columns = [c.replace("of u", "of w") for c in piece.frame().columns]
        assert list(again.frame().columns) == columns


def test_what_has_no_numbers_to_show_says_where_they_are() -> None:
    with pytest.raises(pgnn.Unsupported, match=r"'x' is not a single discrete variable; see its n"):
        pgnn.Softmax(DAY, [X]).frame()
    with pytest.raises(pgnn.Unsupported, match="observe it"):
        pgnn.plot.table(PIECES["counts"][0])
    many = Variable("many", shape=(200,))
    piece = Gaussian(many, mean=np.ones(200), covariance=np.ones(200), form=Diagonal())
    assert str(piece) == repr(piece)
    assert piece.frame().shape == (1, 400)


def test_the_leak_of_a_noisy_gate_is_shown_as_a_probability() -> None:
    gate = pgnn.NoisyOr(Variable("y", 2), [Variable("a", 2)], [0.5], leak=0.05)
    assert gate.leak.item() == pytest.approx(0.05)
    torch.testing.assert_close(gate.factor().values[0, 1], gate.leak)
