"""Classes that a user writes work like those of the library: one of each, with all verbs."""

import itertools
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn.abilities import ChainModel, DirectedModel, UnrollableModel
from pgnn.errors import DataError, ImpossibleEvidence, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.inference.chains.chain import Chain
from pgnn.inference.time.engine_over_time import engine_over_time
from pgnn.models.sequence_model import SequenceModel

A, B = pgnn.Variable("a", ["no", "yes"]), pgnn.Variable("b", 3)

# --- a conditional --------------------------------------------------------------------------------


class Binomial(pgnn.Conditional):
    """``n`` trials, with a probability for each state of one parent."""

    def __init__(self, child: pgnn.Variable, parents: Any = (), trials: int = 2) -> None:
        super().__init__(child, parents)
        self.trials = trials
        shape = tuple(v.num_states for v in self.parents)
        self.logits = nn.Parameter(torch.linspace(-1, 1, math.prod(shape)).double().reshape(shape))

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"trials": self.trials}

    def distribution(self, parents: Any, inputs: Any = None) -> torch.distributions.Distribution:
        logits = self.logits[tuple(self._values(parents)[v.name] for v in self.parents)]
        states = torch.arange(self.trials + 1)
        table = torch.distributions.Binomial(self.trials, logits=logits.unsqueeze(-1))
        return torch.distributions.Categorical(logits=table.log_prob(states))


def network() -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork([("a", "b")], {"a": pgnn.Tabular(A), "b": Binomial(B, [A])})


def binomial_table(model: pgnn.BayesianNetwork) -> np.ndarray:
    p = torch.sigmoid(model.conditionals["b"].logits.detach()).numpy()
    return np.stack([(1 - p) ** 2, 2 * p * (1 - p), p**2], axis=1)


def test_a_conditional_is_asked() -> None:
    model = network()
    table = binomial_table(model)
    posterior = model.query("a", {"b": 2})["a"].probs.detach().numpy()
    np.testing.assert_allclose(posterior, table[:, 2] / table[:, 2].sum())
    assert model.most_probable({"b": 2})["a"] == "yes"
    draws = model.sample(4000, seed=1)["b"]
    expected = table.mean(axis=0)
    found = np.bincount(np.asarray(draws), minlength=3) / 4000
    assert np.abs(found - expected).max() < 5 * math.sqrt(0.25 / 4000)
    score = model.log_prob({"a": ["yes"], "b": [1]})
    assert float(score.detach()) == pytest.approx(math.log(0.5 * table[1, 1]))


def test_a_conditional_is_learnt_and_kept(tmp_path: Path) -> None:
    model = network()
    rows = {"a": ["no"] * 4 + ["yes"] * 4, "b": [0, 0, 1, 1, 2, 2, 1, 1]}
    assert model.fit(rows, progress=False) is model
    p = torch.sigmoid(model.conditionals["b"].logits.detach())
    torch.testing.assert_close(p, torch.tensor([0.25, 0.75]).double(), rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m", classes=[Binomial])
    assert type(again.conditionals["b"]) is Binomial
    assert again.conditionals["b"].logits.equal(model.conditionals["b"].logits)
    assert again.history == model.history
    with pytest.raises(DataError, match=r"whose code is not in the file.*classes=\[Binomial\]"):
        pgnn.load(tmp_path / "m")


# --- a potential ----------------------------------------------------------------------------------


class Distance(pgnn.Potential):
    """Log potentials that fall with the distance of two states."""

    def __init__(self, variables: Any, power: float = 1.0, scopes: Any = None) -> None:
        super().__init__(variables, scopes)
        self.power = power
        self.strength = nn.Parameter(torch.tensor(0.7).double())

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"power": self.power}

    def groups(self, elements: Elements, inputs: Any = None) -> tuple[TableGroup, ...]:
        sizes = [torch.arange(v.num_states).double() for v in self.axis_variables]
        table = -self.strength * (sizes[0][:, None] - sizes[1]).abs() ** self.power
        return (TableGroup(self.placed(elements), table[None]),)


