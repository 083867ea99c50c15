"""Brute force in NumPy: every answer by writing down the whole joint table.

Nothing here knows pgnn. A *table* is a pair ``(names, array)`` in probability units, one axis a
name; a *joint* is the product of tables over all variables, kept dense, so keep models below about
a million joint states. Hard evidence is ``{name: index}`` (-1 means not observed), soft evidence is
``{name: (K,) likelihoods}``. Evidence keeps the observed axes and puts zeros where they disagree,
so a marginal of an observed variable is a point mass.

    cards = {"a": 2, "b": 3}
    joint = oracle.joint(cards, [(("a",), p_a), (("a", "b"), p_b_given_a)], {"b": 2})
    oracle.log_evidence(joint); oracle.marginal(joint, ["a"]); oracle.mode(joint)
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Name = Any
Table = tuple[Sequence[Name], np.ndarray]
Assignment = dict[Name, int]


@dataclass(frozen=True)
class Joint:
    """Unnormalised table over all variables; ``table.shape`` follows ``names``."""

    names: tuple[Name, ...]
    table: np.ndarray


def joint(
    cards: Mapping[Name, int],
    tables: Iterable[Table],
    evidence: Mapping[Name, int] | None = None,
    soft: Mapping[Name, np.ndarray] | None = None,
) -> Joint:
    """The product of the tables (axes as in ``cards``), times the evidence."""
    names = tuple(cards)
    product = np.ones([cards[n] for n in names], dtype=np.float64)
    for scope, values in tables:
        product = product * _spread(names, scope, np.asarray(values, dtype=np.float64))
    for name, state in (evidence or {}).items():
        if state >= 0:
            one_hot = np.zeros(cards[name])
            one_hot[state] = 1.0
            product = product * _spread(names, [name], one_hot)
    for name, likelihood in (soft or {}).items():
        product = product * _spread(names, [name], np.asarray(likelihood, dtype=np.float64))
    return Joint(names, product)


def evidence_probability(joint: Joint) -> float:
    """Z, the sum of the joint: the probability of the evidence in a directed model."""
    return float(joint.table.sum())


def log_evidence(joint: Joint) -> float:
    """log Z; ``-inf`` where the evidence is impossible."""
    with np.errstate(divide="ignore"):
        return float(np.log(joint.table.sum()))


def marginal(joint: Joint, keep: Sequence[Name]) -> np.ndarray:
    """Normalised table over ``keep``, axes in that order."""
    total = _sum_to(joint, keep)
    return total / total.sum()


def marginals(joint: Joint) -> dict[Name, np.ndarray]:
    """The marginal of every single variable."""
    return {name: marginal(joint, [name]) for name in joint.names}


def conditional(joint: Joint, child: Name, parents: Sequence[Name]) -> np.ndarray:
    """p(child | parents, evidence), axes parents then child; NaN where the parents cannot occur."""
    table = _sum_to(joint, [*parents, child])
    with np.errstate(invalid="ignore"):
        return table / table.sum(axis=-1, keepdims=True)


def expected_counts(joint: Joint, scopes: Iterable[Sequence[Name]]) -> list[np.ndarray]:
    """Expected number of times each entry of each scope occurs in one row: its marginal."""
    return [marginal(joint, scope) for scope in scopes]


def entropy(joint: Joint, names: Sequence[Name] | None = None) -> float:
    """Entropy in nats of the normalised joint, or of the marginal of ``names``."""
    p = marginal(joint, joint.names if names is None else names).ravel()
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def mutual_information(joint: Joint, a: Sequence[Name], b: Sequence[Name]) -> float:
    """I(a; b) in nats under the normalised joint."""
    return entropy(joint, a) + entropy(joint, b) - entropy(joint, [*a, *b])


def k_best(joint: Joint, k: int) -> list[tuple[Assignment, float]]:
    """The k most probable states of positive weight and their unnormalised logs, best first."""
    flat = joint.table.ravel()
    order = np.argsort(-flat, kind="stable")[:k]
    return [
        (_assignment(joint.names, np.unravel_index(i, joint.table.shape)), float(np.log(flat[i])))
        for i in order
        if flat[i] > 0
    ]


def mode(joint: Joint) -> tuple[Assignment, float]:
    """A most probable state and its unnormalised log value (compare values, not ties)."""
    return k_best(joint, 1)[0]


def marginal_map(joint: Joint, targets: Sequence[Name]) -> tuple[Assignment, float]:
    """The best states of ``targets`` with all else summed out, and log p(targets, evidence)."""
    return mode(Joint(tuple(targets), _sum_to(joint, targets)))


def weight(joint: Joint, assignment: Mapping[Name, int]) -> float:
    """The joint's value at a partial assignment, all else summed out; -1 means not observed."""
    observed = {n: s for n, s in assignment.items() if s >= 0}
    table = _sum_to(joint, list(observed))
    return float(table[tuple(observed.values())])


