"""Divergences between simple distributions and a posterior, and projections onto networks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.graphs.spanning_tree import maximum_spanning_tree
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.posterior import Posterior
from pgnn.limits import whole_number
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.model import Model

__all__ = [
    "EvidenceDecomposition",
    "decompose",
    "forward_projection",
    "kl_divergence",
    "reverse_projection",
]


def __dir__() -> list[str]:
    return [*__all__]


Edges = Iterable[tuple[Hashable, Hashable]]


@dataclass(frozen=True)
class EvidenceDecomposition:
    r"""The log evidence as a sum of the evidence lower bound and a divergence.

    .. math:: \log p(e) = \underbrace{E_q[\log p(x, e)] + H(q)}_{\text{ELBO}}
        + \mathrm{KL}(q(x) \,\|\, p(x \mid e))

    Attributes:
        log_evidence: :math:`\log p(e)`.
        energy: :math:`E_q[\log p(x, e)]`.
        entropy: :math:`H(q)`.
    """

    log_evidence: Tensor
    energy: Tensor
    entropy: Tensor

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound."""
        return self.energy + self.entropy

    @property
    def kl(self) -> Tensor:
        """The divergence of ``q`` from the posterior, zero if and only if they are equal."""
        return self.log_evidence - self.elbo


def decompose(
    model: Model, q: Model | Posterior | Mapping[Hashable, Any], evidence: Any = None
) -> EvidenceDecomposition:
    """Return the log evidence of a discrete model as ELBO + KL for any ``q``.

    Args:
        model: Any model of single discrete variables.
        q: A distribution of the unobserved variables: a model, or a product of marginals as a
            :class:`Posterior` or as ``(K,)`` probabilities by name.
        evidence: One row, as in a query.

    Raises:
        ModelError: If ``q`` has other variables.
        Unsupported: If a variable is real or an array.

    Cost:
        The joint marginals of ``q`` over the scopes of the factors of the model.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 9.4 and 10.1.

    Example:
        >>> net = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> parts = decompose(net, {"a": [0.5, 0.5]}, {"b": 1})
        >>> round(float(parts.elbo), 4), round(float(parts.kl), 4)
        (-1.2629, 0.4644)
    """
    hidden = _hidden(model, evidence)
    distribution: _Distribution = (
        _OfModel(q, hidden) if isinstance(q, Model) else _Product(q, hidden)
    )
    factors, log_normalizer = _factors(model, evidence)
    energy = sum(
        (distribution.mean(f) for f in factors), start=torch.zeros((), dtype=torch.float64)
    )
    with torch.no_grad():
        log_evidence = JunctionTree().log_prob(model, evidence).reshape(()).double()
    if not model.is_normalized:
        log_evidence = log_evidence - log_normalizer
    return EvidenceDecomposition(log_evidence, energy - log_normalizer, distribution.entropy())


def kl_divergence(p: Model, q: Model) -> Tensor:
    r"""Return the divergence of two discrete models, in nats.

    .. math:: \mathrm{KL}(p \,\|\, q) = \sum_x p(x) \log \frac{p(x)}{q(x)}

    Args:
        p: A model of single discrete variables.
        q: A model of the same variables with the same states.

    Returns:
        A scalar; infinite if ``q`` excludes a state that is possible under ``p``.

    Raises:
        ModelError: If the models have different variables or states.
        Unsupported: If a variable is real or an array.

    Cost:
        The joint marginals of ``p`` over the scopes of the factors of both models.

    Example:
        >>> p = BayesianNetwork([], {"a": [0.5, 0.5]})
        >>> q = BayesianNetwork([], {"a": [0.25, 0.75]})
        >>> kl_divergence(p, q)
        tensor(0.1438, dtype=torch.float64)
    """
    if set(p.variables) != set(q.variables):
        raise ModelError(
            f"p and q must have the same variables, got {[*p.variables]!r} and {[*q.variables]!r}"
        )
    for name, variable in p.variables.items():
        other = q.variables[name]
        if other != variable:
            raise ModelError(f"both models must have the same states, got {variable!r}, {other!r}")
    return decompose(q, p).kl.detach()


