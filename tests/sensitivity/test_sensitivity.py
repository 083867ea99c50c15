"""What-if figures against enumeration: every one from joint tables written down in NumPy."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pgnn
from pgnn import sensitivity
from pgnn.errors import EvidenceError, ImpossibleEvidence, Unsupported
from pgnn.sensitivity import Entry

PARENTS: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["d"]}
CARDS = {"a": 2, "b": 3, "c": 2, "d": 3, "e": 2}
TARGET = {"b": 1}


@pytest.fixture(scope="module")
def tables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tables = {
        n: rng.dirichlet(np.ones(CARDS[n]), size=[CARDS[p] for p in PARENTS[n]]) for n in CARDS
    }
    # a row that is certain and a single zero
    tables["d"][0, 0], tables["d"][2, 1] = [0, 1, 0], [0.25, 0, 0.75]
    return tables


@pytest.fixture(scope="module")
def model(tables: dict[str, np.ndarray]) -> pgnn.BayesianNetwork:
    edges = [(p, n) for n in CARDS for p in PARENTS[n]]
    return pgnn.BayesianNetwork(edges, tables, states=CARDS)


def joint(tables: dict[str, np.ndarray], evidence: dict[str, int]) -> np.ndarray:
    """The table over all variables; complex tables give complex numbers."""
    letters = {n: chr(97 + k) for k, n in enumerate(CARDS)}
    scopes = ["".join(letters[m] for m in [*PARENTS[n], n]) for n in CARDS]
    spec = f"{','.join(scopes)}->{''.join(letters.values())}"
    table = np.einsum(spec, *(tables[n] for n in CARDS))
    for k, n in enumerate(CARDS):
        if n in evidence:
            others = [s for s in range(CARDS[n]) if s != evidence[n]]
            np.moveaxis(table, k, 0)[others] = 0
    return table


def posterior(
    tables: dict[str, np.ndarray], target: dict[str, int], evidence: dict[str, int]
) -> Any:
    return joint(tables, evidence | target).sum() / joint(tables, evidence).sum()


def moved(tables: dict[str, np.ndarray], name: str, place: tuple[int, ...], value: Any) -> Any:
    """The tables with an entry changed and the rest of its row in proportion."""
    *row, k = place
    old = tables[name][tuple(row)]
    if old[k] == 1.0:
        new = np.full(len(old), (1 - value) / (len(old) - 1))
    else:
        new = old * (1 - value) / (1 - old[k])
    new[k] = value
    table = tables[name].astype(np.result_type(new, tables[name]))
    table[tuple(row)] = new
    return tables | {name: table}


def entry_at(name: str, place: tuple[int, ...]) -> Entry:
    return Entry(name, place[-1], dict(zip(PARENTS[name], place, strict=False)))


@pytest.mark.parametrize("evidence", [{}, {"e": 1}, {"d": 2, "a": 0}])
def test_derivatives_are_those_of_enumeration(model, tables, evidence) -> None:
    frame = sensitivity.derivatives(model, TARGET, evidence)
    assert len(frame) == sum(t.size for t in tables.values())
    assert (frame["derivative"].abs().diff().dropna() <= 1e-12).all()
    step = 1e-30  # complex: no digits are lost
    for line in frame.to_dict("records"):
        name = line["variable"]
        place = (*(line["parents"][p] for p in PARENTS[name]), line["state"])
        value = tables[name][place]
        assert line["value"] == pytest.approx(value)
        changed = posterior(moved(tables, name, place, value + 1j * step), TARGET, evidence)
        assert line["derivative"] == pytest.approx(changed.imag / step, abs=1e-9), line


def test_a_target_that_is_impossible_now_has_derivatives_by_zeros(model) -> None:
    evidence = {"b": 2, "c": 1}
    frame = sensitivity.derivatives(model, {"d": 1}, evidence)
    largest = frame.iloc[0]
    assert (largest["variable"], largest["parents"], largest["state"]) == ("d", {"b": 2, "c": 1}, 1)
    assert largest["derivative"] == pytest.approx(1.0)


def test_derivatives_of_rows_are_those_of_single_ones(model) -> None:
    rows = pd.DataFrame({"e": [1, 0], "a": [0, 1]}, index=["x", "y"])
    frame = sensitivity.derivatives(model, TARGET, rows)
    for label in rows.index:
        single = sensitivity.derivatives(model, TARGET, rows.loc[label].to_dict())
        assert frame.loc[label]["derivative"].to_numpy() == pytest.approx(
            single["derivative"].to_numpy(), abs=1e-12
        )


@pytest.mark.parametrize(
    ("name", "place"), [("a", (1,)), ("b", (0, 2)), ("d", (0, 0, 1)), ("d", (2, 1, 1))]
)
def test_curves_are_exact(model, tables, name, place) -> None:
    evidence = {"e": 1}
    line = sensitivity.curve(model, TARGET, entry_at(name, place), evidence)
    assert line(line.value) == pytest.approx(posterior(tables, TARGET, evidence))
    for x in np.linspace(0, 1, 7):
        exact = posterior(moved(tables, name, place, float(x)), TARGET, evidence)
        assert line(x) == pytest.approx(exact, abs=1e-10)
    changed = sensitivity.with_entry(model, entry_at(name, place), 0.35)
    asked = changed.query("b", evidence)["b"].probs[1]
    assert line(0.35) == pytest.approx(float(asked), abs=1e-10)
    level = 0.5 * (line(0.2) + line(0.7))
    low, high = line.values_where(at_least=level)
    inside = [low <= x <= high for x in np.linspace(0.01, 0.99, 23)]
    assert inside == [line(x) >= level for x in np.linspace(0.01, 0.99, 23)]
    assert line.values_where(at_least=1.1) is None


@pytest.mark.parametrize("second", [("b", (0, 2)), ("d", (0, 0, 1)), ("e", (1, 0))])
def test_surfaces_are_exact(model, tables, second) -> None:
    evidence, first = {"e": 1}, ("a", (0,))
    face = sensitivity.surface(model, TARGET, (entry_at(*first), entry_at(*second)), evidence)
    for x, y in itertools.product([0.0, 0.3, 0.9], repeat=2):
        both = moved(moved(tables, *first, x), *second, y)
        assert face(x, y) == pytest.approx(posterior(both, TARGET, evidence), abs=1e-10)
    assert face(*face.values) == pytest.approx(posterior(tables, TARGET, evidence))
    assert face(np.zeros(4), np.ones((3, 1))).shape == (3, 4)
    with pytest.raises(EvidenceError, match="one row"):
        sensitivity.surface(model, TARGET, (Entry("a", 0), Entry("a", 1)))


@pytest.mark.parametrize("evidence", [{}, {"e": 1}, {"a": 0, "c": 1}])
def test_mutual_information_and_value_of_information(model, tables, evidence) -> None:
    table = joint(tables, evidence)
    table = table / table.sum()
    names = [*CARDS]
    utility = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 0.3]])
    information = sensitivity.mutual_information(model, "b", evidence).set_index("variable")
    values = sensitivity.value_of_information(model, "b", evidence, utility=utility)
    values = values.set_index("variable")["value"]
    assert set(information.index) == set(names) - {"b", *evidence} == set(values.index)
    p = table.sum(axis=(0, 2, 3, 4))
    entropy = -sum(x * math.log(x) for x in p)
    for name in information.index:
        k = names.index(name)
        pair = table.sum(axis=tuple(i for i in range(5) if i not in (1, k)))
        pair = pair if k > 1 else pair.T
        expected = sum(
            pair[t, x] * math.log(pair[t, x] / (pair[t].sum() * pair[:, x].sum()))
            for t, x in np.ndindex(pair.shape)
            if pair[t, x] > 0
        )
        line = information.loc[name]
        assert line["mutual_information"] == pytest.approx(expected, abs=1e-10)
        assert line["share"] == pytest.approx(expected / entropy, abs=1e-10)
        best = sum(max(utility @ pair[:, x]) for x in range(pair.shape[1]))
        assert values[name] == pytest.approx(best - max(utility @ p), abs=1e-10)


def test_figures_of_rows_are_those_of_single_ones(model) -> None:
    rows = {"e": [1, 0, None], "a": [0, None, 1]}
    batch = sensitivity.mutual_information(model, "b", rows, candidates=["c", "d"])
    influence = sensitivity.influence(model, TARGET, rows)
    clash = sensitivity.conflict(model, rows)
    for k in range(3):
        single = {n: x[k] for n, x in rows.items() if x[k] is not None}
        one = sensitivity.mutual_information(model, "b", single, candidates=["c", "d"])
        assert batch.loc[k]["mutual_information"].tolist() == pytest.approx(
            one["mutual_information"].tolist()
        )
        assert clash.value[k] == pytest.approx(sensitivity.conflict(model, single).value)
        by_name = influence.loc[k].set_index("variable")["influence"]
        for line in sensitivity.influence(model, TARGET, single).to_dict("records"):
            assert by_name[line["variable"]] == pytest.approx(line["influence"])


def test_influence_and_conflict(model, tables) -> None:
    evidence = {"e": 1, "a": 0, "c": 1}
    frame = sensitivity.influence(model, TARGET, evidence).set_index("variable")
    clash = sensitivity.conflict(model, evidence)
    findings = clash.findings.set_index("variable")
    whole = posterior(tables, TARGET, evidence)

    def log_p(some: dict[str, int]) -> float:
        return math.log(joint(tables, some).sum())

    for name, state in evidence.items():
        others = {n: s for n, s in evidence.items() if n != name}
        line = frame.loc[name]
        assert line["without"] == pytest.approx(posterior(tables, TARGET, others))
        assert line["alone"] == pytest.approx(posterior(tables, TARGET, {name: state}))
        assert line["influence"] == pytest.approx(whole - line["without"])
        assert findings.loc[name, "log_prob"] == pytest.approx(log_p({name: state}))
        assert findings.loc[name, "conflict"] == pytest.approx(
            log_p({name: state}) + log_p(others) - log_p(evidence)
        )
    total = sum(log_p({n: s}) for n, s in evidence.items()) - log_p(evidence)
    assert clash.value == pytest.approx(total)


def test_conflict_of_fields_and_soft_findings() -> None:
    a, b = pgnn.Variable("a", 2), pgnn.Variable("b", 2)
    field = pgnn.MarkovRandomField([pgnn.TabularPotential([a, b], [[3.0, 1.0], [1.0, 5.0]])])
    hard = sensitivity.conflict(field, {"a": 0, "b": 1})
    assert hard.value == pytest.approx(math.log(0.4) + math.log(0.6) - math.log(0.1))
    soft = sensitivity.conflict(field, {"a": pgnn.likelihood([0.5, 1.0]), "b": 1})
    expected = math.log(0.8) + math.log(0.6) - math.log(0.05 + 0.5)
    assert soft.value == pytest.approx(expected)


def test_trails_lead_from_findings_to_the_target(model) -> None:
    frame = sensitivity.trails(model, "b", {"e": 1, "c": 0})
    assert ("e", "d", "b") in set(frame["trail"])
    assert {t[0] for t in frame["trail"]} == {"e", "c"}
    assert {t[-1] for t in frame["trail"]} == {"b"}
    assert frame["strength"].is_monotonic_decreasing
    assert sensitivity.trails(model, "b", {"a": 1})["trail"].tolist() == [("a", "b")]


def test_refusals(model) -> None:
    with pytest.raises(EvidenceError, match="cannot be observed"):
        sensitivity.derivatives(model, TARGET, {"b": 0})
    with pytest.raises(EvidenceError, match="one state of one variable"):
        sensitivity.derivatives(model, "b")
    with pytest.raises(EvidenceError, match="not a parent of 'b'"):
        sensitivity.curve(model, TARGET, Entry("b", 0, {"z": 1}))
    with pytest.raises(EvidenceError, match="needs a state of its parent 'a'"):
        sensitivity.curve(model, TARGET, Entry("b", 0))
    with pytest.raises(EvidenceError, match="the entry names no state of 'a', got None"):
        sensitivity.curve(model, TARGET, Entry("a", None))
    for target in ({"b": 7}, {"b": [1, 0]}, {"b": np.array([1, 0])}, {"b": [0.3, 0.7]}):
        with pytest.raises(EvidenceError, match=r"^(variable )?'b' has no state") as told:
            sensitivity.curve(model, target, Entry("a", 1))
        assert "column" not in str(told.value)
    with pytest.raises(EvidenceError, match=r"^variable 'a' has no state 7"):
        sensitivity.curve(model, TARGET, Entry("a", 7))
    with pytest.raises(EvidenceError, match="probability"):
        sensitivity.with_entry(model, Entry("a", 0), 1.5)
    with pytest.raises(EvidenceError, match=r"\(decisions, 3\)"):
        sensitivity.value_of_information(model, "b", utility=[[1.0, 2.0]])
    with pytest.raises(ImpossibleEvidence):
        sensitivity.derivatives(model, {"a": 1}, {"b": 0, "c": 0, "d": 0})
    with pytest.raises(Unsupported, match="unroll"):
        sensitivity.mutual_information(pgnn.HiddenMarkovModel(2, {"x": 2}), "state")
    field = pgnn.MarkovRandomField([pgnn.TabularPotential([pgnn.Variable("a", 2)], [1.0, 2.0])])
    with pytest.raises(Unsupported, match="BayesianNetwork"):
        sensitivity.derivatives(field, {"a": 1})


def test_pictures(model) -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    ax = pgnn.plot.ranking(sensitivity.derivatives(model, TARGET, {"e": 1}))
    assert ax.get_title(loc="left").startswith("derivative of P(b=1 | e=1)")
    frame = sensitivity.derivatives(model, TARGET, {"e": 1})
    kept, num_zeros = pgnn.plot.ranking.__globals__["_informative"](frame, "derivative")
    assert len(ax.patches) == min(15, len(kept)) < len(frame)
    assert num_zeros == int((frame["derivative"].abs() < 1e-12).sum())
    for line in kept:  # no entry is the mirror of another
        same = [
            x for x in kept if (x["variable"], x["parents"]) == (line["variable"], line["parents"])
        ]
        assert len(same) != 2 or same[0]["derivative"] != pytest.approx(-same[1]["derivative"])
    titles = [
        pgnn.plot.ranking(f).get_title(loc="left").split(";")[0].replace("\n", " ")
        for f in (
            sensitivity.influence(model, TARGET, {"e": 1}),
            sensitivity.mutual_information(model, "b", {"e": 1}),
        )
    ]
    assert titles == ["influence of P(b=1 | e=1)", "share of the entropy of P(b | e=1)"]
    assert ax.get_yticklabels()[0].get_text().startswith("P(")
    line = sensitivity.curve(model, TARGET, Entry("a", 1), {"e": 1})
    ax = pgnn.plot.sensitivity(line)
    assert ax.lines[0].get_ydata()[50] == pytest.approx(line(0.5))
    assert ax.get_title(loc="left") == "P(b=1 | e=1)"
    pair = (Entry("a", 1), Entry("b", 0, {"a": 1}))
    assert pgnn.plot.sensitivity(sensitivity.surface(model, TARGET, pair, {"e": 1})).collections
    ax = pgnn.plot.explanation(model, "b", {"e": 1})
    assert "observed" in [t.get_text() for t in ax.texts]
    with pytest.raises(Unsupported, match="column"):
        pgnn.plot.ranking(pd.DataFrame({"x": [1]}))
    plt.close("all")


def test_utilities_are_read_by_the_names_of_states() -> None:
    model = pgnn.BayesianNetwork(
        [("rain", "wet")],
        {"rain": [0.7, 0.3], "wet": [[0.9, 0.1], [0.2, 0.8]]},
        states={"rain": ["no", "yes"], "wet": ["no", "yes"]},
    )
    table = pd.DataFrame([[10.0, 0.0], [0.0, 1.0]], columns=["no", "yes"])
    expected = sensitivity.value_of_information(model, "rain", utility=table.to_numpy())
    swapped = sensitivity.value_of_information(model, "rain", utility=table[["yes", "no"]])
    assert expected["value"].tolist() == swapped["value"].tolist()
    with pytest.raises(EvidenceError, match="a column for each state of 'rain'"):
        sensitivity.value_of_information(
            model, "rain", utility=table.set_axis(["foo", "bar"], axis=1)
        )
    with pytest.raises(EvidenceError, match="must be numbers"):
        sensitivity.value_of_information(model, "rain", utility="x")


@pytest.mark.parametrize("x", [2.0, -1.0, float("nan"), "0.5", [0.5, 1.5]])
def test_curves_end_where_probabilities_do(x: object) -> None:
    line = sensitivity.Curve(Entry("a", 1), 0.5, (0.0, 1.0, 1.0, 0.0))
    with pytest.raises(EvidenceError, match="between 0 and 1"):
        line(x)  # type: ignore[arg-type]