def log_prob_rows(joint: Joint, rows: Sequence[Mapping[Name, int]]) -> np.ndarray:
    """log p of each complete or incomplete row, relative to the joint's own total."""
    with np.errstate(divide="ignore"):
        return np.log([weight(joint, row) for row in rows]) - log_evidence(joint)


def independent(
    joint: Joint, a: Sequence[Name], b: Sequence[Name], given: Sequence[Name] = ()
) -> bool:
    """Whether a and b are independent given the rest, up to 1e-10, in this very table."""
    names = [*a, *b, *given]
    p = marginal(joint, names)
    axes_a = tuple(range(len(a)))
    axes_b = tuple(range(len(a), len(a) + len(b)))
    p_a = p.sum(axis=axes_b, keepdims=True)
    p_b = p.sum(axis=axes_a, keepdims=True)
    p_given = p.sum(axis=axes_a + axes_b, keepdims=True)
    return bool(np.allclose(p * p_given, p_a * p_b, atol=1e-10))


# --- random models --------------------------------------------------------------------------------

KINDS = ("tree", "loop", "dense", "disconnected", "isolated", "single")


@dataclass(frozen=True)
class Network:
    """A random directed model: state counts, parents, tables (axes parents first, child last)."""

    cards: dict[Name, int]
    parents: dict[Name, tuple[Name, ...]]
    probabilities: dict[Name, np.ndarray]

    @property
    def tables(self) -> list[Table]:
        """One table a variable, over its parents and itself."""
        return [((*self.parents[n], n), self.probabilities[n]) for n in self.cards]

    @property
    def edges(self) -> list[tuple[Name, Name]]:
        """Parent to child."""
        return [(parent, child) for child, pa in self.parents.items() for parent in pa]

    def joint(
        self,
        evidence: Mapping[Name, int] | None = None,
        soft: Mapping[Name, np.ndarray] | None = None,
    ) -> Joint:
        """The joint of this network with evidence."""
        return joint(self.cards, self.tables, evidence, soft)


def random_network(
    rng: np.random.Generator,
    kind: str = "loop",
    num_variables: int = 6,
    max_states: int = 3,
    max_parents: int = 3,
    zeros: float = 0.15,
    one_state: float = 0.1,
) -> Network:
    """A random network whose names are ``x0, x1, ...`` in a shuffled (not topological) order.

    Args:
        rng: Source of randomness.
        kind: One of :data:`KINDS`: ``tree`` (one parent), ``loop`` (up to ``max_parents``),
            ``dense`` (always ``max_parents``), ``disconnected`` (two loopy halves), ``isolated``
            (no edge at all), ``single`` (one variable).
        num_variables: How many variables, unless ``single``.
        max_states: Most states a variable may have.
        max_parents: Most parents a variable may have.
        zeros: Share of structural zeros in the tables.
        one_state: Share of variables that have one state only.
    """
    n = 1 if kind == "single" else num_variables
    cards, parents, probabilities = {}, {}, {}
    names = [f"x{k}" for k in rng.permutation(n)]
    for k, name in enumerate(names):
        single = rng.random() < one_state
        cards[name] = 1 if single else int(rng.integers(2, max(max_states, 2) + 1))
        first = n // 2 if kind == "disconnected" and k >= n // 2 else 0
        pool = names[first:k]
        most = min(max_parents, len(pool))
        number = {
            "tree": min(1, most),
            "dense": most,
            "isolated": 0,
        }.get(kind, int(rng.integers(0, most + 1)))
        parents[name] = tuple(str(p) for p in rng.permutation(pool)[:number])
        shape = [cards[p] for p in parents[name]]
        probabilities[name] = random_table(rng, shape, cards[name], zeros)
    shuffled = [str(name) for name in rng.permutation(names)]
    return Network(
        {name: cards[name] for name in shuffled},
        {name: parents[name] for name in shuffled},
        {name: probabilities[name] for name in shuffled},
    )


