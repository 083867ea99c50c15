"""One tiny instance of every kind of model, with evidence and its joint table in NumPy.

An :class:`Example` knows its model twice: as pgnn declares it, and as plain tables for the oracle,
written down here from the definitions of the conditionals. A new family of models adds an entry
to :data:`ZOO`, and every test of the contract in ``test_conformance.py`` runs on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

import pgnn
from pgnn import Factor, Model, Neural, NoisyMax, NoisyMin, NoisyOr, Sigmoid, Softmax, Variable
from pgnn.factors import NormalHead
from tests import oracle

Row = dict[Any, int]
Tables = list[oracle.Table]

NUM_ROWS = 6


@dataclass(frozen=True)
class Example:
    """A model, and what it takes to check its answers.

    Attributes:
        name: What tests call it.
        make: Builds the model anew.
        cards: State counts of its discrete variables.
        tables: Plain tables of row ``r``; they differ between rows only where there are
            ``reals`` or ``inputs``.
        reals: ``(NUM_ROWS, *event)`` values of real variables, which every row observes.
        inputs: ``(NUM_ROWS, ...)`` covariates.
        impossible: Findings of probability zero (state indices), if there are such.
        tolerance: How close answers must come: tighter than float32 only without networks in it.
    """

    name: str
    make: Callable[[], Model]
    cards: dict[Any, int]
    tables: Callable[[int], Tables]
    reals: Mapping[Any, Tensor] = field(default_factory=dict)
    inputs: Mapping[Any, Tensor] = field(default_factory=dict)
    impossible: Row | None = None
    tolerance: float = 1e-9

    @property
    def rowwise(self) -> bool:
        """Whether tables differ from row to row."""
        return bool(self.reals or self.inputs)

    @property
    def observes_reals(self) -> bool:
        """Whether all real variables are observed, so that none has to be integrated out."""
        return all(v.is_discrete or n in self.reals for n, v in self.make().variables.items())

    @property
    def names(self) -> list[Any]:
        """The discrete variables, in the model's order."""
        return [n for n, v in self.make().variables.items() if v.is_discrete]

    @property
    def rows(self) -> list[Row]:
        """Possible evidence: nothing, everything, and rows that observe different variables."""
        found: list[Row] = []
        for r in range(NUM_ROWS):
            rng = np.random.default_rng(100 + r)
            share = (0.0, 1.0, 0.3, 0.3, 0.5, 0.5)[r]
            found.append(oracle.random_evidence(rng, self.joint(r), share))
        return found

    @property
    def soft(self) -> dict[Any, np.ndarray]:
        """Likelihoods of the first and the last variable, no entry zero."""
        rng = np.random.default_rng(7)
        names = list(self.cards)
        return {n: rng.random(self.cards[n]) + 0.1 for n in dict.fromkeys([names[0], names[-1]])}

    def joint(
        self, r: int, evidence: Row | None = None, soft: Mapping[Any, np.ndarray] | None = None
    ) -> oracle.Joint:
        """The joint table of row ``r`` with evidence."""
        return oracle.joint(self.cards, self.tables(r), evidence, soft)

    def one(self, r: int, row: Row | None = None) -> dict[Any, Any]:
        """Evidence of one row by state label, real values included."""
        variables = self.make().variables
        found = self.rows[r] if row is None else row
        labels = {n: (variables[n].states or ())[k] for n, k in found.items()}
        return {**labels, **{n: x[r] for n, x in self.reals.items()}}

    def batch(self, rows: Sequence[Row] | None = None) -> dict[Any, Any]:
        """Evidence of many rows as integer tensors, -1 where a row did not see a variable."""
        found = self.rows if rows is None else rows
        variables = self.make().variables
        observed = {n: self._integers(variables[n], found) for n in self.names}
        return {**observed, **{n: x[: len(found)] for n, x in self.reals.items()}}

    def codes(self) -> Any:
        """The rows as state indices, -1 where a row did not see a variable."""
        return torch.tensor([[row.get(n, -1) for n in self.names] for row in self.rows])

    @staticmethod
    def _integers(variable: pgnn.Variable, rows: Sequence[Row]) -> Any:
        """Indices, or labels where these are numbers: then integers mean labels."""
        labels = variable.states or ()
        numbers = any(isinstance(label, int) for label in labels)
        codes = [row.get(variable.name, -1) for row in rows]
        return torch.tensor([int(labels[k]) if numbers and k >= 0 else k for k in codes])

    def covariates(self, r: int | None = None) -> dict[str, Any]:
        """The keyword ``inputs`` of the verbs, for one row or for all of them."""
        if not self.inputs:
            return {}
        chosen = self.inputs if r is None else {n: x[r : r + 1] for n, x in self.inputs.items()}
        return {"inputs": dict(chosen)}

    def __str__(self) -> str:
        return self.name


