"""Batched GMRES against dense solutions."""

import numpy as np
import torch

from pgnn.inference.propagation.krylov import solve


def test_equals_dense_solutions():
    rng = np.random.default_rng(0)
    matrices = torch.from_numpy(np.eye(40) + 0.5 * rng.normal(size=(5, 40, 40)) / np.sqrt(40))
    right = torch.from_numpy(rng.normal(size=(5, 40)))
    right[3] = 0.0
    found, left = solve(lambda v: (matrices @ v[..., None])[..., 0], right, 1e-12, 2000)
    want = torch.linalg.solve(matrices, right)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-9)
    assert float(left.max()) <= 1e-12
    assert bool((found[3] == 0).all())


def test_nilpotent_systems_take_as_many_products_as_their_index():
    # identity minus a shift: what a chain's messages make of it
    calls = []

    def matrix(v: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return v - torch.cat([torch.zeros(1, 1).to(v), v[:, :-1]], dim=1)

    right = torch.zeros(1, 8, dtype=torch.float64)
    right[0, 0] = 1.0
    found, _ = solve(matrix, right, 1e-12, 100)
    torch.testing.assert_close(found, torch.ones(1, 8, dtype=torch.float64))
    assert len(calls) <= 9


def test_what_is_not_solved_is_told():
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(60, 60)))
    matrix = torch.from_numpy(rotation)
    right = torch.from_numpy(rng.normal(size=(1, 60)))
    found, left = solve(lambda v: v @ matrix.T, right, 1e-12, 26)
    rest = right - found @ matrix.T
    assert float(left[0]) > 1e-3
    assert float(left[0]) == float(rest.norm() / right.norm())


def test_empty():
    for shape in [(0, 4), (3, 0)]:
        found, left = solve(lambda v: v, torch.zeros(shape), 1e-6, 10)
        assert found.shape == shape
        assert left.shape == shape[:1]