def forward_projection(
    model: Model, evidence: Any = None, edges: Edges | None = ()
) -> BayesianNetwork:
    r"""Return the network nearest to a posterior by :math:`\mathrm{KL}(p \,\|\, q)`.

    Its tables are the conditionals of the posterior, so that all families have the same joint
    distributions; it covers all modes.

    Args:
        model: Any model of single discrete variables.
        evidence: One row, as in a query.
        edges: Directed edges of the network; empty for a product of marginals, None for the best
            tree.

    Cost:
        A joint marginal for each family, or for all pairs for the best tree.

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, section 8.5.

    Example:
        >>> net = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> forward_projection(net).conditionals["b"].probs
        tensor([0.5500, 0.4500], dtype=torch.float64)
    """
    hidden = _hidden(model, evidence)
    with torch.no_grad():
        posterior = model.query([*hidden], evidence, engine=JunctionTree())
        arcs = _checked(hidden, _best_tree(posterior, hidden) if edges is None else edges)
        tables = {}
        for name in hidden:
            scope = [*(a for a, b in arcs if b == name), name]
            joint = posterior.joint(*scope).values.double()
            total = joint.sum(-1, keepdim=True)
            uniform = torch.full_like(joint, 1.0 / joint.shape[-1])
            tables[name] = torch.where(total > 0, joint / total.clamp_min(1e-300), uniform)
    states: dict[Hashable, Any] = dict(hidden)
    return BayesianNetwork(arcs, tables, states)


def reverse_projection(
    model: Model,
    evidence: Any = None,
    edges: Edges = (),
    *,
    restarts: int = 5,
    seed: int | None = None,
) -> BayesianNetwork:
    r"""Return a network close to a posterior by :math:`\mathrm{KL}(q \,\|\, p)`.

    It avoids improbable states and may cover only one of several modes. The result is a local
    optimum, found by ascent of the ELBO from several starts.

    Args:
        model: Any model of single discrete variables whose joint states are all possible.
        evidence: One row, as in a query.
        edges: Directed edges of the network; empty for a product of marginals (mean field).
        restarts: Number of starts, of which the best result is returned.
        seed: Random seed of the initial values.

    Raises:
        Unsupported: If some joint states are impossible.

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, sections 8.5 and 11.5.
    """
    restarts = whole_number("restarts", restarts, 1, ModelError)
    hidden = _hidden(model, evidence)
    factors, _ = _factors(model, evidence)
    if any(bool(f.log_values.isneginf().any()) for f in factors):
        raise Unsupported(
            "some joint states are impossible, so the divergence is infinite for most networks",
            "use forward_projection() or MeanField()",
        )
    arcs = _checked(hidden, edges)
    random = np.random.default_rng(seed)

    def ascended() -> tuple[float, BayesianNetwork]:
        states: dict[Hashable, Any] = dict(hidden)
        network = BayesianNetwork(arcs, states=states)
        network._was_queried = True
        return _ascended(network, factors, random), network

    _, best = max((ascended() for _ in range(restarts)), key=lambda pair: pair[0])
    return best.requires_grad_(False)


# --- helpers ----------------------------------------------------------------------------------


