"""Mutual information with a variable, and the value of information of an observation."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import torch

from pgnn.errors import EvidenceError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.variable import Variable
from pgnn.inference.engine import Engine
from pgnn.sensitivity.what_if import (
    Floats,
    check_hidden,
    discrete_variable,
    question_text,
    ranked,
    read_evidence,
    repeated,
    with_states,
)


def mutual_information(
    model: Any,
    target: Hashable,
    evidence: Any = None,
    *,
    candidates: Iterable[Hashable] | None = None,
    engine: Engine | None = None,
) -> Any:
    r"""Return the mutual information of each unobserved variable with a target.

    .. math:: I(T; X \mid e) = \sum_{t, x} p(t, x \mid e)
        \log \frac{p(t, x \mid e)}{p(t \mid e)\, p(x \mid e)}

    Args:
        model: A model with tables.
        target: Name of the variable :math:`T`.
        evidence: As in a query.
        candidates: Names of :math:`X`; all discrete variables that no row observes if not given.
        engine: As in a query.

    Returns:
        A data frame, the largest first: ``variable``, ``mutual_information`` in nats, and
        ``share`` of the entropy of the target. For rows of evidence one below the other.

    Raises:
        EvidenceError: If a name is unknown, or the target was observed.
        ImpossibleEvidence: If a row has probability zero.

    Cost:
        One query of ``B (K + 1)`` rows, for ``K`` states of the target.

    References:
        Cover and Thomas (2006), Elements of information theory, section 2.3.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[1.0, 0.0], [0.0, 1.0]]})
        >>> mutual_information(model, "a")["share"].tolist()
        [1.0]
    """
    observed, variable = _read(model, target, evidence)
    names = _candidates(model, observed, target, candidates)
    marginal, joints = _joints(model, observed, variable, names, engine)
    information = np.zeros((observed.num_rows, len(names)))
    for k, joint in enumerate(joints):
        product = marginal[:, :, None] * joint.sum(axis=1, keepdims=True)
        ratio = np.divide(joint, product, out=np.ones_like(joint), where=joint > 0)
        information[:, k] = np.maximum((joint * np.log(ratio)).sum(axis=(1, 2)), 0.0)
    logs = np.log(marginal, out=np.zeros_like(marginal), where=marginal > 0)
    entropy = -(marginal * logs).sum(axis=1, keepdims=True)
    share = np.divide(information, entropy, out=np.zeros_like(information), where=entropy > 0)
    figures = {"mutual_information": information, "share": np.minimum(share, 1.0)}
    question = question_text(model, target, observed)
    return ranked({"variable": names}, figures, observed, "mutual_information", question)


def value_of_information(
    model: Any,
    target: Hashable,
    evidence: Any = None,
    *,
    utility: Any = None,
    candidates: Iterable[Hashable] | None = None,
    engine: Engine | None = None,
) -> Any:
    r"""Return by how much the expected utility rises if a variable is observed before deciding.

    .. math:: \sum_x p(x \mid e) \max_d \sum_t p(t \mid x, e)\, u(d, t)
        - \max_d \sum_t p(t \mid e)\, u(d, t)

    Args:
        model: A model with tables.
        target: Name of the variable :math:`T` that the utility depends on.
        evidence: As in a query.
        utility: ``(D, K)`` utility of each decision in each state of the target, or a data frame
            with a column for each state; if not given, the decision is a guess of the state, worth
            one if it is right.
        candidates: Names of what might be observed; all that no row observes if not given.
        engine: As in a query.

    Returns:
        A data frame, the largest value first: ``variable``, ``value``. For rows of evidence one
        below the other.

    Raises:
        EvidenceError: If a name is unknown, the target was observed, or the utility has another
            shape or is not finite.
        ImpossibleEvidence: If a row has probability zero.

    References:
        Howard (1966), Information value theory; Koller and Friedman (2009), section 23.7.
    """
    observed, variable = _read(model, target, evidence)
    states = variable.num_states
    table = np.eye(states) if utility is None else _utilities(utility, variable)
    if table.ndim != 2 or table.shape[1] != states or not table.size:
        raise EvidenceError(
            f"the utility must have the shape (decisions, {states}), for the {states} states of "
            f"{target!r}, "
            f"got {table.shape}"
        )
    if not np.isfinite(table).all():
        raise EvidenceError("all utilities must be finite numbers")
    names = _candidates(model, observed, target, candidates)
    marginal, joints = _joints(model, observed, variable, names, engine)
    now = (marginal @ table.T).max(axis=1)
    gains = [np.einsum("dt,btx->bdx", table, j).max(axis=1).sum(axis=1) - now for j in joints]
    value = np.maximum(np.stack(gains, axis=1), 0.0) if gains else np.zeros((len(now), 0))
    question = question_text(model, target, observed)
    return ranked({"variable": names}, {"value": value}, observed, "value", question)


def _utilities(utility: Any, target: Variable) -> Floats:
    """The table of utilities, columns in the order of the states.

    Raises:
        EvidenceError: If it has columns of other names, or something is no number.
    """
    if hasattr(utility, "columns"):
        states = list(target.states or range(target.num_states))
        if set(utility.columns) != set(states) or len(utility.columns) != len(states):
            raise EvidenceError(
                f"the utility must have a column for each state of {target.name!r}, {states}, got "
                f"{list(utility.columns)}"
            )
        utility = utility[states]
    try:
        return np.asarray(utility, dtype=float)
    except (TypeError, ValueError):
        raise EvidenceError(f"utilities must be numbers, got {utility!r}") from None


def _read(model: Any, target: Hashable, evidence: Any) -> tuple[RowEvidence, Variable]:
    observed = read_evidence(model, evidence)
    variable = discrete_variable(model, target)
    check_hidden(model, observed, target)
    return observed, variable


def _candidates(
    model: Any, observed: RowEvidence, target: Hashable, names: Iterable[Hashable] | None
) -> list[Hashable]:
    if names is not None:
        return [discrete_variable(model, name).name for name in names]
    hidden = np.atleast_1d((observed.codes < 0).all(axis=0))
    return [
        v.name for k, v in enumerate(model.elements.variables) if hidden[k] and v.name != target
    ]


def _joints(
    model: Any,
    observed: RowEvidence,
    target: Variable,
    names: list[Hashable],
    engine: Engine | None,
) -> tuple[Floats, list[Floats]]:
    """``(B, K)`` marginal of the target, and its joint ``(B, K, K_x)`` with each variable.

    The joint is the marginal times the posterior given each state of the target.
    """
    rows, states = observed.num_rows, target.num_states
    with torch.no_grad():
        prior = model.query([target.name], observed, engine=engine)
        marginal = prior.probs(target.name).double().numpy(force=True).reshape(rows, states)
        if not names:
            return marginal, []
        codes = np.tile(np.arange(states), rows)
        split = with_states(model, repeated(observed, states), target.name, codes)
        # a state of probability zero has no posterior, and needs none
        answer = model.query(names, split, engine=engine, errors="nan")
    joints = []
    for name in names:
        given = np.nan_to_num(answer.probs(name).double().numpy(force=True))
        joints.append(marginal[:, :, None] * given.reshape(rows, states, -1))
    return marginal, joints