ZOO: dict[str, Example] = {}


def _add(**fields: Any) -> None:
    example = Example(**fields)
    ZOO[example.name] = example


def _constant(tables: Tables) -> Callable[[int], Tables]:
    return lambda r: tables


def _grid(*cards: int) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(k) for k in cards)))


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-np.asarray(x)))


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


# --- tables -------------------------------------------------------------------------------------


def _sprinkler() -> None:
    """The drawing of every textbook: labels are strings, one loop."""
    cloudy = np.array([0.5, 0.5])
    sprinkler = np.array([[0.5, 0.5], [0.9, 0.1]])
    rain = np.array([[0.8, 0.2], [0.2, 0.8]])
    wet = np.array([[[0.95, 0.05], [0.1, 0.9]], [[0.1, 0.9], [0.01, 0.99]]])

    def make() -> Model:
        graph = nx.DiGraph()
        for name in ("cloudy", "sprinkler", "rain", "wet"):
            graph.add_node(name, states=["no", "yes"])
        graph.add_edges_from(
            [("cloudy", "sprinkler"), ("cloudy", "rain"), ("sprinkler", "wet"), ("rain", "wet")]
        )
        tables = {"cloudy": cloudy, "sprinkler": sprinkler, "rain": rain, "wet": wet}
        return pgnn.BayesianNetwork(graph, tables)

    _add(
        name="sprinkler",
        make=make,
        cards={"cloudy": 2, "sprinkler": 2, "rain": 2, "wet": 2},
        tables=_constant(
            [
                (("cloudy",), cloudy),
                (("cloudy", "sprinkler"), sprinkler),
                (("cloudy", "rain"), rain),
                (("sprinkler", "rain", "wet"), wet),
            ]
        ),
    )


def _structural_zeros() -> None:
    """A deterministic or: much evidence is impossible."""
    either = np.zeros((2, 2, 2))
    for a, b in _grid(2, 2):
        either[a, b, a | b] = 1.0
    a, b = np.array([0.99, 0.01]), np.array([0.9, 0.1])
    xray = np.array([[0.95, 0.05], [0.0, 1.0]])
    stage = np.array([[1.0, 0.0, 0.0], [0.0, 0.7, 0.3]])
    edges = [("a", "either"), ("b", "either"), ("either", "xray"), ("b", "stage")]
    tables = {"a": a, "b": b, "either": either, "xray": xray, "stage": stage}
    _add(
        name="structural_zeros",
        make=lambda: pgnn.BayesianNetwork(edges, tables, states={"stage": ["none", "I", "II"]}),
        cards={"a": 2, "b": 2, "either": 2, "xray": 2, "stage": 3},
        tables=_constant(
            [
                (("a",), a),
                (("b",), b),
                (("a", "b", "either"), either),
                (("either", "xray"), xray),
                (("b", "stage"), stage),
            ]
        ),
        impossible={"a": 1, "xray": 0},
    )


def _from_network(name: str, network: oracle.Network, impossible: Row | None = None) -> None:
    """A random network of the oracle, declared table by table."""
    graph = nx.DiGraph()
    graph.add_nodes_from((n, {"states": k}) for n, k in network.cards.items())
    graph.add_edges_from(network.edges)
    _add(
        name=name,
        make=lambda: pgnn.BayesianNetwork(graph, network.probabilities),
        cards=network.cards,
        tables=_constant(network.tables),
        impossible=impossible,
    )


def _shapes() -> None:
    """Two components, no edges at all, states without a choice, a single variable."""
    rng = np.random.default_rng(3)
    _from_network("disconnected", oracle.random_network(rng, "disconnected", 6, zeros=0.0))
    _from_network("isolated", oracle.random_network(rng, "isolated", 4, zeros=0.0))
    _from_network("one_state", oracle.random_network(rng, "dense", 5, one_state=0.5, zeros=0.0))
    sure = oracle.Network({"only": 3}, {"only": ()}, {"only": np.array([0.25, 0.0, 0.75])})
    _from_network("single", sure, {"only": 1})


