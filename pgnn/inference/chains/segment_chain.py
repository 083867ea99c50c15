"""Segment chains: semi-Markov chains whose states have explicit duration distributions."""

from __future__ import annotations

import math
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.numba_support import has_numba
from pgnn.inference.semiring import MAX, SUM, Draw, Reduction, contract
from pgnn.inference.threads import Stop, in_threads

if TYPE_CHECKING:
    from pgnn.inference.chains.kernels import SegmentPotentials, SegmentSums


class SegmentExpectations(NamedTuple):
    """Expected statistics of a batch of rows for the E-step of Baum-Welch."""

    log_partition: Tensor
    """``(B,)``."""
    marginals: Tensor
    """``(B, T, K)`` p(z_t | x), zero beyond the end, NaN in impossible rows."""
    initial: Tensor
    """``(K,)`` expected number of rows that begin in each state."""
    transitions: Tensor
    """``(K, K)`` expected numbers of transitions between segments."""
    durations: Tensor
    """``(K, D)`` expected numbers of segments by state and duration."""


class SegmentChain:
    r"""A batch of semi-Markov chains: each segment has a state and a duration.

    A row of ``n`` steps is cut into segments :math:`s = 1, \ldots, S` of states :math:`z_s` and
    durations :math:`d_s` with :math:`\sum_s d_s = n`:

    .. math:: \tilde p(z, d) = e^{\pi(z_1)} \prod_{s=2}^S e^{A(z_{s-1}, z_s)}
        \prod_{s=1}^S e^{g(z_s, d_s)} \prod_{t=1}^n e^{f_t(z(t))}

    A segment may be followed by another one of the same state unless the diagonal of :math:`A` is
    ``-inf``. With ``censored`` the last segment may outlast the row; its potential is
    :math:`\sum_{d' \ge d} e^{g(z_S, d')}`. Impossible and empty rows are treated as in
    :class:`~pgnn.inference.chains.chain.Chain`.

    Args:
        log_initial: ``(K,)`` logs :math:`\pi`.
        log_transition: ``(K, K)`` logs :math:`A` of the transition from row to column.
        log_duration: ``(K, D)`` logs :math:`g`; column ``d`` is a duration of ``d + 1`` steps.
        log_field: ``(B, T, K)`` logs :math:`f`.
        lengths: ``(B,)`` lengths of the rows, or a ``(B, T)`` mask, see ``Chain``.
        censored: Whether the last segment may outlast its row.

    Raises:
        ModelError: If shapes disagree, or an entry is NaN or ``+inf``.

    Cost: :math:`O(B T K (K + D))` time; :math:`O(T K D)` memory per row.

    References:
        Yu (2010), Hidden semi-Markov models, section 3 (residual time).

    Example:
        >>> two = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).double().log()  # each lasts two steps
        >>> steps = torch.tensor([[[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.5, 0.5]]]).double().log()
        >>> swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double().log()
        >>> chain = SegmentChain(torch.zeros(2).double(), swap, two, steps)
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
            raise ModelError(
                "log_initial must be (K,) and log_transition (K, K), shared by all rows and steps; "
                f"got {tuple(log_initial.shape)} and {tuple(log_transition.shape)}"
            )
        K = self.tensors.num_states
        if log_duration.dim() != 2 or log_duration.shape[0] != K or not log_duration.shape[1]:
            raise ModelError(
                f"log_duration must be ({K}, D) with D > 0, got {tuple(log_duration.shape)}"
            )
        if not bool((log_duration < math.inf).all()):
            raise ModelError(
                f"log_duration must be below +inf and not NaN, got {log_duration.max().item()!r}"
            )
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
        expectations = self.expectations()
        return expectations.marginals, expectations.log_partition

    def filtered(self) -> tuple[Tensor, Tensor]:
        """Raise Unsupported: the end of the current segment is unknown at a step.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            "segment chains have no filtering",
            "name an engine for the unrolled network, such as engine=JunctionTree()",
        )

    def log_conditionals(self, states: Tensor) -> Tensor:
        """Raise Unsupported: the label of a step is determined by the others of its segment.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            "segment chains have no pseudo-likelihood of single steps",
            "learn with Gradient() or Perceptron()",
        )

    def expectations(self, weights: Tensor | None = None) -> SegmentExpectations:
        """Return the expected statistics of the E-step of Baum-Welch.

        Args:
            weights: ``(B,)`` weight of each row in the sums; ones by default. Impossible rows are
                left out.
        """
        B = self.tensors.num_rows
        weight = torch.ones(B) if weights is None else weights
        if weight.shape != (B,):
            raise ModelError(f"weights must be ({B},), got {tuple(weight.shape)}")
        if self._by_torch:
            return self._expectations_by_torch(weight)
        sums = self._cpu.expectations(weight.detach().double().numpy(), True)
        return SegmentExpectations(*(self._tensor(part) for part in sums))

    def best(self, k: int = 1) -> tuple[Tensor, Tensor]:
        """Return ``(B, T)`` states of the most probable segmentation and its ``(B,)`` score.

        States are -1 beyond the end and in impossible rows.

        Args:
            k: Number of segmentations; only one is supported.

        Raises:
            Unsupported: If ``k`` is larger.
        """
        if k != 1:
            raise Unsupported(f"segment chains find one best segmentation; got k={k!r}", "pass k=1")
        counts, score = self._paths_by_gradient(MAX, 1)
        return counts[0], score

    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """Return ``(n, B, T)`` exact draws of the states, -1 beyond the end."""
        number = int(np.random.default_rng(seed).integers(2**63))
        return self._paths_by_gradient(Draw(torch.Generator().manual_seed(number)), n)[0]

    def _paths_by_gradient(self, reduction: Reduction, n: int) -> tuple[Tensor, Tensor]:
        """Return states and scores of ``n`` best or drawn segmentations, read off the gradient."""
        tensors = self.tensors.detach()
        field = tensors.field.clone().requires_grad_()
        B, T, _ = field.shape
        with torch.enable_grad():
            chain = self._torch(reduction, field, detach=True)
            score = chain.log_partition()
            total = score.sum()
        states = torch.full((n, B, T), -1, device=field.device)
        outside = ~tensors.within | score.detach().isneginf()[:, None]
        for draw in range(n if T else 0):
            (gradient,) = torch.autograd.grad(total, field, retain_graph=True)
            states[draw] = gradient.argmax(2).masked_fill(outside, -1)
        return states, score.detach()

    def _torch(
        self, reduction: Reduction, field: Tensor | None = None, detach: bool = False
    ) -> TorchSegmentChain:
        tensors = self.tensors.detach() if detach else self.tensors
        duration = self.log_duration.detach() if detach else self.log_duration
        own_field = tensors.field if field is None else field
        return TorchSegmentChain(
            tensors.initial[0], tensors.transition[0, 0], duration, own_field, tensors, reduction,
            self.censored,
        )  # fmt: skip

    def _expectations_by_torch(self, weights: Tensor) -> SegmentExpectations:
        """Compute expectations as gradients of log Z, differentiable if a gradient is required."""
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


Floats = NDArray[Any]
Ints = NDArray[np.int64]


class CpuSegmentChain:
    """Sums over segmentations, computed in log space and float64.

    Args:
        tensors: The chain without its durations.
        log_duration: ``(K, D)``.
        censored: Whether the last segment may outlast its row.
    """

    def __init__(self, tensors: ChainTensors, log_duration: Tensor, censored: bool) -> None:
        self.tensors = tensors.detach()
        self.log_duration = log_duration
        self.censored = censored
        self.lengths: Ints = tensors.lengths.numpy()

    @cached_property
    def numbers(self) -> SegmentPotentials:
        """Potentials in the form that the kernel takes."""
        from pgnn.inference.chains.kernels import SegmentPotentials

        transition = _array(self.tensors.transition[0, 0])
        return SegmentPotentials(
            _array(self.tensors.initial[0]),
            transition,
            np.ascontiguousarray(transition.T),
            _array(self.log_duration),
            _array(self.tensors.field),
            self.lengths,
        )

    def expectations(self, weights: Floats | None, everything: bool) -> SegmentSums:
        """Return log Z and, optionally, the sums over rows.

        Args:
            weights: ``(B,)`` weights of the rows in the sums.
            everything: Whether to compute the sums besides log Z.
        """
        from pgnn.inference.chains.kernels import SegmentSums, sum_segments

        (B, T, K), D = self.tensors.field.shape, self.log_duration.shape[1]
        numbers, lock = self.numbers, Lock()
        sums = SegmentSums(
            np.zeros(B),
            np.zeros((B, T, K) if everything else (0, 0, 0)),
            np.zeros(K),
            np.zeros((K, K)),
            np.zeros((K, D)),
        )
        row_weights = np.zeros(0)
        if everything:
            row_weights = np.ones(B) if weights is None else np.ascontiguousarray(weights)

        def work(rows: Ints, stop: Stop) -> None:
            thread_sums = SegmentSums(*sums[:2], *(np.zeros_like(part) for part in sums[2:]))
            room = np.empty(T * K * D), np.empty(K * D + K), np.empty(K + max(K, D))
            sum_segments(numbers, thread_sums, rows, row_weights, self.censored, *room, stop)
            with lock:
                for whole, part in zip(sums[2:], thread_sums[2:], strict=True):
                    whole += part

        in_threads(work, np.flatnonzero(self.lengths), 20.0 * B * T * K * (K + D))
        return sums


def _array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().double().numpy())


class TorchSegmentChain:
    r"""Forward messages over a state and the remaining steps of its segment.

    .. math:: \alpha_{t+1}(k, r) = e^{f_{t+1}(k)} \Big[ \alpha_t(k, r + 1)
        + e^{g(k, r)} \sum_j \alpha_t(j, 1) e^{A(j, k)} \Big]

    Args:
        initial: ``(K,)`` logs.
        transition: ``(K, K)`` logs.
        duration: ``(K, D)`` logs.
        field: ``(B, T, K)`` logs.
        tensors: Provides the lengths of the rows.
        reduction: Sum, maximum, or draws.
        censored: Whether the last segment may outlast its row.
    """

    def __init__(
        self,
        initial: Tensor,
        transition: Tensor,
        duration: Tensor,
        field: Tensor,
        tensors: ChainTensors,
        reduction: Reduction,
        censored: bool,
    ) -> None:
        self.initial, self.transition, self.duration = initial, transition, duration
        self.field, self.tensors = field, tensors
        self.reduction, self.censored = reduction, censored

    def log_partition(self) -> Tensor:
        """Return ``(B,)`` values: zero in empty rows, ``-inf`` in impossible ones."""
        T = self.field.shape[1]
        none = self.initial[:0].sum() + self.transition[:0].sum() + self.duration[:0].sum()
        zero = self.field[:, :0].sum((1, 2)) + none
        if not T:
            return zero
        last = contract([self._last()], self.reduction, 2 if self.censored else 1)
        last = contract([last], self.reduction, 1) if self.censored else last[:, 0]
        return torch.where(self.tensors.ends > 0, last, zero)

    def _last(self) -> Tensor:
        """``(B, K, D)`` messages at the last step of each row."""
        B, T, K = self.field.shape
        ends = self.tensors.ends[:, None, None]
        alpha = (self.initial[:, None] + self.duration) + self.field[:, 0, :, None]
        nothing = alpha.new_full((B, K, 1), -math.inf)
        for t in range(1, T):
            ended = alpha[:, :, 0]
            entered = contract([ended[:, :, None], self.transition[None]], self.reduction, 1)
            going = torch.cat([alpha[:, :, 1:], nothing], 2)
            both = torch.stack([going, entered[:, :, None] + self.duration])
            arrived = contract([both], self.reduction, 0) + self.field[:, t, :, None]
            alpha = torch.where(t < ends, arrived, alpha)
        return alpha
