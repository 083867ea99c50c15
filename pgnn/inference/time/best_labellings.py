"""The most probable label sequence of a path of symbols: a search through prefixes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.limits import check_size

Floats = NDArray[np.float64]
Labels = tuple[int, ...]


class Labellings(NamedTuple):
    """The result of a search.

    Attributes:
        best: Labellings, best first, with their log probabilities.
        bound: Upper bound on the log probability of all other labellings.
    """

    best: list[tuple[Labels, float]]
    bound: float


class _Beginnings(NamedTuple):
    """Prefixes of labellings, and ``(M, T)`` log probabilities of having emitted them by a step.

    Attributes:
        labels: Of each.
        blank: Logs of paths that end in a blank.
        label: Logs of paths that end in the last label.
    """

    labels: list[Labels]
    blank: Floats
    label: Floats


def best_labellings(
    log_probs: Floats, width: int, k: int, start: dict[Labels, float]
) -> Labellings:
    r"""Search level by level, since no labelling is more probable than any of its prefixes.

    A prefix is dropped without loss if it is not more probable than the ``k``-th best known
    labelling. It is also dropped if ``width`` others of its length are more probable; the best of
    these dropped prefixes bounds the loss.

    Args:
        log_probs: ``(T, K + 1)`` of symbols, the blank first.
        width: Largest number of prefixes of one length.
        k: Number of labellings.
        start: Known labellings with their log probabilities.

    References:
        Graves, Fernandez, Gomez and Schmidhuber (2006), section 3.2, prefix search decoding.

    Example:
        >>> logs = np.log([[0.6, 0.4], [0.6, 0.4]])
        >>> labels, _ = best_labellings(logs, 8, 1, {}).best[0]
        >>> labels, round(best_labellings(logs, 0, 1, {(): -9.0})[1], 4)
        ((0,), -0.4463)
    """
    steps, symbols = log_probs.shape
    blank = log_probs[:, 0].cumsum()[None]
    front = _Beginnings([()], blank, np.full((1, steps), -np.inf))
    result = {**start, (): float(blank[0, -1]) if steps else 0.0}
    lost = -np.inf
    while front.labels and steps and symbols > 1:
        check_size(f"{len(front.labels):,} beginnings", len(front.labels) * log_probs.size,
                   advice="Give a smaller width")  # fmt: skip
        reach = _reach(front, log_probs)
        ranked = np.sort(np.fromiter(result.values(), float))[::-1]
        least = ranked[k - 1] if len(ranked) >= k else -np.inf
        parents, children = np.nonzero(reach > least)
        order = np.argsort(-reach[parents, children], kind="stable")
        if len(order) > width:
            first = order[width]
            lost = max(lost, float(reach[parents[first], children[first]]))
        kept = order[:width]
        front = _extended(front, log_probs, parents[kept], children[kept])
        ends = np.logaddexp(front.blank[:, -1], front.label[:, -1])
        result.update(zip(front.labels, ends.tolist(), strict=True))
    best = sorted(result.items(), key=lambda pair: -pair[1])[:k]
    return Labellings(best, max(lost, best[0][1]))


def _ahead(front: _Beginnings) -> tuple[Floats, Floats]:
    """``(M, T)`` log probabilities of a prefix before a step, and of it followed by a blank."""
    either, blank = np.logaddexp(front.blank, front.label), front.blank
    first = np.array([[0.0] if not labels else [-np.inf] for labels in front.labels])
    return np.hstack([first, either[:, :-1]]), np.hstack([first, blank[:, :-1]])


def _reach(front: _Beginnings, log_probs: Floats) -> Floats:
    """``(M, K)`` log probabilities of beginnings with one label more."""
    either, blank = _ahead(front)
    reach: Floats = _log_sum(either[:, None] + log_probs.T[None, 1:])
    for m, labels in enumerate(front.labels):
        if labels:
            reach[m, labels[-1]] = _log_sum(blank[m] + log_probs[:, 1 + labels[-1]])
    return reach


def _extended(front: _Beginnings, log_probs: Floats, parents: Any, children: Any) -> _Beginnings:
    """Return prefixes with one more label."""
    either, blank = _ahead(front)
    labels = [(*front.labels[m], int(c)) for m, c in zip(parents, children, strict=True)]
    same = np.array([front.labels[m][-1:] == (c,) for m, c in zip(parents, children, strict=True)])
    begun = np.where(same.reshape(-1, 1), blank[parents], either[parents])
    scores = log_probs.T[1 + children]
    begun = begun + scores
    ends, rests = np.full((2, *begun.shape), -np.inf)
    for t in range(begun.shape[1]):
        ends[:, t] = begun[:, t]
        if t > 0:
            ends[:, t] = np.logaddexp(ends[:, t], ends[:, t - 1] + scores[:, t])
            rests[:, t] = np.logaddexp(rests[:, t - 1], ends[:, t - 1]) + log_probs[t, 0]
    return _Beginnings(labels, rests, ends)


def _log_sum(logs: Floats) -> Any:
    """Return the log of the sum over the last axis."""
    return np.logaddexp.reduce(logs, axis=-1)