def _names() -> None:
    """Any hashable is a name, and any hashable a label; numbers as labels are not indices."""
    cards = {("a", 0): 2, 7: 3, frozenset("xy"): 2, "7": 2}
    a, seven, xy, text = cards
    rng = np.random.default_rng(4)
    tables: Tables = [
        ((a,), oracle.random_table(rng, [], 2)),
        ((a, seven), oracle.random_table(rng, [2], 3)),
        ((a, seven, xy), oracle.random_table(rng, [2, 3], 2)),
        ((xy, text), oracle.random_table(rng, [2], 2)),
    ]

    def make() -> Model:
        graph = nx.DiGraph()
        graph.add_node(a, states=[("low", 1), ("high", 2)])
        graph.add_node(seven, states=[3, 2, 1])
        graph.add_node(xy, states=[False, True])
        graph.add_node(text, states=2)
        graph.add_edges_from([(a, seven), (a, xy), (seven, xy), (xy, text)])
        return pgnn.BayesianNetwork(graph, {scope[-1]: values for scope, values in tables})

    _add(name="odd_names", make=make, cards=cards, tables=_constant(tables))


def _learnable() -> None:
    """Tables that were not given start uniform and want gradients."""
    half, third = np.full(2, 0.5), np.full((2, 3), 1 / 3)
    _add(
        name="learnable",
        make=lambda: pgnn.BayesianNetwork(
            [("a", "b"), ("b", "c")], states={"a": 2, "b": 3, "c": 2}
        ),
        cards={"a": 2, "b": 3, "c": 2},
        tables=_constant([(("a",), half), (("a", "b"), third), (("b", "c"), np.full((3, 2), 0.5))]),
    )


def _unrolled() -> None:
    """A hidden Markov model of three steps, whose steps share their tables."""
    rng = np.random.default_rng(21)
    start, moves, shown = (
        oracle.random_table(rng, shape, k) for shape, k in (([], 2), ([2], 2), ([2], 3))
    )
    cards, tables = {}, []
    for t in range(3):
        state, observed = ("state", t), ("x", t)
        cards |= {state: 2, observed: 3}
        tables.append(((("state", t - 1), state), moves) if t else ((state,), start))
        tables.append(((state, observed), shown))
    _add(
        name="unrolled",
        make=lambda: pgnn.HiddenMarkovModel(2, {"x": shown}, start, moves).unroll(3),
        cards=cards,
        tables=_constant(tables),
    )


# --- formulas -----------------------------------------------------------------------------------


def _sigmoids() -> None:
    """A sigmoid belief network of two layers."""
    bias, weight = np.array([0.3, -1.0, 0.5]), np.array([[1.0, -2.0], [0.5, 3.0], [-1.5, 0.2]])
    roots = {"h0": -0.4, "h1": 0.7}

    def make() -> Model:
        graph = nx.DiGraph([(h, f"v{k}") for k in range(3) for h in roots])
        given: dict[str, Any] = {
            h: lambda v, pa, b=b: Sigmoid(v, pa, weight=[], bias=b) for h, b in roots.items()
        }
        for k in range(3):
            given[f"v{k}"] = lambda v, pa, k=k: Sigmoid(v, pa, weight=weight[k], bias=bias[k])
        return pgnn.BayesianNetwork(graph, given, states=dict.fromkeys(graph, 2))

    tables: Tables = [((h,), np.array([1 - _sigmoid(b), _sigmoid(b)])) for h, b in roots.items()]
    for k in range(3):
        on = np.array([[_sigmoid(bias[k] + weight[k] @ (i, j)) for j in (0, 1)] for i in (0, 1)])
        tables.append((("h0", "h1", f"v{k}"), np.stack([1 - on, on], axis=-1)))
    names = ["h0", "v0", "h1", "v1", "v2"]
    _add(name="sigmoid", make=make, cards=dict.fromkeys(names, 2), tables=_constant(tables))


