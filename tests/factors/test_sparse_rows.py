"""Compressed rows: the same numbers as those written out."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import pgnn
from pgnn.errors import EvidenceError, Intractable
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.factors.sparse_rows import (
    compressed,
    mapped,
    row_sums,
    taken,
    weighted_totals,
    written_out,
)

DENSE = np.random.default_rng(0).poisson(0.4, (9, 5)).astype(float)
X = compressed(sp.coo_array(DENSE))


def test_operations_equal_those_on_dense_rows() -> None:
    dense = torch.from_numpy(DENSE)
    torch.testing.assert_close(X.to_dense(), dense)
    torch.testing.assert_close(mapped(X, torch.sqrt).to_dense(), dense.sqrt())
    torch.testing.assert_close(row_sums(X), dense.sum(1))
    rows = torch.tensor([3, 3, 0, 8])
    torch.testing.assert_close(taken(X, rows).to_dense(), dense[rows])
    assert taken(X, rows[:0]).shape == (0, 5)
    for weights in (torch.rand(9, 3).double(), torch.eye(3).double().repeat(3, 1)):
        torch.testing.assert_close(weighted_totals(X, weights), weights.t() @ dense)


def test_duplicates_are_added_and_the_callers_matrix_stays() -> None:
    twice = sp.csr_array((np.ones(3), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    assert compressed(twice).to_dense().tolist() == [[0.0, 2.0], [1.0, 0.0]]
    assert twice.nnz == 3


def test_a_sparse_matrix_is_read() -> None:
    reader = EvidenceReader([pgnn.Variable("x", shape=(5,))])
    observed = reader.read({"x": sp.csr_matrix(DENSE)})
    torch.testing.assert_close(
        observed.take(np.array([2, 1])).reals["x"].to_dense()[0], X.to_dense()[2]
    )
    with pytest.raises(EvidenceError, match="must have shape"):
        reader.read({"x": sp.csr_matrix(DENSE[:, :4])})
    with pytest.raises(EvidenceError, match="cannot have missing elements"):
        reader.read({"x": sp.csr_matrix(np.full((1, 5), np.nan))})


def test_too_many_zeros_are_not_written_out() -> None:
    wide = compressed(sp.csr_array((10**6, 10**6)))
    with pytest.raises(Intractable, match="with all zeros"):
        written_out("x", wide)