class _Distribution:
    """Expectations under ``q``."""

    def mean(self, f: Factor) -> Tensor:
        """The expectation of a log factor."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """The entropy of ``q``."""
        raise NotImplementedError


class _Product(_Distribution):
    """Independent variables."""

    def __init__(self, q: Any, hidden: Mapping[Hashable, Variable]) -> None:
        self._probs = {}
        for name, v in hidden.items():
            if name not in q:
                raise ModelError(f"q must include {name!r}, which was not observed")
            table = q[name]
            probs = table.probs if hasattr(table, "probs") else table
            entries = torch.as_tensor(probs, dtype=torch.float64).reshape(-1)
            if len(entries) != v.num_states or not math.isclose(
                float(entries.sum()), 1.0, abs_tol=1e-6
            ):
                raise ModelError(f"q of {name!r} must be {v.num_states} probabilities, got {table}")
            self._probs[name] = entries

    def mean(self, f: Factor) -> Tensor:
        """See the base class."""
        table = torch.ones((), dtype=torch.float64)
        for name in f.names:
            table = table.unsqueeze(-1) * self._probs[name]
        return _expectation(table, f.log_values)

    def entropy(self) -> Tensor:
        """See the base class."""
        return -sum((torch.special.xlogy(p, p).sum() for p in self._probs.values()),
                    start=torch.zeros((), dtype=torch.float64))  # fmt: skip


class _OfModel(_Distribution):
    """A model of the same variables."""

    def __init__(self, q: Model, hidden: Mapping[Hashable, Variable]) -> None:
        if set(q.variables) != set(hidden):
            raise ModelError(f"q must be a model of {[*hidden]}, got one of {[*q.variables]}")
        self._q = q
        self._posterior = q.query([*hidden], engine=JunctionTree()) if hidden else None

    def mean(self, f: Factor) -> Tensor:
        """See the base class."""
        if not f.names or self._posterior is None:
            return f.log_values.double().reshape(())
        return _expectation(self._posterior.joint(*f.names).values, f.log_values)

    def entropy(self) -> Tensor:
        """See the base class."""
        factors, log_normalizer = _factors(self._q, None)
        zero = torch.zeros((), dtype=torch.float64)
        return log_normalizer - sum((self.mean(f) for f in factors), start=zero)


def _expectation(table: Tensor, logs: Tensor) -> Tensor:
    """Mean of logs; states of probability zero contribute zero."""
    table, logs = table.double(), logs.double().reshape(table.shape)
    return torch.where(table > 0, table * torch.where(table > 0, logs, 0.0), 0.0).sum()


def _hidden(model: Model, evidence: Any) -> dict[Hashable, Variable]:
    """Return the unobserved variables."""
    bad = [n for n, v in model.variables.items() if not v.is_discrete or v.shape]
    if bad:
        raise Unsupported(f"divergences need single discrete variables, got {bad[0]!r}")
    codes = _codes(model, evidence)
    return {n: v for n, v in model.variables.items() if codes[n] < 0}


def _codes(model: Model, evidence: Any) -> dict[Hashable, int]:
    observed = EvidenceReader(tuple(model.variables.values())).read(evidence)
    if observed.num_rows != 1 or observed.soft is not None:
        raise ModelError("a divergence needs one row of evidence without likelihoods")
    return dict(zip(model.variables, observed.codes[0].tolist(), strict=True))


def _factors(model: Model, evidence: Any) -> tuple[list[Factor], Tensor]:
    """Return log tables over the unobserved variables, and the log normalizer of the model."""
    known = {n: torch.tensor([c]) for n, c in _codes(model, evidence).items() if c >= 0}
    zero = torch.zeros((), dtype=torch.float64)
    if not model.is_normalized:
        zero = JunctionTree().log_prob(model, None).reshape(()).double()
    return list(model.factors(known or None)), zero


def _checked(hidden: Mapping[Hashable, Variable], edges: Edges) -> list[tuple[Hashable, Hashable]]:
    """Return the edges between unobserved variables."""
    edges_given = list(edges)
    for a, b in edges_given:
        if a not in hidden or b not in hidden:
            raise ModelError(f"the edge {(a, b)!r} must join unobserved variables of the model")
    return edges_given


def _best_tree(
    posterior: Posterior, hidden: Mapping[Hashable, Variable]
) -> list[tuple[Hashable, Hashable]]:
    """Return the spanning tree of largest total mutual information."""
    names = [*hidden]
    weights = np.zeros((len(names), len(names)))
    for i, a in enumerate(names):
        for j in range(i):
            joint = posterior.joint(names[j], a).values.double()
            product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
            weights[i, j] = weights[j, i] = float(
                torch.special.xlogy(joint, joint / product.clamp_min(1e-300)).sum()
            )
    parents = maximum_spanning_tree(weights)
    return [(names[p], names[v]) for v, p in enumerate(parents.tolist()) if p >= 0]


def _ascended(
    network: BayesianNetwork, factors: list[Factor], random: np.random.Generator
) -> float:
    """Maximise the ELBO of a network; return it."""
    parameters = [*network.parameters()]
    with torch.no_grad():
        for p in parameters:
            p.copy_(torch.from_numpy(random.normal(size=p.shape)))
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe",
                                  tolerance_grad=1e-9, tolerance_change=1e-12)  # fmt: skip
    network.detached = False

    def loss() -> Tensor:
        optimizer.zero_grad()
        distribution = _OfModel(network, dict(network.variables))
        value = sum((distribution.mean(f) for f in factors), start=distribution.entropy())
        (-value).backward()  # type: ignore[no-untyped-call]
        return -value.detach()

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
        value = -float(loss())
    optimizer.zero_grad()
    network.detached = True
    return value