def _noisy() -> None:
    """Diseases and findings: leaky noisy-or; and its variant for more states."""
    causes = {"flu": 0.1, "cold": 0.2}
    strengths, leak = np.array([0.8, 0.5]), 0.05
    roots: Tables = [((n,), np.array([1 - p, p])) for n, p in causes.items()]
    off = np.array([[(1 - leak) * 0.2**i * 0.5**j for j in (0, 1)] for i in (0, 1)])
    fever = (("flu", "cold", "fever"), np.stack([off, 1 - off], axis=-1))
    given = {n: values for (n,), values in roots}
    edges = [("flu", "fever"), ("cold", "fever")]
    _add(
        name="noisy_or",
        make=lambda: pgnn.BayesianNetwork(
            edges,
            {**given, "fever": lambda v, pa: NoisyOr(v, pa, strengths=strengths, leak=leak)},
            states={"fever": ["absent", "present"]},
        ),
        cards={"flu": 2, "cold": 2, "fever": 2},
        tables=_constant([*roots, fever]),
    )
    effects = {
        "flu": np.array([[0.1, 0.4, 0.5]]),
        "cold": np.array([[0.8, 0.2, 0.0], [0.5, 0.4, 0.1]]),
    }
    cold = np.array([0.6, 0.3, 0.1])
    table = np.zeros((2, 3, 3))
    for i, j in _grid(2, 3):
        first = effects["flu"][i - 1] if i else np.eye(3)[0]
        second = effects["cold"][j - 1] if j else np.eye(3)[0]
        below = np.cumsum(first) * np.cumsum(second)
        table[i, j] = np.diff(below, prepend=0.0)
    _add(
        name="noisy_max",
        make=lambda: pgnn.BayesianNetwork(
            edges,
            {
                "flu": [0.9, 0.1],
                "cold": cold,
                "fever": lambda v, pa: NoisyMax(v, pa, effects),
            },
            states={"fever": ["none", "low", "high"]},
        ),
        cards={"flu": 2, "cold": 3, "fever": 3},
        tables=_constant(
            [
                (("flu",), np.array([0.9, 0.1])),
                (("cold",), cold),
                (("flu", "cold", "fever"), table),
            ]
        ),
        impossible={"flu": 0, "cold": 0, "fever": 2},
    )


def _many_causes() -> None:
    """So many causes that exact answers decompose the gates: two findings that share causes."""
    rng = np.random.default_rng(11)
    causes, chances = [f"c{k}" for k in range(7)], rng.random(7) * 0.4
    roots: Tables = [((n,), np.array([1 - p, p])) for n, p in zip(causes, chances, strict=True)]
    scopes = {"y": causes, "z": causes[1:]}
    strengths = {y: rng.random(len(pa)) * 0.8 + 0.1 for y, pa in scopes.items()}
    gates: Tables = []
    for y, parents in scopes.items():
        present = np.array(_grid(*[2] * len(parents)))
        off = 0.95 * np.prod((1 - strengths[y]) ** present, axis=1)
        table = np.stack([off, 1 - off], axis=-1).reshape([2] * (len(parents) + 1))
        gates.append(((*parents, y), table))
    given: dict[str, Any] = {n: values for (n,), values in roots}
    for y in scopes:
        given[y] = lambda v, pa, y=y: NoisyOr(v, pa, strengths=strengths[y], leak=0.05)
    edges = [(c, y) for y, parents in scopes.items() for c in parents]
    _add(
        name="noisy_or_of_many",
        make=lambda: pgnn.BayesianNetwork(edges, given, states=dict.fromkeys(scopes, 2)),
        cards=dict.fromkeys([*causes, *scopes], 2),
        tables=_constant([*roots, *gates]),
    )
    parts = [f"p{k}" for k in range(4)]
    effects = [oracle.random_table(rng, [2], 3) for _ in parts]
    effects[0][0] = [0.0, 1.0, 0.0]
    leak = np.array([0.0, 0.1, 0.9])
    priors: Tables = [((p,), oracle.random_table(rng, [], 3)) for p in parts]
    table = np.zeros([3] * 5)
    for x in _grid(3, 3, 3, 3):
        own = [q[s] if s < 2 else np.eye(3)[2] for q, s in zip(effects, x, strict=True)]
        reached = np.prod([np.cumsum(q[::-1])[::-1] for q in [leak, *own]], axis=0)  # P(min >= k)
        table[tuple(x)] = -np.diff(reached, append=0.0)
    own_tables: dict[str, Any] = {n: values for (n,), values in priors}
    _add(
        name="noisy_min",
        make=lambda: pgnn.BayesianNetwork(
            [(p, "flow") for p in parts],
            {**own_tables, "flow": lambda v, pa: NoisyMin(v, pa, effects, leak)},
            states={"flow": ["none", "low", "full"]},
        ),
        cards=dict.fromkeys([*parts, "flow"], 3),
        tables=_constant([*priors, ((*parts, "flow"), table)]),
        impossible=dict.fromkeys(parts, 2) | {"flow": 0},
    )