def test_a_potential_is_asked_learnt_and_kept(tmp_path: Path) -> None:
    x, y = pgnn.Variable("x", 3), pgnn.Variable("y", 3)
    model = pgnn.MarkovRandomField([Distance([x, y], power=2.0)])
    table = np.exp(-0.7 * np.subtract.outer(range(3), range(3)) ** 2.0)
    given = model.query("x", {"y": 0})["x"].probs.detach().numpy()
    np.testing.assert_allclose(given, table[:, 0] / table[:, 0].sum())
    assert model.most_probable({"y": 2})["x"] == 2
    rows = {"x": [0, 1, 2, 0, 1, 1], "y": [0, 1, 2, 1, 2, 1]}
    model.fit(rows, progress=False)
    # the mean square distance is what was observed, half
    joint = torch.exp(-model.potentials[0].strength.detach() * torch.tensor([0.0, 1, 4]))
    counts = torch.tensor([3.0, 4, 2]) * joint
    distance = float((counts * torch.tensor([0.0, 1, 4])).sum() / counts.sum())
    assert distance == pytest.approx(2 / 6, abs=1e-4)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m", classes=[Distance])
    assert again.potentials[0].power == 2.0
    assert again.potentials[0].strength.equal(model.potentials[0].strength)
    assert again.query("x", {"y": 0})["x"].probs.equal(model.query("x", {"y": 0})["x"].probs)


# --- models ---------------------------------------------------------------------------------------


class Clusters(pgnn.Model, DirectedModel):
    """A naive Bayes model: features that are independent given their cluster."""

    def __init__(self, cluster: pgnn.Conditional, features: tuple[pgnn.Conditional, ...]) -> None:
        super().__init__()
        self.parts = nn.ModuleList([cluster, *features])

    @property
    def conditionals(self) -> dict[Hashable, Any]:
        return {c.child.name: c for c in self.parts}

    @property
    def variables(self) -> dict[Hashable, pgnn.Variable]:
        return {n: c.child for n, c in self.conditionals.items()}

    @property
    def order(self) -> list[Hashable]:
        return [*self.conditionals]

    def factors(self, observed: Any = None, inputs: Any = None) -> tuple[pgnn.Factor, ...]:
        return tuple(c.factor(observed, inputs) for c in self.parts)

    def settings(self) -> dict[str, Any]:
        first, *rest = self.parts
        return {"cluster": first, "features": tuple(rest)}


def clusters() -> Clusters:
    k = pgnn.Variable("k", 2)
    tables = {"u": [[0.9, 0.1], [0.2, 0.8]], "v": [[0.7, 0.3], [0.4, 0.6]]}
    features = [pgnn.Tabular(pgnn.Variable(n, 2), [k], t) for n, t in tables.items()]
    return Clusters(pgnn.Tabular(k, (), [0.25, 0.75]), (*features,))


def test_a_model_has_the_verbs(tmp_path: Path) -> None:
    model = clusters()
    joint = np.array([0.25 * 0.1 * 0.7, 0.75 * 0.8 * 0.4])
    found = model.query("k", {"u": 1, "v": 0})
    np.testing.assert_allclose(found["k"].probs.numpy(), joint / joint.sum())
    assert float(found.log_evidence) == pytest.approx(math.log(joint.sum()))
    assert model.most_probable({"u": 1, "v": 0})["k"] == 1
    assert model.sample(5, seed=0)["v"].shape == (5,)
    assert model.query("k", {"u": 1}, engine=pgnn.BeliefPropagation()).kind in ("exact", "estimate")
    model.requires_grad_()
    model.fit({"k": [0, 0, 1, 1], "u": [0, 1, 1, 1], "v": [0, 0, 1, 0]}, progress=False)
    assert "MaximumLikelihood" in model.history["learner"]
    np.testing.assert_allclose(model.conditionals["u"].probs.detach(), [[0.5, 0.5], [0, 1]])
    pgnn.save(model, tmp_path / "m")
    again = pgnn.load(tmp_path / "m", classes=[Clusters])
    assert type(again) is Clusters
    assert again.log_prob({"u": [0], "v": [1]}).equal(model.log_prob({"u": [0], "v": [1]}))
    with pytest.raises(DataError, match=r"unknown class 'Clusters'; pass it in classes="):
        pgnn.load(tmp_path / "m")


