"""Derivatives of a query by every entry of every table."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import NetworkModel
from pgnn.errors import ImpossibleEvidence
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.inference.engine import Engine
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.sensitivity.entry import entries_of, table_of
from pgnn.sensitivity.what_if import (
    Floats,
    check_hidden,
    check_network,
    question_text,
    ranked,
    read_evidence,
    read_target,
    with_states,
)


def derivatives(
    model: Any,
    target: Mapping[Hashable, Any],
    evidence: Any = None,
    *,
    engine: Engine | None = None,
) -> Any:
    r"""Return how much a posterior probability changes with each entry of the tables.

    .. math:: \frac{\partial\, p(t \mid e)}{\partial\, \theta_{jk}}

    where the other entries of the row change in proportion, so that it sums to one (of an entry
    one, whose row is otherwise zero, they share the rest equally).

    Args:
        model: A Bayesian network; its discrete conditionals are read as tables.
        target: A state of a variable that was not observed, such as ``{"rain": "yes"}``.
        evidence: As in a query.
        engine: An exact engine.

    Returns:
        A data frame, the largest derivative first: ``variable``, ``state``, ``parents`` (mapping),
        ``value`` of the entry, ``derivative``. For rows of evidence one below the other.

    Raises:
        EvidenceError: If the target is wrong or was observed.
        Unsupported: If the model has no conditional tables.
        ImpossibleEvidence: If a row has probability zero.

    Cost:
        Two gradients of a log evidence for each row, and two more for each table with zeros.

    References:
        Darwiche (2003), A differential approach to inference in Bayesian networks; Chan and
        Darwiche (2002), When do numbers really matter?

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> frame = derivatives(model, {"b": 1})
        >>> frame.loc[0, "variable"], round(float(frame.loc[0, "derivative"]), 6)
        ('a', -0.7)
    """
    network = check_network(model)
    observed = read_evidence(network, evidence)
    _, gradients = posterior_gradients(network, target, observed, engine)
    entries = [e for name in gradients for e in entries_of(network.conditionals[name])]
    values = np.concatenate([table_of(network.conditionals[n]).ravel() for n in gradients])
    rows = observed.num_rows
    figures = {
        "value": np.broadcast_to(values, (rows, len(values))),
        "derivative": np.concatenate([g.reshape(rows, -1) for g in gradients.values()], axis=1),
    }
    columns = {
        "variable": [e.variable for e in entries],
        "state": [e.state for e in entries],
        "parents": [e.parents for e in entries],
    }
    question = question_text(network, target, observed)
    return ranked(columns, figures, observed, "derivative", question)


def posterior_gradients(
    model: NetworkModel,
    target: Mapping[Hashable, Any],
    observed: RowEvidence,
    engine: Engine | None = None,
) -> tuple[Floats, dict[Hashable, Floats]]:
    """Return ``(B,)`` posteriors of the target, and ``(B, *table)`` derivatives by each table."""
    variable, code = read_target(model, target)
    check_hidden(model, observed, variable.name)
    both = with_states(model, observed, variable.name, np.full(observed.num_rows, code))
    log_e, by_e = relative_gradients(model, observed, engine=engine)
    log_te, by_te = relative_gradients(model, both, log_e, engine=engine)
    probability = np.exp(log_te - log_e)
    gradients = {
        name: by_te[name] - probability.reshape(-1, *[1] * (g.ndim - 1)) * g
        for name, g in by_e.items()
    }
    return probability, gradients


def relative_gradients(
    model: NetworkModel,
    observed: RowEvidence,
    scale: Floats | None = None,
    *,
    engine: Engine | None = None,
) -> tuple[Floats, dict[Hashable, Floats]]:
    """Return ``(B,)`` log evidence, and its probability's derivatives, divided by a scale.

    Args:
        model: A network.
        observed: ``B`` rows.
        scale: ``(B,)`` logarithm of what derivatives are divided by; the log evidence if not given,
            which has to be finite then.
        engine: An exact engine.

    Returns:
        ``(B,)``, and ``(B, *table)`` by name, along which the rest of a row changes in proportion.

    Raises:
        ImpossibleEvidence: If no scale is given, and a row has probability zero.
    """
    names = [n for n, v in model.variables.items() if v.is_discrete]
    tables = {n: table_of(model.conditionals[n]) for n in names}
    log_evidence, by_logits = _gradients(model, tables, observed, engine)
    if scale is None:
        scale = log_evidence
        impossible = tuple(np.flatnonzero(np.isneginf(scale)).tolist())
        if impossible:
            raise ImpossibleEvidence(
                f"row {impossible[0]} of the evidence has probability zero", impossible
            )
    gradients = {}
    for name, table in tables.items():
        log_sum, by_row, divisor = log_evidence, by_logits[name], table
        if not (table > 0).all():
            # a derivative by log probabilities says nothing about a zero: the same sums with ones
            divisor = np.full_like(table, 1.0 / table.shape[-1])
            log_sum, alone = _gradients(model, {name: divisor}, observed, engine)
            by_row = alone[name]
        ratio = np.exp(log_sum - scale).reshape(-1, *[1] * table.ndim)
        gradients[name] = _along_row(ratio * by_row / divisor, table)
    return log_evidence, gradients


def _gradients(
    model: NetworkModel,
    tables: Mapping[Hashable, Floats],
    observed: RowEvidence,
    engine: Engine | None,
) -> tuple[Floats, dict[Hashable, Floats]]:
    """Log evidence, and its derivatives by the logits of some tables; zeros in impossible rows."""
    pieces = dict(model.conditionals)
    leaves = []
    for name, table in tables.items():
        piece = Tabular(pieces[name].child, pieces[name].parents, table)
        leaves.append(piece.logits.requires_grad_())
        pieces[name] = piece
    with torch.enable_grad():
        changed: Any = model.with_conditionals(pieces)
        rows = changed.log_prob(observed, engine=engine or JunctionTree()).reshape(-1)
        gradients = [_gradient_of(row, leaves) for row in rows]
    by_table = {name: np.stack([row[k] for row in gradients]) for k, name in enumerate(tables)}
    return rows.detach().double().numpy(force=True), by_table


def _gradient_of(value: Tensor, leaves: Sequence[Tensor]) -> list[Floats]:
    if not value.requires_grad or not bool(value.isfinite()):
        return [np.zeros(tuple(x.shape)) for x in leaves]
    gradients = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
    return [
        np.zeros(tuple(x.shape)) if g is None else g.double().numpy(force=True)
        for x, g in zip(leaves, gradients, strict=True)
    ]


def _along_row(raw: Floats, table: Floats) -> Floats:
    r"""Turn derivatives by single entries, up to a constant for each row, into those along rows.

    .. math:: D_k - \sum_{l \ne k} \frac{\theta_l}{1 - \theta_k} D_l
    """
    total = (raw * table).sum(axis=-1, keepdims=True)
    rest = 1.0 - table
    certain = rest <= 1e-15
    states = table.shape[-1]
    equal = (raw.sum(axis=-1, keepdims=True) - raw) / max(states - 1, 1)
    others = (total - raw * table) / np.where(certain, 1.0, rest)
    return np.where(states > 1, raw - np.where(certain, equal, others), 0.0)