def _softmaxes() -> None:
    """Logistic regression on discrete parents; and on inputs, which make the tables row-wise."""
    rng = np.random.default_rng(5)
    weight, bias = rng.normal(size=(3, 3)), rng.normal(size=3)
    a, b = np.array([0.4, 0.6]), np.array([0.2, 0.3, 0.5])
    edges, roots = [("a", "y"), ("b", "y")], [(("a",), a), (("b",), b)]

    def score(i: int, j: int) -> np.ndarray:
        features = np.array([i == 1, j == 1, j == 2], dtype=float)
        return np.asarray(bias + features @ weight)

    table = _softmax(np.array([[score(i, j) for j in range(3)] for i in range(2)]))
    _add(
        name="softmax",
        make=lambda: pgnn.BayesianNetwork(
            edges,
            {"a": a, "b": b, "y": lambda v, pa: Softmax(v, pa, weight, bias)},
            states={"y": ["red", "green", "blue"]},
        ),
        cards={"a": 2, "b": 3, "y": 3},
        tables=_constant([*roots, (("a", "b", "y"), table)]),
    )
    covariate = rng.normal(size=(NUM_ROWS, 2))
    slope = rng.normal(size=(2, 3))

    def tables(r: int) -> Tables:
        shifted = np.array(
            [[score(i, j) + covariate[r] @ slope for j in range(3)] for i in range(2)]
        )
        return [*roots, (("a", "b", "y"), _softmax(shifted))]

    stacked = np.concatenate([weight, slope])
    _add(
        name="softmax_inputs",
        make=lambda: pgnn.BayesianNetwork(
            edges,
            {
                "a": a,
                "b": b,
                "y": lambda v, pa: Softmax(v, pa, stacked, bias, inputs={"u": 2}),
            },
            states={"y": 3},
        ),
        cards={"a": 2, "b": 3, "y": 3},
        tables=tables,
        inputs={"u": torch.from_numpy(covariate)},
    )


# --- networks -----------------------------------------------------------------------------------


def _linear(rng: np.random.Generator, features: int, outputs: int, dtype: torch.dtype) -> nn.Linear:
    """A linear layer with given numbers, so that NumPy can do the same."""
    with torch.random.fork_rng(devices=[]):
        module = nn.Linear(features, outputs, dtype=dtype)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(rng.normal(size=(outputs, features))))
        module.bias.copy_(torch.from_numpy(rng.normal(size=outputs)))
    return module


