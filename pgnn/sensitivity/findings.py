"""Which findings a posterior rests on, and by which ways they reach it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch

from pgnn.graphs.separation import active_trails
from pgnn.inference.engine import Engine
from pgnn.sensitivity.conflict import only
from pgnn.sensitivity.what_if import (
    Floats,
    check_hidden,
    check_network,
    question_text,
    ranked,
    read_evidence,
    read_target,
)

_MOST_TRAILS = 5_000
"""Maximum number of active trails from a finding."""


def influence(
    model: Any, target: Mapping[Hashable, Any], evidence: Any, *, engine: Engine | None = None
) -> Any:
    r"""Return how much a posterior probability rests on each finding.

    Args:
        model: A model with tables.
        target: A state of a variable that was not observed.
        evidence: As in a query.
        engine: As in a query.

    Returns:
        A data frame, the most influential finding first: ``variable``; ``without``, the posterior
        if this finding had not been made; ``alone``, if it were the only one; ``influence``, the
        difference :math:`p(t \mid e) - p(t \mid e \setminus e_i)`. For rows of evidence one below
        the other.

    Raises:
        EvidenceError: If the target is wrong or was observed.
        ImpossibleEvidence: If a row has probability zero.

    Cost:
        ``2 n + 1`` queries of ``B`` rows, for ``n`` variables with findings.

    References:
        Kjaerulff and Madsen (2013), Bayesian networks and influence diagrams, section 10.2.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.1, 0.9]]})
        >>> influence(model, {"a": 1}, {"b": 1}).round(3).to_dict("list")
        {'variable': ['b'], 'without': [0.5], 'alone': [0.9], 'influence': [0.4]}
    """
    observed = read_evidence(model, evidence)
    variable, code = read_target(model, target)
    check_hidden(model, observed, variable.name)

    def posterior(rows: Any) -> Floats:
        with torch.no_grad():
            answer = model.query([variable.name], rows, engine=engine).probs(variable.name)
        table: Floats = answer.double().numpy(force=True).reshape(-1, variable.num_states)
        return table[:, code]

    names = [n for n in observed.names if model.variables[n].is_discrete]
    numbers = [int(model.elements.numbers(n)) for n in names]
    whole = posterior(observed)
    shape = (observed.num_rows, len(names))
    without, alone = np.zeros(shape), np.zeros(shape)
    for k, number in enumerate(numbers):
        without[:, k] = posterior(only(model, observed, [n for n in numbers if n != number]))
        alone[:, k] = posterior(only(model, observed, [number]))
    figures = {"without": without, "alone": alone, "influence": whole[:, None] - without}
    question = question_text(model, target, observed)
    return ranked({"variable": names}, figures, observed, "influence", question)


def trails(model: Any, target: Hashable, evidence: Any, *, engine: Engine | None = None) -> Any:
    """Return the ways by which findings reach a variable: active trails, the strongest first.

    The strength of a trail is the least change, in total variation from without evidence to with
    it, among the variables on it that were not observed: what did not change passes nothing on.

    Args:
        model: A Bayesian network.
        target: Name of a variable that was not observed.
        evidence: One row of evidence.
        engine: As in a query.

    Returns:
        A data frame: ``finding``, ``trail`` (a tuple of names, from the finding to the target) and
        ``strength``.

    Raises:
        EvidenceError: If a name is unknown, or the target was observed.

    Cost:
        Two queries; and at most 5,000 trails from each finding, of which there may be exponentially
        many.

    References:
        Suermondt (1992), Explanation in Bayesian belief networks; Pearl (1988), section 3.3.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.1, 0.9]]})
        >>> trails(model, "a", {"b": 1}).loc[0, "trail"]
        ('b', 'a')
    """
    network: Any = check_network(model)
    observed = read_evidence(network, evidence).take(np.array([0]))
    check_hidden(network, observed, network.variable(target).name)
    names = [n for n in observed.names if network.variables[n].is_discrete]
    changes = _changes(network, observed, engine)
    lines: list[tuple[Hashable, tuple[Hashable, ...], float]] = []
    for name in names:
        others = [n for n in names if n != name]
        for trail in islice(active_trails(network.graph, name, target, others), _MOST_TRAILS):
            strength = min(changes.get(n, 1.0) for n in trail if n not in names)
            lines.append((name, tuple(trail), strength))
    columns: dict[str, list[Any]] = {
        "finding": [line[0] for line in lines],
        "trail": [line[1] for line in lines],
    }
    figures = {"strength": np.array([[line[2] for line in lines]])}
    frame = ranked(columns, figures, observed, "strength")
    return frame.droplevel(0)


def _changes(model: Any, observed: Any, engine: Engine | None) -> dict[Hashable, float]:
    """Total variation from the prior to the posterior of each discrete variable."""
    names = [v.name for v in model.elements.variables]
    with torch.no_grad():
        before = model.query(names, engine=engine)
        after = model.query(names, observed, engine=engine)
    return {
        n: 0.5 * float((after.probs(n).reshape(-1) - before.probs(n).reshape(-1)).abs().sum())
        for n in names
    }
