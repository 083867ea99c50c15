"""Answers as printed text: probabilities, states, diagnostics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.factors.variable import Variable

WIDTH = 88
CELLS = 16  # larger arrays are summarised
_SURE = 0.95
_LAST_BITS = 1e-14
_STATES_NAMED = 6


class _Line(NamedTuple):
    """Probabilities under one name, which summarise ``num_variables`` variables."""

    name: str
    states: Sequence[str]
    probs: list[float]
    before: str = ""
    after: tuple[str, ...] = ()


def probability_table(
    variables: Sequence[Variable],
    probs: NDArray[Any],
    max_lines: int | None = None,
    max_cells: int | None = None,
) -> str:
    """Return probabilities as text, a line or more for each variable.

    Args:
        variables: Discrete variables.
        probs: ``(S,)`` probabilities, all states concatenated.
        max_lines: Approximate largest number of lines; ``None`` for all.
        max_cells: Larger arrays are summarised; ``None`` writes all of their elements.
    """
    entries = []
    for line in _lines(variables, probs, max_cells):
        entries.append(line)
        if max_lines is not None and len(entries) > max_lines:
            break
    width = max([len("variable"), *(len(line.name) for line in entries)])
    longest = max([1, *(len(state) for line in entries for state in line.states)])
    per_line = max(1, (WIDTH - width + 1) // (longest + 10))
    pads = [
        max([0, *(len(state) for line in entries for state in line.states[k::per_line])])
        for k in range(per_line)
    ]
    text = [f"{'variable':<{width}}  posterior probability of each state"]
    for done, line in enumerate(entries):
        if max_lines is not None and len(text) > max_lines:
            remaining = _count(variables, max_cells) - done
            text.append(f"... and {remaining:,} more variables: see .frame() or .table()")
            break
        cells = [
            f"{state:<{pads[k % per_line]}} {_number(p):>6}"
            for k, (state, p) in enumerate(zip(line.states, line.probs, strict=True))
        ]
        rows = ["   ".join(cells[k : k + per_line]) for k in range(0, len(cells), per_line)]
        rows = [*filter(None, [line.before]), *rows, *line.after]
        names = [line.name, *[""] * (len(rows) - 1)]
        text += [f"{name:<{width}}  {row}" for name, row in zip(names, rows, strict=False)]
    return "\n".join(text)


def state_table(variables: Sequence[Variable], codes: NDArray[Any]) -> str:
    """Return states as text, a line for each variable; large arrays are summarised.

    Args:
        variables: Discrete variables.
        codes: ``(E,)`` state indices of their elements, -1 where there is no answer.
    """
    entries: list[tuple[str, str]] = []
    first = 0
    for v in variables:
        size = v.num_elements
        states = codes[first : first + size].reshape(v.shape)
        first += size
        if not v.shape:
            entries.append((str(v.name), str(v.decode([states])[0])))
        elif 0 < size <= CELLS:
            entries += _array_lines(v, states)
        elif len(v.shape) == 1:
            entries += [(str(v.name), _beginning(v, states)), ("", _counts(v, states))]
        else:
            entries.append((str(v.name), _counts(v, states)))
    width = max([len("variable"), *(len(name) for name, _ in entries)])
    lines = [f"{'variable':<{width}}  most probable state"]
    return "\n".join([*lines, *(f"{name:<{width}}  {text}" for name, text in entries)])


def diagnostics_text(diagnostics: Mapping[str, Any], row: int = 0) -> str:
    """Return the diagnostics of one row as a line of text; empty if there are none.

    Scalars are shown for all rows and for this one; of ``r_hat`` and ``effective_sample_size`` the
    worst value; booleans by their name; a ``reason`` on a separate line. Other values, such as a
    history, are omitted.

    Example:
        >>> diagnostics_text({"converged": np.array([True, False]), "iterations": 12}, row=1)
        'not converged, iterations 12'
    """
    phrases = []
    for name, value in diagnostics.items():
        number = _number_of(name, value, row)
        words = name.replace("_", " ")
        if name == "impossible" and not number:
            continue
        if isinstance(number, bool):
            phrases.append(words if number else f"not {words}")
        elif number is not None:
            phrases.append(f"{_WORDS.get(name, words)} {number:.6g}")
    reason = f"reason: {diagnostics['reason']}" if diagnostics.get("reason") else ""
    return "\n".join(filter(None, [", ".join(phrases), reason]))


_WORST = {"r_hat": np.max, "effective_sample_size": np.min}
_STEPWISE = ("log_increments",)  # one number for each step, not for each row
_WORDS = {
    "r_hat": "largest R-hat",
    "effective_sample_size": "smallest effective sample size",
    "lower": "log evidence at least",
    "upper": "log evidence at most",
}


def _number_of(name: str, value: Any, row: int) -> bool | float | None:
    """Return the number of a diagnostic that is shown, if there is one."""
    if isinstance(value, str | list | tuple | dict | None) or name in _STEPWISE:
        return None
    value = value.detach().cpu() if hasattr(value, "detach") else value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    if array.dtype.kind not in "biuf":
        return None
    if array.ndim:
        if not row < len(array):
            return None
        array = array[row]
    if name in _WORST and array.size:
        array = np.asarray(_WORST[name](array))
    if array.ndim:
        return None
    return bool(array) if array.dtype.kind == "b" else float(array)


def _lines(
    variables: Sequence[Variable], probs: NDArray[Any], max_cells: int | None
) -> Iterator[_Line]:
    first = 0
    for v in variables:
        K, states = v.num_states, [str(state) for state in v.states or ()]
        size = v.num_elements
        table = probs[first : first + size * K].reshape(size, K)
        first += size * K
        if v.shape and (not size or (max_cells is not None and size > max_cells)):
            yield _summed_up(v, states, table)
            continue
        for single, row in zip(v.elements(), table.tolist(), strict=True):
            yield _Line(str(single.name), states, row)


def _summed_up(v: Variable, states: Sequence[str], table: NDArray[Any]) -> _Line:
    known = table[~np.isnan(table).any(axis=1)]  # a sequence shorter than the longest ends before
    cells = _shape(v) if len(known) == len(table) else f"{len(known):,} of {_shape(v)}"
    if not len(known):
        return _Line(str(v.name), [], [], cells)
    table, best = known, known.argmax(axis=1)
    sure = int((table.max(axis=1) >= _SURE).sum())
    after = (f"most probable: {_counted(v, best)}", f"at least {_SURE} sure in {sure:,}")
    return _Line(str(v.name), states, table.mean(axis=0).tolist(), f"{cells}, mean:", after)


def _count(variables: Sequence[Variable], max_cells: int | None) -> int:
    """Number of lines of probabilities, without wrapping."""
    sizes = [v.num_elements for v in variables]
    return sum(1 if max_cells is not None and n > max_cells else n for n in sizes)


def _array_lines(v: Variable, codes: NDArray[Any]) -> Iterator[tuple[str, str]]:
    """Yield the states of a small array, a line for each index along all axes but the last."""
    labels = [str(state) for state in v.states or ()]
    pad = max(len(label) for label in labels)
    for index in np.ndindex(codes.shape[:-1]):
        at = str(list(index)) if index else ""
        row = (labels[k] if k >= 0 else "None" for k in codes[index].tolist())
        yield f"{v.name}{at}", " ".join(f"{label:<{pad}}" for label in row).rstrip()


def _beginning(v: Variable, codes: NDArray[Any]) -> str:
    """Return the first states of a sequence, as many as fit a line."""
    known = codes[: int(np.flatnonzero(codes >= 0).max(initial=-1)) + 1]
    names = [str(x) for x in v.decode(known[: WIDTH // 2])]
    ends = np.cumsum([1 + len(name) for name in names])
    fit = max(1, int((ends <= WIDTH - len(str(v.name)) - len(" ...")).sum()))
    return " ".join(names[:fit]) + " ..." * (fit < len(known))


def _counts(v: Variable, codes: NDArray[Any]) -> str:
    return f"{_shape(v)}: {_counted(v, codes)}"


def _shape(v: Variable) -> str:
    return f"{' x '.join(map(str, v.shape))} cells"


def _counted(v: Variable, codes: NDArray[Any]) -> str:
    """Number of cells in each state, the most frequent first."""
    counts = np.bincount(codes.ravel() + 1, minlength=v.num_states + 1)
    order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    names = ["None", *map(str, v.states or ())]
    phrases = [f"{names[k]} in {counts[k]:,}" for k in order[:_STATES_NAMED]]
    num_omitted = len(order) - len(phrases)
    return ", ".join([*phrases, *([f"{num_omitted} more states"] if num_omitted else [])])


def is_one(p: float) -> bool:
    """Return whether a probability is one, up to rounding of the last bits."""
    return abs(p - 1.0) < _LAST_BITS


def _number(p: float) -> str:
    """Format a number with four decimals; exact zeros and ones are distinguished."""
    if p == 0.0 or is_one(p):
        return f"{p:.0f}"
    return f"{p:.0e}" if 0.0 < p < 5e-5 else f"{p:.4f}"