def _numbers(module: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        return module.weight.double().numpy().copy(), module.bias.double().numpy().copy()


def _neural_discrete(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """A network that turns a state into a distribution over states."""
    a = np.array([0.2, 0.5, 0.3])

    def module() -> nn.Linear:
        return _linear(np.random.default_rng(6), 3, 4, dtype)

    weight, bias = _numbers(module())
    table = _softmax(np.eye(3) @ weight.T + bias)
    last = np.random.default_rng(6).dirichlet(np.ones(2), size=4)
    _add(
        name=name,
        make=lambda: pgnn.BayesianNetwork(
            [("a", "b"), ("b", "c")],
            {"a": a, "b": lambda v, pa: Neural(v, pa, module()), "c": last},
            states={"b": 4},
        ),
        cards={"a": 3, "b": 4, "c": 2},
        tables=_constant([(("a",), a), (("a", "b"), table), (("b", "c"), last)]),
        tolerance=tolerance,
    )


def _neural_real() -> None:
    """A discrete cause of a real vector that is always observed, and of something discrete."""
    digit, image = Variable("digit", 3), Variable("image", shape=(2,))
    p, other = np.array([0.5, 0.3, 0.2]), np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    values = np.random.default_rng(8).normal(size=(NUM_ROWS, 2))
    scale = 0.8

    def module() -> nn.Linear:
        return _linear(np.random.default_rng(9), 3, 2, torch.float64)

    weight, bias = _numbers(module())

    def tables(r: int) -> Tables:
        mean = np.eye(3) @ weight.T + bias
        log_density = -0.5 * ((values[r] - mean) / scale) ** 2 - np.log(scale * np.sqrt(2 * np.pi))
        density = np.exp(log_density.sum(axis=-1))
        return [(("digit",), p), (("digit", "label"), other), (("digit",), density)]

    _add(
        name="neural_real",
        make=lambda: pgnn.BayesianNetwork(
            [("digit", "image"), ("digit", "label")],
            {
                "digit": pgnn.Tabular(digit, (), p),
                "image": Neural(image, [digit], module(), head=NormalHead((2,), scale)),
                "label": other,
            },
        ),
        cards={"digit": 3, "label": 2},
        tables=tables,
        reals={"image": torch.from_numpy(values)},
    )


def _discriminant() -> None:
    """A class of normal vectors that are always observed."""
    p, values = np.array([0.5, 0.3, 0.2]), np.random.default_rng(18).normal(size=(NUM_ROWS, 2))
    mean = np.array([[0.0, 0.0], [1.0, -1.0], [2.0, 0.5]])
    covariance = np.array([[1.0, 0.3], [0.3, 0.5]])
    inverse, root = np.linalg.inv(covariance), np.sqrt(np.linalg.det(covariance))

    def make() -> Model:
        model = pgnn.GaussianDiscriminant(3, 2, prior=p)
        normal: Any = model.conditionals["x"]
        normal.set_parameters(mean, covariance)
        return model.requires_grad_(False)

    def tables(r: int) -> Tables:
        error = values[r] - mean
        square = np.einsum("ki,ij,kj->k", error, inverse, error)
        return [(("class",), p), (("class",), np.exp(-0.5 * square) / (2 * np.pi * root))]

    _add(
        name="discriminant",
        make=make,
        cards={"class": 3},
        tables=tables,
        reals={"x": torch.from_numpy(values)},
    )


# --- real variables that nobody sees ------------------------------------------------------------


def _hidden_normals() -> None:
    """A hidden number per kind and season with two measurements, the second one with gaps."""
    kind, season, x = Variable("kind", 2), Variable("season", 3), Variable("x")
    first, second = Variable("first"), Variable("second")
    p, q = np.array([0.4, 0.6]), np.array([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]])
    label = np.array([[0.9, 0.1], [0.3, 0.7]])
    mean = np.array([[-1.0, 0.0, 2.0], [1.0, 0.5, -2.0]])
    variance = np.array([[0.5, 1.0, 2.0], [0.3, 0.6, 1.5]])
    slope, noise = np.array([1.0, -0.5]), np.array([0.4, 1.2])
    values = np.random.default_rng(13).normal(size=(NUM_ROWS, 2)) * 1.5
    values[[1, 4], 1] = np.nan

    def tables(r: int) -> Tables:
        density = np.zeros((2, 3))
        for i, j in _grid(2, 3):
            m, v = mean[i, j], variance[i, j]
            a, b = slope[i], noise[i]
            joint = np.array([[a * a * v + b, a * v], [a * v, v + 0.7]])
            error = values[r] - [a * m + 0.1, m]
            observed = ~np.isnan(error)
            own, e = joint[np.ix_(observed, observed)], error[observed]
            square = e @ np.linalg.solve(own, e)
            density[i, j] = np.exp(-0.5 * square) / np.sqrt(np.linalg.det(2 * np.pi * own))
        return [(("kind",), p), (("kind", "season"), q), (("kind", "label"), label),
                (("kind", "season"), density)]  # fmt: skip

    _add(
        name="hidden_normals",
        make=lambda: pgnn.BayesianNetwork(
            [("kind", "season"), ("kind", "label"), ("kind", "x"), ("season", "x"),
             ("x", "first"), ("kind", "first"), ("x", "second")],
            {
                "kind": pgnn.Tabular(kind, (), p),
                "season": pgnn.Tabular(season, [kind], q),
                "label": label,
                "x": pgnn.Gaussian(x, [season, kind], mean.T.copy(), variance.T.copy()),
                "first": pgnn.LinearGaussian(
                    first, [x, kind], slope[:, None], np.full(2, 0.1), noise
                ),
                "second": pgnn.LinearGaussian(second, [x], [1.0], 0.0, 0.7),
            },
        ),
        cards={"kind": 2, "season": 3, "label": 2},
        tables=tables,
        reals={n: torch.from_numpy(values[:, k]) for k, n in enumerate(["first", "second"])},
    )  # fmt: skip


# --- undirected ---------------------------------------------------------------------------------


def _markov() -> None:
    """A loop of pairwise tables with a forbidden pair, a unary table, and a lonely variable."""
    rng = np.random.default_rng(10)
    cards = {"a": 2, "b": 3, "c": 2, "d": 2, "lonely": 2}
    pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]
    tables: Tables = [(p, rng.gamma(1.0, size=[cards[n] for n in p]) + 0.01) for p in pairs]
    tables[0][1][1, 2] = 0.0
    tables.append((("lonely",), np.array([0.5, 3.0])))

    def make() -> Model:
        variables = {n: Variable(n, k) for n, k in cards.items()}
        with np.errstate(divide="ignore"):
            return pgnn.MarkovRandomField(
                Factor([variables[n] for n in scope], torch.from_numpy(np.log(values)))
                for scope, values in tables
            )

    _add(
        name="markov",
        make=make,
        cards=cards,
        tables=_constant(tables),
        impossible={"a": 1, "b": 2, "lonely": 1},
    )