def test_a_model_without_a_graph_is_fitted_by_gradients() -> None:
    """Nothing but declared abilities is asked: not whether a graph has arrows."""
    model = clusters()
    for conditional in model.conditionals.values():
        conditional.requires_grad_()
    rows = {"k": [0, None, 1, 1], "u": [0, 1, 1, 1], "v": [0, 0, 1, None]}
    before = float(model.log_prob(rows).sum().detach())
    model.fit(rows, learner=pgnn.Gradient(), progress=False, seed=0)
    assert float(model.log_prob(rows).sum().detach()) > before + 0.5


class Bare(Clusters):
    """A model that gives no settings."""

    settings = pgnn.Model.settings


def test_a_model_without_settings_is_not_kept(tmp_path: Path) -> None:
    model = Bare(pgnn.Tabular(pgnn.Variable("k", 2)), ())
    with pytest.raises(Unsupported, match="a Bare has none; save its state_dict"):
        model.save(tmp_path / "m")
    with pytest.raises(TypeError, match="abstract"):
        type("Empty", (pgnn.Model, DirectedModel), {})()


class Tagger(SequenceModel, ChainModel):
    """An undirected chain of tags over the words of a sentence, which are inputs."""

    def __init__(self, tags: int, words: int) -> None:
        super().__init__()
        self.tags, self.words = tags, words
        self.moves = nn.Parameter(torch.linspace(-1, 1, tags * tags).double().reshape(tags, tags))
        self.emits = nn.Parameter(torch.linspace(1, -1, words * tags).double().reshape(words, tags))

    @property
    def variables(self) -> dict[Hashable, pgnn.Variable]:
        return {"tag": pgnn.Variable("tag", self.tags, ("T",))}

    @property
    def state(self) -> pgnn.Variable:
        return self.variables["tag"]

    @property
    def hidden(self) -> list[Hashable]:
        return ["tag"]

    def settings(self) -> dict[str, Any]:
        return {"tags": self.tags, "words": self.words}

    def unroll(self, steps: int) -> Any:
        raise NotImplementedError

    def chain(self, observed: Any, inputs: Any = None, *, best: bool = False) -> Chain:
        words = self.covariates(inputs, observed)["word"].long()
        field = self.emits[words]
        if "tag" in observed.codes:
            codes = observed.codes["tag"]
            other = torch.arange(self.tags) != codes.unsqueeze(-1)
            field = field.masked_fill(other & (codes >= 0).unsqueeze(-1), -torch.inf)
        return Chain(field.new_zeros(self.tags), self.moves, field, observed.lengths)

    def log_prob(self, data: Any, *, inputs: Any = None, engine: Any = None) -> Tensor:
        score = super().log_prob(data, inputs=inputs, engine=engine)
        steps = SequenceEvidence.of(self, data).lengths.tolist()
        return score - super().log_prob({"T": steps}, inputs=inputs, engine=engine)


def enumerated(model: Tagger, words: list[int]) -> dict[tuple[int, ...], float]:
    moves, emits = model.moves.detach().numpy(), model.emits.detach().numpy()
    scores = {}
    for path in itertools.product(range(model.tags), repeat=len(words)):
        total = sum(emits[w, z] for w, z in zip(words, path, strict=True))
        total += sum(moves[a, b] for a, b in itertools.pairwise(path))
        scores[path] = math.exp(total)
    z = sum(scores.values())
    return {path: s / z for path, s in scores.items()}