def random_table(
    rng: np.random.Generator, parent_shape: Sequence[int], num_states: int, zeros: float = 0.0
) -> np.ndarray:
    """A conditional table; each row sums to one and keeps at least one positive entry."""
    table = rng.gamma(0.7, size=(*parent_shape, num_states)) + 1e-3
    keep = rng.random(table.shape) >= zeros
    survivor = rng.integers(0, num_states, size=tuple(parent_shape))
    np.put_along_axis(keep, np.asarray(survivor)[..., None], True, axis=-1)
    table = table * keep
    return table / table.sum(axis=-1, keepdims=True)


def random_factors(
    rng: np.random.Generator,
    num_variables: int = 6,
    num_factors: int = 8,
    max_states: int = 3,
    max_scope: int = 3,
    zeros: float = 0.1,
) -> tuple[dict[Name, int], list[Table]]:
    """State counts and random non-negative tables of an undirected model with Z > 0."""
    cards = {f"x{k}": int(rng.integers(1, max_states + 1)) for k in range(num_variables)}
    names = list(cards)
    # One joint state is spared from the zeros so that the model never is empty.
    spared = {name: int(rng.integers(cards[name])) for name in names}
    tables: list[Table] = []
    for _ in range(num_factors):
        size = int(rng.integers(1, min(max_scope, num_variables) + 1))
        scope = tuple(str(s) for s in rng.permutation(names)[:size])
        table = rng.gamma(1.0, size=[cards[s] for s in scope]) + 1e-3
        keep = rng.random(table.shape) >= zeros
        keep[tuple(spared[s] for s in scope)] = True
        tables.append((scope, table * keep))
    return cards, tables


def random_evidence(
    rng: np.random.Generator, joint: Joint, share: float = 0.4, num_rows: int | None = None
) -> Any:
    """Possible evidence: states drawn from the joint, each variable kept with probability share.

    Returns:
        ``{name: index}``, or for ``num_rows`` a list of them, every row with other names.
    """
    flat = joint.table.ravel() / joint.table.sum()
    rows = []
    for _ in range(1 if num_rows is None else num_rows):
        states = np.unravel_index(int(rng.choice(flat.size, p=flat)), joint.table.shape)
        full = _assignment(joint.names, states)
        rows.append({n: s for n, s in full.items() if rng.random() < share})
    return rows[0] if num_rows is None else rows


def all_states(cards: Mapping[Name, int]) -> list[Assignment]:
    """Every joint state, the last variable running fastest."""
    ranges = [range(k) for k in cards.values()]
    return [dict(zip(cards, states, strict=True)) for states in itertools.product(*ranges)]


# --- pieces ---------------------------------------------------------------------------------------


def _spread(names: Sequence[Name], scope: Sequence[Hashable], values: np.ndarray) -> np.ndarray:
    """``values`` as an array with one axis for every name, size one where it has none."""
    if values.ndim != len(scope):
        raise ValueError(f"table over {list(scope)} has {values.ndim} axes")
    order = sorted(range(len(scope)), key=lambda axis: names.index(scope[axis]))
    shape = [values.shape[scope.index(n)] if n in scope else 1 for n in names]
    return values.transpose(order).reshape(shape)


def _sum_to(joint: Joint, keep: Sequence[Name]) -> np.ndarray:
    gone = tuple(k for k, n in enumerate(joint.names) if n not in keep)
    left = [n for n in joint.names if n in keep]
    return joint.table.sum(axis=gone).transpose([left.index(n) for n in keep])


def _assignment(names: Sequence[Name], states: Sequence[Any]) -> Assignment:
    return {name: int(state) for name, state in zip(names, states, strict=True)}