def _coupled() -> None:
    """Spins and colours on named nodes of one graph, a table between them."""
    spins, colours = ["s", "t", "u"], ["v", "w"]
    graph = nx.Graph([("s", "t"), ("t", "u"), ("u", "s"), ("v", "w"), ("u", "v")])
    graph.add_node("alone", states=["no", "yes"])
    field, between = np.array([0.3, -0.2, 0.1]), np.array([[1.0, 2.0, 0.0], [0.5, 0.0, 3.0]])
    preferred = np.array([[0.1, -np.inf, 0.4], [0.2, 0.3, -0.5]])
    signs = np.array([-1.0, 1.0])
    agree = np.where(np.eye(3) == 1, np.exp(0.7), 1.0)

    def make() -> Model:
        return pgnn.MarkovRandomField(
            graph,
            [
                pgnn.Ising([Variable(n, 2) for n in spins], 0.4, field),
                pgnn.Potts([Variable(n, 3) for n in colours], 0.7, preferred, graph.edges("w")),
                pgnn.TabularPotential([Variable("u", 2), Variable("v", 3)], between),
            ],
        )

    tables: Tables = [
        (pair, np.exp(0.4 * np.outer(signs, signs))) for pair in itertools.combinations(spins, 2)
    ]
    tables += [((n,), np.exp(h * signs)) for n, h in zip(spins, field, strict=True)]
    tables += [((n,), np.exp(h)) for n, h in zip(colours, preferred, strict=True)]
    tables += [(("v", "w"), agree), (("u", "v"), between)]
    _add(
        name="coupled",
        make=make,
        cards={"s": 2, "t": 2, "u": 2, "v": 3, "w": 3, "alone": 2},
        tables=_constant(tables),
        impossible={"u": 1, "v": 1},
    )


def _features() -> None:
    """Weighted features, the same ones on every edge of a square."""
    cards = dict.fromkeys("abcd", 3)
    edges = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]
    weights = [0.8, -0.3]
    k = np.arange(3)
    scores = weights[0] * (k[:, None] == k) + weights[1] * np.abs(k[:, None] - k)
    functions = {"same": lambda x, y: x == y, "apart": lambda x, y: abs(x - y)}
    _add(
        name="features",
        make=lambda: pgnn.MarkovRandomField(
            [pgnn.LogLinear([Variable(n, 3) for n in cards], functions, weights, edges)]
        ).requires_grad_(),
        cards=cards,
        tables=_constant([(e, np.exp(scores)) for e in edges]),
    )


def _neural_field() -> None:
    """A joint table of two variables that a network makes of an input, and a chain below it."""
    cards = {"a": 2, "b": 3, "c": 2}
    u = np.random.default_rng(11).normal(size=(NUM_ROWS, 4))
    below = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.5]])

    def module() -> nn.Linear:
        return _linear(np.random.default_rng(12), 4, 6, torch.float64)

    weight, bias = _numbers(module())

    def tables(r: int) -> Tables:
        joint = np.exp(u[r] @ weight.T + bias).reshape(2, 3)
        return [(("a", "b"), joint), (("b", "c"), below)]

    def make() -> Model:
        a, b, c = (Variable(n, k) for n, k in cards.items())
        network = nn.Sequential(module(), nn.Unflatten(1, (2, 3)))
        return pgnn.MarkovRandomField(
            [pgnn.NeuralPotential([a, b], network, "u"), pgnn.TabularPotential([b, c], below)]
        )

    _add(
        name="neural_field",
        make=make,
        cards=cards,
        tables=tables,
        inputs={"u": torch.from_numpy(u)},
    )


# --- units -------------------------------------------------------------------------------------