def test_an_undirected_chain_is_answered_by_its_chain(tmp_path: Path) -> None:
    model, words = Tagger(2, 3), [0, 2, 1, 2]
    inputs = {"word": torch.tensor([words])}
    probs = enumerated(model, words)
    found = model.smooth({"T": [4]}, inputs=inputs)
    assert found.engine == "ForwardBackward"
    for t in range(4):
        expected = sum(p for path, p in probs.items() if path[t])
        assert float(found["tag"].probs[0, t, 1].detach()) == pytest.approx(expected)
    best = max(probs, key=probs.__getitem__)
    assert model.decode({"T": [4]}, inputs=inputs)["tag"].tolist() == [list(best)]
    path = [[1, 0, 1, 1]]
    score = model.log_prob({"tag": path}, inputs=inputs)
    assert float(score.detach()) == pytest.approx(math.log(probs[1, 0, 1, 1]))
    draws = model.sample(500, {"T": [4]}, inputs=inputs, seed=3)["tag"]
    first = float(found["tag"].probs[0, 0, 1].detach())
    assert abs(float((draws[:, 0, 0] == 1).double().mean()) - first) < 5 * math.sqrt(0.25 / 500)
    before = float(score.detach())
    model.fit({"tag": path}, inputs=inputs, learner=pgnn.Gradient(l2=0.1), progress=False)
    assert float(model.log_prob({"tag": path}, inputs=inputs).detach()) > before
    assert "Gradient" in repr(model.default_learner(None))
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m", classes=[Tagger])
    assert again.moves.equal(model.moves)
    with pytest.raises(Unsupported, match="EM"):
        model.fit({"tag": path}, inputs=inputs, learner=pgnn.EM(), progress=False)


# --- an engine and a learner ----------------------------------------------------------------------


@dataclass(frozen=True)
class Independent(pgnn.Engine):
    """Believes what the single tables say."""

    def infer(self, question: pgnn.Question) -> pgnn.Beliefs:
        card = torch.from_numpy(question.graph.elements.card)
        flat = torch.repeat_interleave(1.0 / card, card)
        rows = question.num_rows
        return pgnn.Beliefs(flat.expand(rows, -1), torch.full((rows,), torch.nan))


