"""Pictures of networks: the text says what is true, nothing overlaps, observed nodes are told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, ModelError, NotConverged, Unsupported
from pgnn.graphs.nested_layout import nested_layout
from pgnn.inference.continuous.real_posterior import RealPosterior
from pgnn.plot.canvas import DARK, LIGHT

FINDINGS = {
    "asia": {"smoke": "yes", "xray": "yes"},
    "alarm": {"HRBP": "HIGH", "CVP": "LOW"},
    "hailfinder": {"Scenario": "A"},
    "andes": {"SNode_3": "true"},
}


@pytest.fixture(autouse=True)
def no_screen() -> Iterator[None]:
    before = plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture(scope="module")
def asia() -> pgnn.BayesianNetwork:
    return pgnn.read(Path(pgnn.__file__).parent / "networks" / "asia.bif")


def normal_network() -> pgnn.BayesianNetwork:
    mean, y = pgnn.Variable("mean"), pgnn.Variable("y")
    tables = {
        "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
        "y": pgnn.LinearGaussian(y, [mean], [1.0], 0.0, covariance=1.0),
    }
    return pgnn.BayesianNetwork([("mean", "y")], tables)


def words(ax: Any) -> list[str]:
    return [t.get_text() for t in ax.texts]


def overlaps(ax: Any) -> list[tuple[str, str]]:
    """Texts that are drawn over each other."""
    renderer = ax.figure.canvas.get_renderer()
    extents = [(t.get_text(), t.get_window_extent(renderer)) for t in ax.texts]
    boxes = np.array([[e.x0, e.y0, e.x1, e.y1] for _, e in extents])
    pairs = []
    for i, j in itertools.combinations(range(len(boxes)), 2):
        a, b = boxes[i], boxes[j]
        if min(a[2], b[2]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[1], b[1]) > 2.0:
            pairs.append((extents[i][0], extents[j][0]))
    return pairs


class TestNetwork:
    def test_says_what_is_observed_what_changed_most_and_how_probable_states_are(
        self, asia: pgnn.BayesianNetwork
    ) -> None:
        evidence = {"smoke": "yes", "xray": "yes"}
        ax = pgnn.plot.network(asia, evidence=evidence)
        before, after = asia.query(), asia.query(evidence=evidence)
        distance = {
            n: (after[n].probs - before[n].probs).abs().sum() for n in asia.variables
            if n not in evidence
        }  # fmt: skip
        texts = words(ax)
        assert texts.count("observed") == 2
        assert texts.count("changed most") == 1
        place = {t.get_text(): t.get_position() for t in ax.texts}
        most = max(distance, key=distance.__getitem__)
        assert place["changed most"][1] == place[most][1]
        for name in asia.variables:
            for p in after[name].probs.tolist():
                assert f"{100 * p:.1f}%" in texts or p in (0.0, 1.0)
        headers = [c for c in ax.collections if c.get_zorder() == 3.5]
        assert sum(len(c.get_paths()) for c in headers) == 3
        bold = [t.get_text() for t in ax.texts if t.get_fontweight() == "bold"]
        assert bold.count("yes") == 2
        assert "no" not in bold

    def test_without_a_question_only_names_are_drawn(self, asia: pgnn.BayesianNetwork) -> None:
        assert sorted(words(pgnn.plot.network(asia))) == sorted(asia.variables)

    def test_ticks_are_where_bars_were(self, asia: pgnn.BayesianNetwork) -> None:
        posterior = asia.query(evidence={"smoke": "yes"})
        ax = pgnn.plot.network(asia, posterior, before=asia.query(), evidence={"smoke": "yes"})
        bars, ticks = [c for c in ax.collections if c.get_zorder() in (4.2, 4.4)]
        widths = [p.get_extents().width / 44.0 for p in bars.get_paths()]
        probs = [p for n in posterior for p in posterior[n].probs.tolist() if p > 0]
        assert widths == pytest.approx(probs)
        assert len(ticks.get_paths()) == 16

    def test_soft_evidence_rows_and_given_axes(self, asia: pgnn.BayesianNetwork) -> None:
        ax = plt.subplots()[1]
        soft = {"smoke": torch.tensor([0.3, 0.7])}
        assert pgnn.plot.network(asia, evidence=soft, ax=ax) is ax
        assert words(ax).count("soft evidence") == 1
        rows = {"smoke": ["yes", "no"], "xray": ["yes", None]}
        assert words(pgnn.plot.network(asia, evidence=rows, row=1)).count("observed") == 1
        with pytest.raises(EvidenceError, match="row must be below 2"):
            pgnn.plot.network(asia, evidence=rows, row=2)

    def test_a_given_posterior_remembers_what_was_observed(
        self, asia: pgnn.BayesianNetwork
    ) -> None:
        evidence = {"smoke": "yes", "xray": "yes"}
        posterior, before = asia.query(evidence=evidence), asia.query()
        given = pgnn.plot.network(asia, posterior, before=before)
        assert words(given) == words(pgnn.plot.network(asia, evidence=evidence))
        boxes = words(pgnn.plot.marginals(posterior, before=before))
        assert boxes.count("observed") == 2
        assert "tick: before" in boxes
        assert words(posterior.plot()).count("observed") == 2
        assert not any(w.startswith("tick") for w in words(posterior.plot()))
        rows = asia.query(evidence={"smoke": ["yes", None], "xray": ["no", "yes"]})
        assert words(rows.plot(row=0)).count("observed") == 2
        assert words(rows.plot(row=1)).count("observed") == 1

    def test_captions_fit_and_say_what_is_an_estimate(self, asia: pgnn.BayesianNetwork) -> None:
        evidence = {"xray": "yes"}
        narrow = pgnn.BayesianNetwork([], {"a": [0.5, 0.5]}, states={"a": 2})
        ax = pgnn.plot.network(narrow, narrow.query(), before=narrow.query())
        (caption,) = [t for t in ax.texts if t.get_text() == "tick: before the evidence"]
        assert caption.get_window_extent().x1 <= ax.get_window_extent().x1
        with pytest.warns(NotConverged):
            rough = asia.query(evidence=evidence, engine=pgnn.Gibbs(samples=5, chains=2, seed=0))
        (line,) = [t for t in rough.plot().texts if t.get_text().startswith("estimate")]
        assert "Gibbs, not converged" in line.get_text()
        assert line.get_fontweight() == "bold"
        assert not any("exact" in w for w in words(pgnn.plot.network(asia, evidence=evidence)))

    def test_arrays_are_small_heat_maps(self) -> None:
        field = pgnn.MarkovRandomField.grid((3, 4), ["paper", "ink"], coupling=0.8, name="pixel")
        assert "3 x 4 cells" in words(pgnn.plot.network(field))
        unfitted = pgnn.BayesianNetwork([("p", "q")])
        assert words(pgnn.plot.network(unfitted)) == ["p", "q"]
        posterior = field.query(evidence={("pixel", 0, 0): "ink"})
        ax = posterior.plot()
        (cells,) = [c for c in ax.collections if c.get_array() is not None]
        np.testing.assert_allclose(cells.get_array(), posterior["pixel"].probs[..., 1].flatten())
        assert {"1 of 12 observed", "probability of ink", "colours: blue 0, yellow 1"} <= set(
            words(ax)
        )
        chain = pgnn.HiddenMarkovModel(["fair", "loaded"], {"x": 2}, [0.5, 0.5], np.eye(2))
        smoothed = chain.smooth({"x": [[0, 1, 0], [0, 1, None]]})
        ax = smoothed.plot(row=1)
        (cells,) = [c for c in ax.collections if c.get_array() is not None]
        expected = smoothed["state"].probs[1].detach().T.flatten()
        np.testing.assert_allclose(cells.get_array(), expected)
        assert {"fair", "loaded"} <= set(words(ax))

    def test_text_too_small_to_read_is_warned_of(self, asia: pgnn.BayesianNetwork) -> None:
        ax = plt.subplots(figsize=(1.0, 1.0))[1]
        with pytest.warns(UserWarning, match="too small to read"):
            pgnn.plot.network(asia, evidence={"xray": "yes"}, ax=ax)
        tiny = plt.subplots(figsize=(0.4, 0.4))[1]
        with pytest.warns(UserWarning, match="too small to read"):
            pgnn.plot.network(asia, evidence={"xray": "yes"}, ax=tiny)
        assert not any(t.get_visible() for t in tiny.texts)

    def test_observed_states_are_certain(self) -> None:
        probs = torch.tensor([[1.0 - 2.0**-53, 2.0**-53]], dtype=torch.float64)
        answer = pgnn.Posterior([pgnn.Variable("a", 2)], probs, torch.zeros(1), batched=False)
        assert "100%" in words(answer.plot())
        assert [line.split()[1:3] for line in str(answer).splitlines()[1:2]] == [["0", "1"]]

    def test_real_variables_say_what_they_are_and_were(self) -> None:
        model = normal_network()
        texts = words(pgnn.plot.network(model, evidence={"y": 2.0}))
        assert texts.count("observed") == 1
        assert {"2", "mean 1, sd 0.707", "was mean 0, sd 1"} <= set(texts)
        assert "5% -0.163, 95% 2.16" in texts
        assert not any(w.startswith("tick") for w in texts)
        draws = {"mean": torch.linspace(0.0, 1.0, 40).reshape(2, 20)}
        none, mean = torch.zeros(1, 0), [model.variables["mean"]]
        sampled = RealPosterior([], none, mean, draws, diagnostics={}, statistics={})
        assert words(sampled.plot())[-1] == "estimate, MCMC"
        # a trace that only grows is worth two draws
        assert "mean 0.5 (se 0.23), sd 0.3" in words(sampled.plot())
        rows = model.query("mean", {"y": [2.0, 4.0]})
        assert "mean 2, sd 0.707" in words(rows.plot(row=1))

    def test_many_states_are_summed_up(self) -> None:
        model = pgnn.BayesianNetwork([], {"x": np.arange(1, 21) / 210}, states={"x": 20})
        texts = words(pgnn.plot.network(model, model.query(), max_states=4))
        assert "17 more" in texts
        assert f"{100 * (1 - 57 / 210):.1f}%" in texts

    def test_fields_chains_and_odd_names(self) -> None:
        pairs = [[pgnn.Variable(n, 2) for n in pair] for pair in ("ab", "bc", "ca")]
        field = pgnn.MarkovRandomField(
            [pgnn.TabularPotential(pair, np.ones((2, 2))) for pair in pairs]
        )
        assert {"a", "b", "c", "observed"} <= set(
            words(pgnn.plot.network(field, evidence={"a": 1}))
        )
        chain = pgnn.HiddenMarkovModel(2, {"x": 3})
        assert "state (step before)" in words(pgnn.plot.network(chain))
        odd = pgnn.BayesianNetwork([], {"$x_1$": [0.5, 0.5]}, states={"$x_1$": 2})
        ax = pgnn.plot.network(odd)
        ax.figure.canvas.draw()
        assert words(ax) == ["$x_1$"]
        with pytest.raises(ModelError, match="graph"):
            pgnn.plot.network(3)

    @pytest.mark.parametrize("name", FINDINGS)
    def test_published_networks_have_no_overlaps(self, data_dir: Path, name: str) -> None:
        model = pgnn.read(data_dir / "bn" / f"{name}.bif")
        dark = name == "alarm"
        with plt.style.context("dark_background" if dark else "default"):
            ax = pgnn.plot.network(model, evidence=FINDINGS[name])
        assert overlaps(ax) == []
        box = ax.get_window_extent()
        for text in ax.texts:
            extent = text.get_window_extent()
            assert box.x0 <= extent.x0
            assert extent.x1 <= box.x1
            assert text.get_color() == (DARK if dark else LIGHT).text


class TestOtherPictures:
    def test_junction_tree_shows_cliques_and_separators(self, asia: pgnn.BayesianNetwork) -> None:
        ax = pgnn.plot.junction_tree(asia)
        tree = pgnn.plot.junction_tree.__globals__["cliques_of"](asia)
        assert sum(w.startswith("clique of") for w in words(ax)) == len(tree)
        for *_, separator in tree.edges(data="separator"):
            assert f"separator of {len(separator)}" in words(ax)
            assert {*separator} <= {*words(ax)}
        assert overlaps(ax) == []

    def test_table_writes_probabilities(self, asia: pgnn.BayesianNetwork) -> None:
        ax = pgnn.plot.table(asia.conditionals["dysp"])
        assert words(ax) == [f"{p:.3g}" for p in asia.conditionals["dysp"].probs.flatten().tolist()]
        assert [t.get_text() for t in ax.get_yticklabels()][1] == "yes, no"
        assert ax.yaxis.label.get_rotation() == 0
        ax.figure.canvas.draw()
        assert ax.yaxis.label.get_window_extent().x0 >= 0
        factor = asia.query(["lung", "bronc"]).joint("lung", "bronc")
        assert len(words(pgnn.plot.table(factor))) == 4
        with pytest.raises(Unsupported, match="conditional"):
            pgnn.plot.table(asia)

    def test_posterior_plot(self, asia: pgnn.BayesianNetwork) -> None:
        posterior = asia.query(evidence={"smoke": ["yes", "no"]})
        ax = posterior.plot("lung", "bronc", row=1)
        assert {"lung", "bronc", f"{100 * posterior['lung'].probs[1, 0]:.1f}%"} <= set(words(ax))
        assert overlaps(posterior.plot()) == []
        with pytest.raises(EvidenceError, match="lungs"):
            posterior.plot("lungs")

    def test_structure_draws_plates(self) -> None:
        def program() -> None:
            mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
            with pyro.plate("rows", 5):
                z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.3)))
                pyro.sample("y", dist.Normal(mean + z, 1.0), obs=torch.zeros(5))

        ax = pgnn.plot.structure(pgnn.Program(program))
        assert {"mean", "z", "y", "rows: 5", "real", "2 states", "data"} <= set(words(ax))
        assert words(ax).count("observed") == 1
        assert overlaps(ax) == []
        with pytest.raises(Unsupported, match="Program"):
            pgnn.plot.structure(pgnn.HiddenMarkovModel(2, {"x": 3}))

    def test_edges_into_a_plate_have_places_of_their_own(self) -> None:
        def program() -> None:
            first = pyro.sample("first", dist.Normal(0.0, 1.0))
            second = pyro.sample("second", dist.Normal(0.0, 1.0))
            with pyro.plate("repeated measurements of a long name", 2):
                z = pyro.sample("z", dist.Normal(first, 1.0))
                pyro.sample("y", dist.Normal(second + z, 1.0))

        drawn = pgnn.Program(program)
        sizes = dict.fromkeys(drawn.sites, (40.0, 30.0))
        plates = {n: [*site.plates.items()] for n, site in drawn.sites.items()}
        label = next(iter(plates["z"]))
        layout, (box,) = nested_layout(
            drawn.graph, plates, sizes, gap=(10.0, 20.0), padding=12.0, widths={label: 300.0}
        )
        assert box.width == 300.0
        routes = [layout.routes["first", "z"], layout.routes["second", "y"]]
        (first,), (second,) = [{x for x, y in route if y == box.top} for route in routes]
        assert abs(first - second) > 5.0
        parents = [layout.positions[name][0] for name in ("first", "second")]
        assert (first < second) == (parents[0] < parents[1])  # they do not cross before it
        ax = pgnn.plot.structure(drawn)
        extent = ax.get_window_extent()
        assert all(t.get_window_extent().x0 >= extent.x0 for t in ax.texts)
