"""Derivatives of a chain's log Z: the first by the kernel, others by torch when asked for."""

import pytest
import torch

from pgnn.inference.chains import log_partition as chain_log_partition
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.torch_chain import TorchChain
from tests.inference.chains.chain_cases import ChainCase

KINDS = ["plain", "per row and step", "gaps", "zeros"]


def derivatives(case: ChainCase, compiled: bool, which: list[int]) -> list[torch.Tensor]:
    """The first three derivatives along directions, and the second by the rows' weights."""
    parts = [x.clone().requires_grad_(k in which) for k, x in enumerate(case.tensors)]
    made = torch.Generator().manual_seed(0)
    asked = [parts[k] for k in which]
    along = [torch.randn(x.shape, dtype=x.dtype, generator=made) for x in asked]
    along = [d.masked_fill(x.detach().isneginf(), 0.0) for d, x in zip(along, asked, strict=True)]
    weights = torch.randn(case.B, dtype=torch.float64, generator=made).requires_grad_()
    chain = Chain(*parts, case.extent, per_step=case.per_step)
    log_z = chain.log_partition() if compiled else TorchChain(chain.tensors).log_partition()
    total = log_z.masked_fill(log_z.isneginf(), 0.0) @ weights
    found = []
    for order in range(3):
        slopes = torch.autograd.grad(total, asked, create_graph=order < 2, retain_graph=True)
        found += slopes
        total = sum((s * d).sum() for s, d in zip(slopes, along, strict=True))
        if order == 0:
            found += torch.autograd.grad(total, weights, retain_graph=True)
    return [x.detach() for x in found]


@pytest.mark.parametrize("which", [[0, 1, 2], [0], [1], [2], [0, 2]])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_those_of_torch(kind, which):
    case = ChainCase(5, kind, 4, 3, 4)
    for ours, theirs in zip(
        derivatives(case, True, which), derivatives(case, False, which), strict=True
    ):
        assert not ours.isnan().any()
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_second_derivatives_are_made_only_when_asked_for(monkeypatch):
    """A gradient that may be differentiated costs the kernel's pass alone."""

    def never(*_):
        raise AssertionError

    case = ChainCase(1)
    parts = [x.requires_grad_() for x in case.tensors]
    log_z = Chain(*parts, case.extent).log_partition().sum()
    monkeypatch.setattr(chain_log_partition, "_through_torch", never)
    (slope,) = torch.autograd.grad(log_z, parts[2], create_graph=True)
    assert slope.requires_grad
    with pytest.raises(AssertionError):
        slope.square().sum().backward()
