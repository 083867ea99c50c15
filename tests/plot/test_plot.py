"""Pictures hold what they were asked to show."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.inference.history import History

ROLLS = [0, 2, 5, 5, 5, 5, 1, 3]


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture
def casino() -> pgnn.HiddenMarkovModel:
    return pgnn.HiddenMarkovModel(
        ["fair", "loaded"],
        {"roll": [[1 / 6] * 6, [0.1] * 5 + [0.5]]},
        [0.5, 0.5],
        [[0.95, 0.05], [0.1, 0.9]],
    )


def own_axes() -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


def words(ax: Any) -> list[str]:
    return [t.get_text() for t in ax.texts]


class TestStates:
    def test_heights_are_the_probabilities(self, casino: pgnn.HiddenMarkovModel) -> None:
        posterior = casino.smooth({"roll": ROLLS})
        ax = pgnn.plot.states(posterior)
        first = ax.collections[0].get_paths()[0]
        probs = posterior["state"].probs.numpy()
        for step in range(len(ROLLS)):
            inside = [first.contains_point((step + 0.5, h)) for h in probs[step, 0] + [-1e-3, 1e-3]]
            assert inside == [True, False]
        assert ax.get_xlim() == (0, len(ROLLS))
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["fair", "loaded"]

    def test_the_truth_is_a_band_of_runs(self, casino: pgnn.HiddenMarkovModel) -> None:
        truth = ["fair"] * 3 + ["loaded"] * 4 + [None]
        ax = pgnn.plot.states(casino.smooth({"roll": ROLLS}), truth=truth)
        bars = [c.get_paths()[0].get_extents() for c in ax.collections[2:]]
        assert [(b.x0, b.x1) for b in bars] == [(0, 3), (3, 7)]
        assert all(b.y1 < 0 for b in bars)
        assert "truth" in [t.get_text() for t in ax.get_yticklabels()]

    def test_given_axes_and_a_row_of_a_batch(self, casino: pgnn.HiddenMarkovModel) -> None:
        posterior = casino.filter({"roll": [ROLLS, ROLLS[:3]]})
        ax = own_axes()
        assert pgnn.plot.states(posterior, "state", row=1, ax=ax) is ax
        assert ax.get_xlim() == (0, 3)

    def test_many_states_are_rows_of_a_heat_map(self) -> None:
        model = pgnn.HiddenMarkovModel(20, {"x": 2})
        posterior = model.smooth({"x": [0, 1, 0]})
        ax = pgnn.plot.states(posterior, truth=[3, None, 4])
        np.testing.assert_allclose(
            ax.images[0].get_array(), posterior["state"].probs.detach().numpy().T
        )
        assert [*ax.lines[0].get_xdata()] == [0.5, 2.5]
        assert [*ax.lines[0].get_ydata()] == [3.5, 4.5]
        assert ax.get_yticklabels()[19].get_text() == "19"
        eight = pgnn.HiddenMarkovModel(8, {"x": 2}).smooth({"x": [0, 1, 0]})
        colours = [tuple(c.get_facecolor()[0]) for c in pgnn.plot.states(eight).collections]
        assert len({*colours}) == 8

    def test_labels_of_many_states_do_not_overlap(self) -> None:
        for number, ax in ((30, None), (60, None), (30, own_axes())):
            ax = pgnn.plot.states(
                pgnn.HiddenMarkovModel(number, {"x": 2}).smooth({"x": [0]}), ax=ax
            )
            ax.figure.canvas.draw()
            boxes = [t.get_window_extent() for t in ax.get_yticklabels()]
            assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))

    def test_ticks_are_whole_steps_below_their_middles(
        self, casino: pgnn.HiddenMarkovModel
    ) -> None:
        ax = pgnn.plot.states(casino.smooth({"roll": ROLLS[:3]}))
        assert [*ax.get_xticks()] == [0.5, 1.5, 2.5]
        assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "2"]

    def test_refusals(self, casino: pgnn.HiddenMarkovModel) -> None:
        posterior = casino.smooth({"roll": ROLLS})
        with pytest.raises(pgnn.EvidenceError, match="no target 'die'"):
            pgnn.plot.states(posterior, "die")
        with pytest.raises(pgnn.EvidenceError, match="row must be below 1"):
            pgnn.plot.states(posterior, row=1)
        with pytest.raises(pgnn.EvidenceError, match="must have 8 steps, as the posterior, got 2"):
            pgnn.plot.states(posterior, truth=["fair", "fair"])
        with pytest.raises(pgnn.EvidenceError, match="crooked"):
            pgnn.plot.states(posterior, truth=["crooked"] * 8)
        coin = pgnn.BayesianNetwork(_one_node(), {"coin": [0.5, 0.5]})
        with pytest.raises(pgnn.Unsupported, match="must be a sequence of states"):
            pgnn.plot.states(coin.query())


class TestTransitions:
    def test_cells(self, casino: pgnn.HiddenMarkovModel) -> None:
        ax = own_axes()
        assert pgnn.plot.transitions(casino, ax=ax) is ax
        table = np.asarray(ax.images[0].get_array())
        np.testing.assert_allclose(table, [[0.5, 0.5], [0.95, 0.05], [0.1, 0.9]])
        assert words(ax) == ["0.50", "0.50", "0.95", "0.05", "0.10", "0.90"]
        assert [t.get_text() for t in ax.get_yticklabels()] == ["first", "fair", "loaded"]

    def test_zeros_and_small_numbers(self) -> None:
        model = pgnn.HiddenMarkovModel(2, {"x": 2}, [1.0, 0.0], [[0.999, 0.001], [0.0, 1.0]])
        assert words(pgnn.plot.transitions(model)) == ["1.00", "0", "1.00", "<.01", "0", "1.00"]

    def test_many_states(self) -> None:
        ax = pgnn.plot.transitions(pgnn.HiddenMarkovModel(50, {"x": 2}))
        assert not words(ax)
        assert len(ax.get_xticklabels()) <= 40
        assert len(ax.figure.axes) == 2  # the second one is the scale

    def test_long_labels_do_not_overlap(self) -> None:
        model = pgnn.HiddenMarkovModel(["calm and clear", "north-westerly"], {"x": 2})
        ax = pgnn.plot.transitions(model)
        ax.figure.canvas.draw()
        boxes = [t.get_window_extent() for t in ax.get_xticklabels()]
        assert not boxes[0].overlaps(boxes[1])

    def test_refusals(self) -> None:
        with pytest.raises(pgnn.Unsupported, match="expected a model with transitions"):
            pgnn.plot.transitions(pgnn.BayesianNetwork(_one_node(), {"coin": [0.5, 0.5]}))
        state, before = pgnn.Variable("state", 2), pgnn.Variable(("state", -1), 2)
        driven = pgnn.Neural(state, [before], torch.nn.Linear(3, 2), inputs=["u"])
        model = pgnn.HiddenMarkovModel(2, {"x": 2}, transitions=driven)
        with pytest.raises(pgnn.Unsupported, match="depend on inputs"):
            pgnn.plot.transitions(model)


class TestHistory:
    def test_of_a_fit(self) -> None:
        model = pgnn.HiddenMarkovModel(2, {"roll": 6})
        model.fit({"roll": ROLLS}, learner=pgnn.EM(tolerance=0.05), seed=0, progress=False)
        ax = own_axes()
        assert model.history.plot(ax) is ax
        (line,) = ax.lines  # the objective is the same without a prior
        assert line.get_ydata() == pytest.approx(model.history["trace"]["log_likelihood"])
        assert ax.get_ylabel() == "log likelihood"

    def test_several_figures_have_a_legend(self) -> None:
        ax = History(trace={"log_likelihood": [1.0, 2.0], "objective": [0.0, 1.0]}).plot()
        assert [t.get_text() for t in ax.get_legend().get_texts()] == [
            "log likelihood",
            "objective",
        ]

    def test_the_steep_beginning_of_a_long_record_is_left_out(self) -> None:
        values = [-1e6, *np.linspace(-10.0, -9.0, 199)]
        ax = History(trace={"objective": values}).plot()
        bottom, top = ax.get_ylim()
        assert -11 < bottom < -10
        assert -9 < top < -8
        assert ax.get_title(loc="left") == "1 first iteration not shown"

    def test_quantities_far_apart_have_panels_of_their_own(self) -> None:
        trace = {
            "error": [0.25, 0.2, 0.21],
            "pseudo": [-0.68, -0.6, -0.62],
            "gap": [50.0, 40.0, 30.0],
        }
        ax = History(trace=trace).plot()
        panels = ax.figure.axes
        assert [p.get_ylabel() for p in panels] == ["error", "pseudo", "gap"]
        assert [p.get_xlabel() for p in panels] == ["", "", "iteration"]
        ax.figure.canvas.draw()
        tops = [p.get_window_extent().y1 for p in panels]
        assert tops == sorted(tops, reverse=True)
        assert all(float(t).is_integer() for t in ax.get_xticks())

    def test_one_iteration_is_observed(self) -> None:
        ax = History(trace={"objective": [1.0]}).plot()
        assert ax.lines[0].get_marker() == "o"

    def test_refusal(self) -> None:
        with pytest.raises(pgnn.Unsupported, match="no values"):
            History(log_likelihood=-3.0).plot()


def _one_node() -> Any:
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_node("coin")
    return graph


def test_a_model_that_was_never_fitted_has_nothing_to_draw() -> None:
    with pytest.raises(pgnn.Unsupported, match="no values of single iterations"):
        pgnn.HiddenMarkovModel(2, {"x": 2}).history.plot()


def test_the_history_of_a_model_is_drawn_by_the_model(casino: pgnn.HiddenMarkovModel) -> None:
    with pytest.raises(pgnn.Unsupported, match="fit the model first"):
        pgnn.plot.history(casino)
    learned = pgnn.HiddenMarkovModel(2, {"roll": 6})
    learned.fit({"roll": ROLLS}, seed=0, progress=False)
    lines = pgnn.plot.history(learned).get_lines()
    assert [*lines[0].get_ydata()] == learned.history["trace"]["log_likelihood"]
    with pytest.raises(pgnn.Unsupported, match="a fitted model or its history"):
        pgnn.plot.history(3)


def test_without_matplotlib_the_message_names_what_to_install(
    casino: pgnn.HiddenMarkovModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgnn.errors.find_spec", lambda name: None)
    with pytest.raises(pgnn.Unsupported, match=r"pgnn\[plot\]"):
        pgnn.plot.transitions(casino)
    with pytest.raises(pgnn.Unsupported, match=r"pgnn\[plot\]"):
        pgnn.plot.states(casino.smooth({"roll": ROLLS}))


def test_clusters_and_loadings() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 3)) + 5.0 * rng.integers(0, 3, (150, 1))
    mixture = pgnn.Mixture(3, {"x": pgnn.Gaussian}).fit({"x": x}, seed=0, progress=False)
    ax = pgnn.plot.clusters(mixture, {"x": x}, axes=(0, 2))
    assert len(ax.collections) == 3
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["0", "1", "2"]
    with pytest.raises(pgnn.Unsupported, match="expected a mixture"):
        pgnn.plot.clusters(pgnn.FactorAnalysis(1, 2))
    with pytest.raises(pgnn.EvidenceError, match="axes must be"):
        pgnn.plot.clusters(mixture, axes=(0, 3))
    factors = pgnn.FactorAnalysis(1, ["a", "b", "c"]).fit(x, progress=False)
    ax = pgnn.plot.loadings(factors)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    pgnn.plot.loadings(pgnn.PrincipalComponents(2).fit(rng.normal(size=(50, 6))), shape=(2, 3))
    with pytest.raises(pgnn.EvidenceError, match="pixels"):
        pgnn.plot.loadings(factors, shape=(2, 2))
    with pytest.raises(pgnn.Unsupported, match="expected a FactorAnalysis"):
        pgnn.plot.loadings(mixture)


def test_units_as_images() -> None:
    model = pgnn.RestrictedBoltzmannMachine(pgnn.Variable("visible", 2, (4, 3)), 5)
    with torch.no_grad():
        model.weight("visible", "hidden").normal_(generator=torch.Generator().manual_seed(0))
    axes = pgnn.plot.filters(model, most=4)
    drawn = np.asarray(axes.images[0].get_array())
    assert drawn.shape == (9, 7)
    strongest = int(model.weight("visible", "hidden").detach().square().sum(0).argmax())
    own = model.weight("visible", "hidden").detach()[:, strongest].reshape(4, 3)
    np.testing.assert_allclose(drawn[:4, :3], own / own.abs().max())
    shown = pgnn.plot.samples(model.sample(6, seed=0), ax=own_axes())
    for image in (axes.images[0], shown.images[0]):  # gaps are grey, neither black nor white
        gaps = image.cmap(np.ma.masked_invalid(np.array([np.nan])))[0]
        assert gaps == pytest.approx([0.6, 0.6, 0.6, 1.0])
    assert np.asarray(shown.images[0].get_array()).shape == (9, 11)
    with pytest.raises(pgnn.EvidenceError, match="do not fill a square"):
        pgnn.plot.samples(torch.zeros(2, 5))


def test_energies_and_capacity() -> None:
    patterns = torch.tensor([[1, -1] * 10, [1] * 10 + [-1] * 10])
    recall = pgnn.Hopfield(20).fit(patterns).recall(patterns.roll(1, 1))
    lines = pgnn.plot.energy(recall).lines
    assert len(lines) == 2
    assert list(lines[0].get_ydata()) == [float(e[0]) for e in recall.energies]
    axes = pgnn.plot.recall([0.1, 0.2], {"Hebbian": [1.0, 0.3]})
    assert list(axes.lines[0].get_ydata()) == [1.0, 0.3]
    with pytest.raises(pgnn.EvidenceError, match="expected 2 overlaps"):
        pgnn.plot.recall([0.1, 0.2], [1.0])


def test_units_that_are_no_images() -> None:
    model = pgnn.RestrictedBoltzmannMachine(6, 2)
    for draw, says in (
        (
            lambda: pgnn.plot.filters(model, shape=(2, 2)),
            r"an image of shape \(2, 2\) must have",
        ),
        (lambda: pgnn.plot.filters(model, shape=(2, 3), most=0), "most must be at least 1"),
        (lambda: pgnn.plot.filters(pgnn.Hopfield(4)), "need hidden units, but the model has none"),
        (lambda: pgnn.plot.filters(pgnn.DeepBeliefNetwork([4, 2])), r"model.machine\(0\)"),
        (
            lambda: pgnn.plot.samples(np.ones((2, 5)), shape=(2, 2)),
            "must have 5 units",
        ),
    ):
        with pytest.raises(pgnn.EvidenceError, match=says):
            draw()
    pgnn.plot.filters(pgnn.DeepBeliefNetwork([4, 2]).machine(0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("marginals", r"model\.query\(\)"),
        ("states", r"model\.smooth\(sequence\)"),
        ("manifold", r"pgnn\.VAE"),
        ("ranking", "mutual_information"),
        ("samples", r"model\.sample\(100\)"),
        ("energy", r"model\.recall\(states\)"),
        ("sensitivity", r"pgnn\.sensitivity\.curve\(\)"),
        ("transitions", "transitions"),
        ("structure", "Program"),
        ("loadings", "FactorAnalysis"),
        ("history", "history"),
    ],
)
def test_models_in_place_of_what_is_drawn_are_refused(name: str, expected: str) -> None:
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    with pytest.raises(pgnn.Unsupported, match=expected):
        getattr(pgnn.plot, name)(model)
