"""Sparse rows, as tensors in compressed row storage."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.limits import check_size


def is_sparse(x: Tensor) -> bool:
    """Whether a tensor is in compressed row storage, which holds the non-zero entries alone."""
    return x.layout == torch.sparse_csr


def is_scipy_sparse(value: Any) -> bool:
    """Whether a value is a sparse matrix or array of SciPy; does not import SciPy."""
    module = sys.modules.get("scipy.sparse")
    return module is not None and bool(module.issparse(value))


def compressed(matrix: Any) -> Tensor:
    """Return a SciPy sparse matrix or array ``(N, D)`` as a float tensor of compressed rows.

    Example:
        >>> from scipy.sparse import csr_array
        >>> compressed(csr_array([[0, 2], [0, 0]])).values()
        tensor([2.], dtype=torch.float64)
    """
    rows = matrix.tocsr()
    if rows is matrix and not matrix.has_canonical_format:
        rows = matrix.copy()
    rows.sum_duplicates()
    kind = np.float32 if rows.dtype == np.float32 else np.float64
    numbers = torch.from_numpy(rows.data.astype(kind, copy=False))
    starts, columns = torch.from_numpy(rows.indptr), torch.from_numpy(rows.indices)
    return of_parts(starts, columns, numbers, tuple(rows.shape))


def of_parts(starts: Tensor, columns: Tensor, numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of compressed rows.

    Args:
        starts: ``(N + 1,)`` offset of the first entry of each row.
        columns: ``(M,)`` columns of the entries.
        numbers: ``(M,)`` entries.
        shape: ``(N, D)``.
    """
    import warnings

    with warnings.catch_warnings():  # torch says that its support may change
        warnings.filterwarnings("ignore", message=".*[Ss]parse.*")
        return torch.sparse_csr_tensor(starts, columns, numbers, size=shape)


def written_out(name: Hashable, x: Tensor) -> Tensor:
    """Return dense rows.

    Raises:
        Intractable: If they need too much memory.
    """
    if not is_sparse(x):
        return x
    advice = "Give it a conditional that takes sparse rows, such as Multinomial"
    check_size(f"rows of {name!r} with all zeros", x.numel() * x.element_size(), advice=advice)
    return x.to_dense()


def stored(x: Tensor) -> Tensor:
    """Return the stored entries: all of them, unless rows are compressed."""
    return x.values() if is_sparse(x) else x


def mapped(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply an elementwise function, which must be zero at zero for compressed rows."""
    if not is_sparse(x):
        return function(x)
    return of_parts(x.crow_indices(), x.col_indices(), function(x.values()), tuple(x.shape))


def row_sums(x: Tensor) -> Tensor:
    """Return ``(N,)`` sums of rows ``(N, D)``."""
    if not is_sparse(x):
        return x.sum(dim=1)
    return x @ x.values().new_ones(x.shape[1])


def taken(x: Tensor, rows: Tensor) -> Tensor:
    """Return some of the rows, by their indices."""
    if not is_sparse(x):
        return x.index_select(0, rows.to(x.device))
    starts, columns, numbers = x.crow_indices(), x.col_indices(), x.values()
    sizes = (starts[1:] - starts[:-1])[rows]
    ends = sizes.cumsum(0)
    first = starts[:-1][rows] - (ends - sizes)
    place = torch.arange(len(sizes) and int(ends[-1])) + first.repeat_interleave(sizes)
    begin = torch.cat([ends.new_zeros(1), ends])
    return of_parts(begin, columns[place], numbers[place], (len(rows), x.shape[1]))


def weighted_totals(x: Tensor, weights: Tensor) -> Tensor:
    """Return ``(K, D)`` sums of rows ``(N, D)``, with weights ``(N, K)``."""
    if not is_sparse(x):
        return weights.t() @ x
    numbers, columns, starts = (
        p.numpy(force=True) for p in (x.values(), x.col_indices(), x.crow_indices())
    )
    dense_weights = weights.numpy(force=True)
    used = dense_weights != 0
    if used.sum() <= len(dense_weights) and (used.sum(axis=1) <= 1).all():  # known classes
        label = used.argmax(axis=1)
        size = np.diff(starts)
        place = np.repeat(label * x.shape[1], size) + columns
        each = numbers * np.repeat(dense_weights[np.arange(len(dense_weights)), label], size)
        sums = np.bincount(place, each, minlength=dense_weights.shape[1] * x.shape[1])
        return torch.from_numpy(sums).to(weights).reshape(dense_weights.shape[1], x.shape[1])
    from scipy.sparse import csr_array

    rows = csr_array((numbers, columns, starts), shape=tuple(x.shape))
    return torch.from_numpy(np.ascontiguousarray((rows.T @ dense_weights).T)).to(weights)
