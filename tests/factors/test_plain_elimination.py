"""Elimination by one matrix a variable against the batched one."""

import numpy as np
import torch

from pgnn.factors.gaussians.elimination import eliminate, elimination_order
from pgnn.factors.gaussians.least_squares import Block
from pgnn.factors.gaussians.plain_elimination import PlainElimination

SIZES = {0: 1, 1: 2, 2: 1, 3: 3}
SCOPES = [(0,), (1, 0), (2, 1), (3, 0, 2), (3,)]


def blocks(rows: int = 2, scale: float = 1.0) -> list[Block]:
    rng = np.random.default_rng(0)
    made = []
    for k, scope in enumerate(SCOPES):
        height = SIZES[scope[0]] + 1
        width = sum(SIZES[v] for v in scope)
        matrix = scale**k * rng.normal(size=(1, 1, height, width))
        target = rng.normal(size=(rows if k else 1, 1, height))
        made.append(Block(scope, torch.from_numpy(matrix), torch.from_numpy(target)))
    return made


def test_it_is_the_batched_elimination() -> None:
    for scale in (1.0, 30.0):
        own, order = blocks(scale=scale), elimination_order(SCOPES, SIZES)
        slow, fast = eliminate(own, SIZES, order), PlainElimination.of(own, SIZES, order)
        assert fast is not None
        torch.testing.assert_close(fast.log_integral, slow.log_integral, rtol=1e-9, atol=1e-9)
        expected, found = slow.moments(), fast.moments()
        for v in SIZES:
            for got, right in zip(found[v][1:], expected[v][1:], strict=True):
                torch.testing.assert_close(got, right.expand(got.shape), rtol=1e-8, atol=1e-8)


def test_matrices_that_differ_by_row_are_left_to_the_batched_one() -> None:
    own = blocks()
    own[1] = own[1]._replace(matrix=own[1].matrix.expand(2, 1, -1, -1))
    assert PlainElimination.of(own, SIZES, elimination_order(SCOPES, SIZES)) is None
