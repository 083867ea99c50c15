"""Arrays of chains as the compiled kernels take them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from pgnn.inference.chains.kernels.chain_numbers import ChainNumbers, ChainSums

Floats = NDArray[Any]

_LOCK = Lock()


@contextmanager
def own_pairs(sums: ChainSums) -> Iterator[ChainSums]:
    """Sums of a thread's own, which are added to the others' in the end."""
    if len(sums.pairs) != 1:
        yield sums
        return
    own = np.zeros_like(sums.pairs)
    yield sums._replace(pairs=own)
    with _LOCK:
        sums.pairs[...] += own


def padded(matrices: Floats) -> Floats:
    """Columns of ``-inf`` up to a multiple of four."""
    K = matrices.shape[3]
    found = np.full((*matrices.shape[:3], K + -K % 4), -np.inf, matrices.dtype)
    found[..., :K] = matrices
    return found


def array(tensor: Tensor) -> Floats:
    """A tensor as a contiguous array."""
    return np.ascontiguousarray(tensor.numpy())


def scaled(logs: Floats, axes: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Exponentials of tables, each divided by its largest entry, whose log is returned, too."""
    top = np.max(logs, axis=axes, initial=-np.inf, keepdims=True)
    top = np.where(np.isneginf(top), 0.0, top).astype(logs.dtype)
    scale = top.reshape(logs.shape[: logs.ndim - len(axes)]).astype(np.float64)
    return np.exp(logs - top), scale


def in_doubles(logs: ChainNumbers) -> ChainNumbers:
    """The same numbers in float64."""
    if logs.log_field.dtype == np.float64:
        return logs
    return logs._replace(
        initial=logs.initial.astype(np.float64),
        transition=logs.transition.astype(np.float64),
        turned=logs.turned.astype(np.float64),
        log_field=logs.log_field.astype(np.float64),
    )
