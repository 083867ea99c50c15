"""Segment chains: each state lasts for a number of steps that has a distribution of its own."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.chains.cpu_segment_chain import CpuSegmentChain
from pgnn.inference.chains.torch_segment_chain import TorchSegmentChain
from pgnn.inference.numba_support import has_numba
from pgnn.inference.semiring import MAX, SUM, Draw, Reduction


class SegmentExpectations(NamedTuple):
    """What Baum-Welch needs of a batch of rows of segments."""

    log_partition: Tensor
    """``(B,)``."""
    marginals: Tensor
    """``(B, T, K)`` p(z_t | x), zero beyond the end, NaN in impossible rows."""
    initial: Tensor
    """``(K,)`` expected numbers of rows that begin in a state."""
    transitions: Tensor
    """``(K, K)`` expected numbers of transitions between segments."""
    durations: Tensor
    """``(K, D)`` expected numbers of segments by state and duration."""


class SegmentChain:
    r"""Rows of segments: a state, a duration, the next state (hidden semi-Markov model).

    A row of ``n`` steps is cut into segments :math:`s = 1, \ldots, S` of states :math:`z_s` and
    durations :math:`d_s` with :math:`\sum_s d_s = n`:

    .. math:: \tilde p(z, d) = e^{\pi(z_1)} \prod_{s=2}^S e^{A(z_{s-1}, z_s)}
        \prod_{s=1}^S e^{g(z_s, d_s)} \prod_{t=1}^n e^{f_t(z(t))}

    A segment may be followed by one of the same state unless the diagonal of :math:`A` is
    ``-inf``. With ``censored`` the last segment may outlast the row: it counts with
    :math:`\sum_{d' \ge d} e^{g(z_S, d')}`. Results in impossible and empty rows are as of
    :class:`~pgnn.inference.chains.chain.Chain`.

    Args:
        log_initial: ``(K,)`` logs :math:`\pi`.
        log_transition: ``(K, K)`` logs :math:`A`, from row to column.
        log_duration: ``(K, D)`` logs :math:`g`; column ``d`` is a duration of ``d + 1`` steps.
        log_field: ``(B, T, K)`` logs :math:`f`.
        lengths: ``(B,)`` lengths of the rows, or a ``(B, T)`` mask, see ``Chain``.
        censored: Whether the last segment may outlast its row.

    Raises:
        ModelError: If shapes disagree, or an entry is NaN or ``+inf``.

    Cost: :math:`O(B T K (K + D))` time; :math:`O(T K D)` memory a row.

    References:
        Yu (2010), Hidden semi-Markov models, section 3; the residual-time form.

    Example:
        >>> two = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).double().log()  # each lasts two steps
        >>> seen = torch.tensor([[[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.5, 0.5]]]).double().log()
        >>> swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double().log()
        >>> chain = SegmentChain(torch.zeros(2).double(), swap, two, seen)
        >>> chain.best()[0]
        tensor([[0, 0, 1, 1]])
    """

    def __init__(
        self,
        log_initial: Tensor,
        log_transition: Tensor,
        log_duration: Tensor,
        log_field: Tensor,
        lengths: Tensor | None = None,
        *,
        censored: bool = False,
    ) -> None:
        self.tensors = ChainTensors.read(log_initial, log_transition, log_field, lengths, False)
        if len(self.tensors.initial) > 1 or len(self.tensors.transition) > 1:
            raise ModelError("rows of a segment chain share log_initial and log_transition")
        K = self.tensors.num_states
        if log_duration.dim() != 2 or log_duration.shape[0] != K or not log_duration.shape[1]:
            raise ModelError(
                f"log_duration must be ({K}, D) with D > 0, got {tuple(log_duration.shape)}"
            )
        if not bool((log_duration < math.inf).all()):
            raise ModelError("log_duration must be below +inf and not NaN")
        self.log_duration = log_duration.to(self.tensors.field)
        self.censored = censored

    def log_partition(self) -> Tensor:
        """Return ``(B,)`` log Z, differentiable any number of times (by torch)."""
        if self._by_torch:
            return self._torch(SUM).log_partition()
        return self._tensor(self._cpu.expectations(None, False).log_z)

    def marginals(self) -> Tensor:
        """Return ``(B, T, K)`` p(z_t | x): zero beyond the end, NaN in impossible rows."""
        return self.expectations().marginals

    def smoothed(self) -> tuple[Tensor, Tensor]:
        """Return :meth:`marginals` and :meth:`log_partition`."""
        found = self.expectations()
        return found.marginals, found.log_partition

    def filtered(self) -> tuple[Tensor, Tensor]:
        """Refused: a step does not know how long its segment will last.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            "segments are not filtered; name an engine for the unrolled network, such as "
            "engine=JunctionTree()"
        )

    def expectations(self, weights: Tensor | None = None) -> SegmentExpectations:
        """Return all that the E-step of Baum-Welch needs.

        Args:
            weights: ``(B,)`` how much each row counts in the sums; one by default. Impossible rows
                never count.
        """
        B = self.tensors.num_rows
        weight = torch.ones(B) if weights is None else weights
        if weight.shape != (B,):
            raise ModelError(f"weights must be ({B},), got {tuple(weight.shape)}")
        if self._by_torch:
            return self._expectations_by_torch(weight)
        found = self._cpu.expectations(weight.detach().double().numpy(), True)
        return SegmentExpectations(*(self._tensor(part) for part in found))

    def best(self, k: int = 1) -> tuple[Tensor, Tensor]:
        """Return ``(B, T)`` states of the most probable segmentation and ``(B,)`` its score.

        States are -1 beyond the end and in impossible rows.

        Args:
            k: One: others but the best are not found.

        Raises:
            Unsupported: If more are asked for.
        """
        if k != 1:
            raise Unsupported("one best segmentation is found, not several")
        counts, score = self._one(MAX, 1)
        return counts[0], score

    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """Return ``(n, B, T)`` exact draws of the states, -1 beyond the end."""
        number = int(np.random.default_rng(seed).integers(2**63))
        return self._one(Draw(torch.Generator().manual_seed(number)), n)[0]

    def _one(self, reduction: Reduction, n: int) -> tuple[Tensor, Tensor]:
        """States that the gradient of a best or drawn segmentation points at, ``n`` times."""
        tensors = self.tensors.detach()
        field = tensors.field.clone().requires_grad_()
        B, T, _ = field.shape
        with torch.enable_grad():
            chain = self._torch(reduction, field, detach=True)
            score = chain.log_partition()
        states = torch.full((n, B, T), -1, device=field.device)
        outside = ~tensors.within | score.detach().isneginf()[:, None]
        for draw in range(n if T else 0):
            (found,) = torch.autograd.grad(score.sum(), field, retain_graph=True)
            states[draw] = found.argmax(2).masked_fill(outside, -1)
        return states, score.detach()

    def _torch(
        self, reduction: Reduction, field: Tensor | None = None, detach: bool = False
    ) -> TorchSegmentChain:
        tensors = self.tensors.detach() if detach else self.tensors
        duration = self.log_duration.detach() if detach else self.log_duration
        given = tensors.field if field is None else field
        return TorchSegmentChain(
            tensors.initial[0], tensors.transition[0, 0], duration, given, tensors, reduction,
            self.censored,
        )  # fmt: skip

    def _expectations_by_torch(self, weights: Tensor) -> SegmentExpectations:
        """Gradients of log Z, themselves differentiable where a gradient is wanted."""
        tensors, wanted = self.tensors, self.tensors.requires_grad
        with torch.enable_grad():
            parts = [tensors.initial[0], tensors.transition[0, 0], self.log_duration, tensors.field]
            if not wanted:
                parts = [part.detach() for part in parts]
            parts = [p.view_as(p) if p.requires_grad else p.clone().requires_grad_() for p in parts]
            initial, transition, duration, field = parts
            log_z = TorchSegmentChain(
                initial, transition, duration, field, tensors, SUM, self.censored
            ).log_partition()
            weight = weights.to(log_z).masked_fill(log_z.isneginf(), 0.0)
            sums = torch.autograd.grad(
                log_z, parts[:3], weight, create_graph=wanted, retain_graph=True
            )
            (marginals,) = torch.autograd.grad(log_z.sum(), parts[3:], create_graph=wanted)
        marginals = marginals.masked_fill(log_z.isneginf()[:, None, None], math.nan)
        marginals = marginals.masked_fill(~tensors.within[:, :, None], 0.0)
        log_z = log_z if wanted else log_z.detach()
        return SegmentExpectations(log_z, marginals, *sums)

    @property
    def _by_torch(self) -> bool:
        wanted = torch.is_grad_enabled() and self.log_duration.requires_grad
        on_cpu = self.tensors.field.device.type == "cpu"
        return wanted or self.tensors.requires_grad or not on_cpu or not has_numba()

    @cached_property
    def _cpu(self) -> CpuSegmentChain:
        return CpuSegmentChain(self.tensors, self.log_duration.detach(), self.censored)

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self.tensors.field.dtype)
