"""A query whose sensitivity to parameters and evidence is analysed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.abilities import FactorModel, NetworkModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.variable import Variable
from pgnn.inference.answer_frames import plain_index, row_index
from pgnn.inference.findings import Findings
from pgnn.inference.model_reader import reader_of

Floats = NDArray[np.float64]
_FINDINGS = 5
"""Largest number of findings that a title names."""


def read_evidence(model: Any, evidence: Any) -> RowEvidence:
    """Read evidence of a model without arrays.

    Raises:
        Unsupported: If the model has no tables, or has arrays of variables.
        EvidenceError: If evidence is wrong.
    """
    if not isinstance(model, FactorModel) or any(
        v.is_discrete and v.shape for v in model.variables.values()
    ):
        raise Unsupported(
            f"what-if questions are about models of single variables, got {type(model).__name__}",
            "of a model over time ask model.unroll(steps)",
        )
    return reader_of(model).read(evidence)


def check_network(model: Any) -> NetworkModel:
    """Return the model, which must be a directed one with tables.

    Raises:
        Unsupported: If it is not.
    """
    if not isinstance(model, NetworkModel):
        raise Unsupported(
            f"a {type(model).__name__} has no conditional tables", "a BayesianNetwork has"
        )
    return model


def read_target(model: FactorModel, target: Mapping[Hashable, Any]) -> tuple[Variable, int]:
    """Return the variable and the index of the state that a mapping such as ``{"x": 1}`` names.

    Raises:
        EvidenceError: If it does not name one state of one discrete variable.
    """
    if not isinstance(target, Mapping) or len(target) != 1:
        raise EvidenceError(
            "the target must be one state of one variable, such as {'rain': 'yes'}, got "
            f"{target!r}"
        )
    name, state = next(iter(target.items()))
    variable = discrete_variable(model, name)
    return variable, state_index(variable, state, "the target")


def state_index(variable: Variable, state: object, what: str) -> int:
    """Return the index of a state.

    Args:
        variable: A discrete variable.
        state: One of its states.
        what: What names the state, in messages.

    Raises:
        EvidenceError: If it is none.
    """
    code = variable.index(state)
    if code < 0:
        raise EvidenceError(f"{what} names no state of {variable.name!r}, got {state!r}")
    return code


def discrete_variable(model: FactorModel, name: Hashable) -> Variable:
    """Return a discrete variable.

    Raises:
        EvidenceError: If there is none of that name.
    """
    variable = model.variable(name)
    if not variable.is_discrete:
        raise EvidenceError(f"{name!r} is real; what-if questions are about discrete variables")
    return variable


def check_hidden(model: FactorModel, observed: RowEvidence, name: Hashable) -> None:
    """Raise if a variable was observed in some row.

    Raises:
        EvidenceError: If it was.
    """
    if (observed.codes[:, int(model.elements.numbers(name))] >= 0).any():
        raise EvidenceError(f"{name!r} is the target, so it cannot be observed")


def with_states(
    model: FactorModel, observed: RowEvidence, name: Hashable, codes: NDArray[Any]
) -> RowEvidence:
    """Return evidence in which a variable was observed in some states, row by row.

    Args:
        model: The model.
        observed: ``B`` rows.
        name: Of the variable.
        codes: ``(B,)`` indices of its states; -1 where it is not observed.
    """
    changed = observed.codes.copy()
    changed[:, int(model.elements.numbers(name))] = codes
    names = dict.fromkeys([*observed.names, name])
    order = [n for n in model.variables if n in names]
    return replace(observed, codes=changed, names=tuple(order))


def repeated(observed: RowEvidence, times: int) -> RowEvidence:
    """Return each row so many times, next to each other."""
    return observed.take(np.repeat(np.arange(observed.num_rows), times))


def question_text(model: FactorModel, target: Any, observed: RowEvidence) -> str:
    """Return what is asked, for titles of pictures.

    Args:
        model: The model.
        target: Name of a variable, or a mapping of it to a state.
        observed: The evidence.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> question_text(model, {"a": 1}, read_evidence(model, {"b": 0}))
        'P(a=1 | b=0)'
    """
    asked = ", ".join(f"{n}={s}" for n, s in target.items()) if isinstance(target, Mapping) else ""
    if observed.batched:
        given = ["evidence of each row"]
    else:
        found = Findings(observed, model.elements).of_row(0)
        given = [f"{n}={s}" if s is not None else f"likelihood of {n}" for n, s in found.items()]
    if len(given) > _FINDINGS:
        given[_FINDINGS:] = [f"{len(given) - _FINDINGS} more"]
    return f"P({asked or target}{' | ' if given else ''}{', '.join(given)})"


def ranked(
    columns: Mapping[str, list[Any]],
    figures: Mapping[str, Floats],
    observed: RowEvidence,
    by: str,
    question: str = "",
) -> Any:
    """Return a sorted data frame; of a batch, one below the other with an index ``row``.

    Args:
        columns: What the lines are about.
        figures: ``(B, n)`` numbers of each line.
        observed: The rows of evidence.
        by: Figure whose absolute value the lines are sorted by, largest first.
        question: What the figures are of, kept as ``frame.attrs["question"]``.
    """
    import pandas as pd

    frames = []
    for b in range(observed.num_rows):
        # rounded, so that entries that are the same but for rounding keep their order
        order = np.argsort(-np.abs(figures[by][b]).round(12), kind="stable")
        parts: dict[str, Any] = {
            name: plain_index([values[k] for k in order]) for name, values in columns.items()
        }
        parts |= {name: values[b][order] for name, values in figures.items()}
        frames.append(pd.DataFrame(parts))
        frames[-1].attrs["question"] = question
    if not observed.batched:
        return frames[0]
    labels = row_index(observed.index, observed.num_rows)
    return pd.concat(frames, keys=[*labels], names=["row", None])