def _energy() -> None:
    """Binary units and a label with three states, joined to hidden units at a temperature."""
    rng = np.random.default_rng(14)
    cards = {"v": 2, "w": 2, "label": 3, "h": 2, "g": 2}
    features = {n: np.eye(k) if k > 2 else np.arange(2.0)[:, None] for n, k in cards.items()}
    size = {n: x.shape[1] for n, x in features.items()}
    biases = {n: rng.normal(size=size[n]) for n in cards}
    pairs = [*((a, b) for a in ("v", "w", "label") for b in ("h", "g")), ("v", "w")]
    couplings = [(a, b, rng.normal(size=(size[a], size[b]))) for a, b in pairs]

    def joined(a: str, b: str, w: np.ndarray) -> np.ndarray:
        return np.exp(features[a] @ w @ features[b].T / 1.5)

    tables: Tables = [((n,), np.exp(features[n] @ b / 1.5)) for n, b in biases.items()]
    tables += [((a, b), joined(a, b, w)) for a, b, w in couplings]
    _add(
        name="energy",
        make=lambda: pgnn.EnergyModel(
            [Variable(n, k) for n, k in cards.items()], couplings, biases, temperature=1.5
        ),
        cards=cards,
        tables=_constant(tables),
    )


def _layered(top_is_normalized: bool) -> None:
    """Logistic layers of a unit each; the top two are a restricted machine if not normalised."""
    bias, weight = {"v": 0.4, "h": -0.7, "g": 0.9}, {"v": 1.3, "h": -2.1}

    def unit(child: str, parent: str) -> oracle.Table:
        on = _sigmoid(bias[child] + weight[child] * np.arange(2))
        return (parent, child), np.stack([1 - on, on], axis=1)

    def alone(name: str) -> oracle.Table:
        return (name,), np.exp([0.0, bias[name]])

    tables: Tables = [unit("v", "h"), alone("g")]
    if top_is_normalized:
        tables += [unit("h", "g"), ((), np.array(1.0 / (1.0 + np.exp(bias["g"]))))]
    else:
        tables += [alone("h"), (("h", "g"), np.exp([[0.0, 0.0], [0.0, weight["h"]]]))]

    def make() -> Model:
        kind = pgnn.SigmoidBeliefNetwork if top_is_normalized else pgnn.DeepBeliefNetwork
        model = kind([Variable(n, 2) for n in bias])
        with torch.no_grad():
            for p, x in zip(model.biases, bias.values(), strict=True):
                p.fill_(x)
            for p, x in zip(model.weights, weight.values(), strict=True):
                p.fill_(x)
        return model.requires_grad_(False)

    _add(
        name="sigmoid_layers" if top_is_normalized else "deep_belief",
        make=make,
        cards=dict.fromkeys(bias, 2),
        tables=_constant(tables),
    )


# --- labels -------------------------------------------------------------------------------------


def _labels() -> None:
    """A conditional random field of three labels, whose scores a network makes of inputs."""
    rng = np.random.default_rng(13)
    u, moves = rng.normal(size=(NUM_ROWS, 3, 4)), rng.normal(size=(3, 3))
    cards = {("label", t): 3 for t in range(3)}

    def module() -> nn.Linear:
        return _linear(np.random.default_rng(14), 4, 3, torch.float64)

    weight, bias = _numbers(module())

    def tables(r: int) -> Tables:
        steps = [((("label", t),), np.exp(u[r, t] @ weight.T + bias)) for t in range(3)]
        pairs = [((("label", t), ("label", t + 1)), np.exp(moves)) for t in range(2)]
        return [*steps, *pairs]

    _add(
        name="labels_given_inputs",
        make=lambda: pgnn.ConditionalRandomField(
            3, pgnn.NeuralScores(module(), "u"), transitions=moves
        ).unroll(3),
        cards=cards,
        tables=tables,
        inputs={("u", t): torch.from_numpy(u[:, t]) for t in range(3)},
    )


_sprinkler()
_structural_zeros()
_shapes()
_names()
_learnable()
_unrolled()
_sigmoids()
_noisy()
_many_causes()
_softmaxes()
_neural_discrete("neural", torch.float64, 1e-9)
_neural_discrete("neural_single_precision", torch.float32, 2e-6)
_neural_real()
_discriminant()
_hidden_normals()
_markov()
_coupled()
_features()
_neural_field()
_energy()
_layered(top_is_normalized=True)
_layered(top_is_normalized=False)
_labels()