@dataclass(frozen=True)
class Halfway(pgnn.Learner):
    """Tables half way from the present ones to frequencies."""

    share: float = 0.5

    def fit(
        self,
        model: Any,
        data: Mapping[Hashable, Any],
        *,
        weights: Any = None,
        inputs: Any = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        for name, conditional in model.conditionals.items():
            if not conditional.parents:
                codes = conditional.child.encode(data[name])
                share = np.bincount(codes, minlength=conditional.child.num_states) / len(codes)
                old = conditional.probs.detach().numpy()
                conditional.set_probs((1 - self.share) * old + self.share * share)
        model.history["share"] = self.share


def test_an_engine_and_a_learner() -> None:
    model = network()
    answer = model.query(["a", "b"], {"a": ["no"]}, engine=Independent())
    assert answer.engine == "Independent"
    np.testing.assert_allclose(answer["b"].probs, [[1 / 3] * 3])
    with pytest.raises(Unsupported, match="Independent"):
        model.most_probable({"b": 1}, engine=Independent())
    model.fit({"a": ["yes"] * 3 + ["no"], "b": [0, 1, 2, 0]}, learner=Halfway())
    np.testing.assert_allclose(model.conditionals["a"].probs.detach(), [0.375, 0.625])
    assert model.history["share"] == 0.5


# --- a model over time that is nothing but unrollable ---------------------------------------------


class Cascade(UnrollableModel):
    """A light that may go out at each step and stays out, and what a sensor reports of it."""

    def __init__(self) -> None:
        self.light = pgnn.Variable("light", ["on", "out"], ("T",))
        self.report = pgnn.Variable("report", ["on", "out"], ("T",))

    @property
    def variables(self) -> dict[Hashable, pgnn.Variable]:
        return {"light": self.light, "report": self.report}

    @property
    def hidden(self) -> list[Hashable]:
        return ["light"]

    def covariates(self, inputs: Any, observed: SequenceEvidence) -> dict[Hashable, Tensor]:
        return dict(inputs or {})

    def unroll(self, steps: int) -> pgnn.BayesianNetwork:
        graph, tables = nx.DiGraph(), {}
        for t in range(steps):
            graph.add_edge(("light", t), ("report", t))
            tables["light", t] = [[0.9, 0.1], [0.0, 1.0]] if t else [1.0, 0.0]
            tables["report", t] = [[0.8, 0.2], [0.0, 1.0]]
            if t:
                graph.add_edge(("light", t - 1), ("light", t))
        return pgnn.BayesianNetwork(graph, tables, states={n: ["on", "out"] for n in graph})


def cascade_paths(reports: list[int]) -> dict[tuple[int, ...], float]:
    """Probabilities of the paths of the light together with the reports, -1 where there is none."""
    moves, tells = [[0.9, 0.1], [0.0, 1.0]], [[0.8, 0.2], [0.0, 1.0]]
    joint = {}
    for path in itertools.product(range(2), repeat=len(reports)):
        p = float(path[0] == 0)
        p *= math.prod(moves[a][b] for a, b in itertools.pairwise(path))
        joint[path] = p * math.prod(
            tells[z][x] for z, x in zip(path, reports, strict=True) if x >= 0
        )
    return joint


def test_an_unrollable_model_is_answered_by_any_engine() -> None:
    """Nothing is asked of it but what the ability declares."""
    model, reports = Cascade(), [0, 1, -1, 1]
    joint = cascade_paths(reports)
    total = sum(joint.values())
    exact = engine_over_time(model, None)
    observed = {"report": reports}
    found = exact.query(model, "light", observed)
    assert (found.engine, found.kind) == ("JunctionTree", "exact")
    assert float(found.log_evidence) == pytest.approx(math.log(total))
    out = [sum(p for path, p in joint.items() if path[t]) / total for t in range(4)]
    np.testing.assert_allclose(found["light"].probs[:, 1], out)
    best = exact.most_probable(model, observed, ["light"])
    assert best["light"].tolist() == [["on", "out"][z] for z in max(joint, key=joint.__getitem__)]
    assert float(exact.log_prob(model, [reports])) == pytest.approx(math.log(total))
    draws = exact.sample(model, 2000, observed, seed=0)["light"]
    spread = 5 * math.sqrt(0.25 / 2000)
    np.testing.assert_allclose(draws.double().mean(0), out, atol=spread)
    last = exact.filter(model, ["light"], observed)
    for t in range(4):
        begun = cascade_paths(reports[: t + 1])
        expected = sum(p for path, p in begun.items() if path[-1]) / sum(begun.values())
        assert float(last["light"].probs[t, 1]) == pytest.approx(expected)
    ahead = exact.predict(model, ["light"], observed, 2)
    assert float(ahead["light"].probs[0, 1]) == pytest.approx(out[-1] + 0.1 * (1 - out[-1]))
    walks = engine_over_time(model, pgnn.BeliefPropagation()).query(model, "light", observed)
    np.testing.assert_allclose(walks["light"].probs[:, 1], out, atol=1e-6)
    assert exact.explain(model, "light", observed).num_variables == 8


def test_an_unrollable_model_says_where_sequences_become_impossible() -> None:
    model = Cascade()
    found = engine_over_time(model, None)
    with pytest.raises(ImpossibleEvidence, match=r"\('light', 1\)"):
        found.query(model, "light", {"light": ["on", "out", None, "on"]})
