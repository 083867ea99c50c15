"""Chains of discrete states, the core of hidden Markov models, chain CRFs and CTC."""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.chains.cpu_chain import CpuChain
from pgnn.inference.chains.entropy import entropy_by_potentials, entropy_by_steps
from pgnn.inference.chains.log_partition import log_partition
from pgnn.inference.chains.torch_chain import TorchChain, TorchChainPaths
from pgnn.inference.numba_support import has_numba


class ChainExpectations(NamedTuple):
    """Expected statistics of a batch of rows for the E-step of Baum-Welch."""

    log_partition: Tensor
    """``(B,)``."""
    marginals: Tensor
    """``(B, T, K)`` p(z_t | x), zero beyond the end, NaN in impossible rows."""
    initial: Tensor
    """``(K,)`` expected number of rows that begin in each state."""
    transitions: Tensor
    """``(K, K)`` expected numbers of transitions; ``(T - 1, K, K)`` with a table for each step."""


class Chain:
    r"""A batch of Markov chains of discrete states.

    .. math:: \tilde p(z) = e^{\pi(z_1)} \prod_{t=2}^T e^{A_t(z_{t-1}, z_t)}
        \prod_{t=1}^T e^{f_t(z_t)}, \qquad p(z) = \tilde p(z) / Z

    In a hidden Markov model the field is the log-likelihood of the evidence and Z the probability
    of all observations; in general, potentials need not be probabilities. Any entry may be
    ``-inf``. Empty rows have log Z zero. In impossible rows log Z is ``-inf``, probabilities are
    NaN and states are -1.

    On the CPU, compiled kernels compute in the precision of the field (half precision in single).
    On other devices, and for gradients of anything but :meth:`log_partition` and for higher
    derivatives, torch computes. Results have the type and the device of the field.

    Args:
        log_initial: ``(K,)`` or ``(B, K)`` logs :math:`\pi`.
        log_transition: ``(K, K)`` or ``(B, K, K)`` logs :math:`A` of the transition from row to
            column; with ``per_step``, ``(T - 1, K, K)`` or ``(B, T - 1, K, K)``.
        log_field: ``(B, T, K)`` logs :math:`f`.
        lengths: ``(B,)`` lengths of the rows, or a ``(B, T)`` mask: False marks a step without an
            observation, and a row ends at its last True. All rows have length T if not given.
        per_step: Whether each step has its own transition table.

    Raises:
        ModelError: If shapes disagree, a length is not between 0 and T, or an entry is NaN or
            ``+inf``; the message names row and step.

    Cost: :math:`O(B T K^2)` time; on the CPU, memory for the results and :math:`O(T K)` per thread.

    References:
        Rabiner (1989), A tutorial on hidden Markov models, section III.

    Example:
        >>> stay = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).double().log()
        >>> observed = torch.tensor([[[0.9, 0.2], [0.9, 0.2], [0.1, 0.8]]]).double().log()
        >>> chain = Chain(torch.tensor([0.5, 0.5]).double().log(), stay, observed)
        >>> chain.best()[0]
        tensor([[0, 0, 0]])
        >>> chain.marginals()[0, :, 0]
        tensor([0.8237, 0.7631, 0.4072], dtype=torch.float64)
    """

    def __init__(
        self,
        log_initial: Tensor,
        log_transition: Tensor,
        log_field: Tensor,
        lengths: Tensor | None = None,
        *,
        per_step: bool = False,
    ) -> None:
        self.per_step = per_step
        self.tensors = ChainTensors.read(log_initial, log_transition, log_field, lengths, per_step)

    def log_partition(self) -> Tensor:
        """Return ``(B,)`` log Z, differentiable any number of times.

        The gradient with respect to the field is :meth:`marginals`, with respect to the transition
        :meth:`expected_transitions`; it is zero in impossible rows. The first derivative costs one
        more pass of the compiled kernel; higher derivatives cost the time and memory of torch.
        """
        if not self._compiled:
            return self._torch.log_partition()
        return log_partition(self.tensors, self._cpu)

    def marginals(self) -> Tensor:
        """Return ``(B, T, K)`` p(z_t | x): zero beyond the end, NaN in impossible rows."""
        return self.smoothed()[0]

    def smoothed(self) -> tuple[Tensor, Tensor]:
        """Return :meth:`marginals` and :meth:`log_partition`, computed in one pass."""
        if not self._compiled:
            return self._torch.marginals(), self.log_partition()
        if self._by_torch:
            return self._differentiable_marginals()
        sums = self._cpu.smooth()
        return self._tensor(sums.states), self._tensor(sums.log_z)

    def _differentiable_marginals(self) -> tuple[Tensor, Tensor]:
        """Return marginals, as the gradient of log Z with respect to the field, and log Z."""
        t = self.tensors
        with torch.enable_grad():
            probe = torch.zeros_like(t.field, requires_grad=True)
            moved = ChainTensors(t.initial, t.transition, t.field + probe, t.lengths)
            log_z = log_partition(moved, self._cpu)
            (marginals,) = torch.autograd.grad(log_z.sum(), probe, create_graph=True)
        return marginals.masked_fill(log_z.isneginf()[:, None, None], torch.nan), log_z

    def filtered(self) -> tuple[Tensor, Tensor]:
        """Return ``(B, T, K)`` p(z_t | x_1..t) and ``(B, T)`` log p(x_t | x_1..t-1).

        Both are zero beyond the end. From the step at which a row becomes impossible, the
        probabilities are NaN; the log is ``-inf`` at that step and NaN afterwards.
        """
        if self._by_torch:
            return self._torch.filtered()
        states, increments = self._cpu.filtered()
        return self._tensor(states), self._tensor(increments)

    def expected_transitions(self, weights: Tensor | None = None) -> Tensor:
        """Return the expected numbers of transitions between states.

        Args:
            weights: ``(B,)`` weight of each row; if given, the weighted sum ``(K, K)`` is returned.

        Returns:
            ``(B, K, K)``, or ``(K, K)`` with weights. Impossible rows are NaN, and are left out of
            the sum.
        """
        if self._by_torch:
            pairs = self._torch.transitions()
            if weights is None:
                return pairs
            impossible = self._torch.log_partition().isneginf()
            pairs = pairs.masked_fill(impossible[:, None, None], 0.0)
            return torch.einsum("b,bij->ij", weights.to(pairs), pairs)
        if weights is not None:
            return self._transitions(self._weights(weights)).sum(0)
        shape = (self.tensors.num_rows, self.tensors.transition.shape[1])
        sums = self._cpu.smooth(pairs=shape)
        pairs = self._tensor(sums.pairs).sum(1)
        return pairs.masked_fill(self._tensor(sums.log_z).isneginf()[:, None, None], math.nan)

    def pair_marginals(self) -> Tensor:
        """Return ``(B, T - 1, K, K)`` p(z_t, z_t+1 | x): zero beyond the end.

        Impossible rows are NaN. :meth:`expected_transitions` needs far less memory.
        """
        if self._by_torch:
            return self._torch.pairs()
        B, T = self.tensors.field.shape[:2]
        sums = self._cpu.smooth(pairs=(B, max(T - 1, 0)))
        pairs = self._tensor(sums.pairs)
        pairs[self._tensor(sums.log_z).isneginf()] = math.nan
        return pairs.masked_fill(~self.tensors.within[:, 1:, None, None], 0.0)

    def expectations(self, weights: Tensor | None = None) -> ChainExpectations:
        """Return the expected statistics of the E-step of Baum-Welch, computed in one pass.

        Args:
            weights: ``(B,)`` weight of each row in the sums over rows; ones by default.
                Impossible rows are left out.
        """
        B = self.tensors.num_rows
        weight = torch.ones(B) if weights is None else weights
        if self._by_torch:
            log_z, marginals = self._torch.log_partition(), self._torch.marginals()
            pairs = self._torch.pairs() if self.per_step else self._torch.transitions()
            counted = weight.to(pairs).masked_fill(log_z.isneginf() | (self.tensors.ends == 0), 0.0)
            total = torch.einsum("b,b...->...", counted, pairs.nan_to_num(0.0))
        else:
            array = self._weights(weight)
            sums = self._cpu.smooth(array, self._table_shape)
            log_z, marginals = self._tensor(sums.log_z), self._tensor(sums.states)
            total = self._tensor(sums.pairs).sum(0)
            total = total if self.per_step else total[0]
            counted = weight.to(marginals).masked_fill(log_z.isneginf(), 0.0)
        first = marginals[:, :1].sum(1).masked_fill(log_z.isneginf()[:, None], 0.0)
        return ChainExpectations(log_z, marginals, counted @ first, total)

    def best(self, k: int = 1) -> tuple[Tensor, Tensor]:
        """Return the most probable path, or the ``k`` most probable paths, and their scores.

        Paths whose computed scores are equal are ordered by their last state, then by the last but
        one, and so on.

        Args:
            k: Number of paths.

        Returns:
            ``(B, T)`` int64 states, -1 beyond the end and in impossible rows, and ``(B,)`` log
            weights of the path; with ``k > 1``, ``(B, k, T)`` and ``(B, k)``. If there are fewer
            than ``k`` paths, the remaining ones have states -1 and score ``-inf``.
        """
        if k < 1:
            raise ModelError(f"k must be at least 1, got {k!r}")
        if not self._compiled:
            return self._paths.best() if k == 1 else self._paths.best_k(k)
        states, scores = self._cpu.best() if k == 1 else self._cpu.best_k(k)
        return torch.from_numpy(states), self._tensor(scores)

    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """Return ``(n, B, T)`` exact draws of the states, by forward filtering, backward sampling.

        States are -1 beyond the end and in impossible rows.

        Args:
            n: Number of draws.
            seed: Random seed of the draws; the same seed gives the same draws on the same device.
        """
        number = int(np.random.default_rng(seed).integers(2**63))
        if not self._compiled:
            return self._paths.sample(n, torch.Generator().manual_seed(number))
        return torch.from_numpy(self._cpu.sample(n, number))

    def entropy(self) -> Tensor:
        r"""Return ``(B,)`` entropies of the posterior over paths, in nats; NaN in impossible rows.

        .. math:: H = H(z_T \mid x) + \sum_{t<T} H(z_t \mid z_{t+1}, x_{1:t})

        References:
            Hernando, Crespi & Cybenko (2005), Efficient computation of the hidden Markov model
            entropy for a given observation sequence.
        """
        if self._by_torch:
            return entropy_by_potentials(self.tensors)
        entropies = entropy_by_steps(self.tensors, self.filtered()[0], self.marginals())
        return entropies.to(self.tensors.field.dtype)

    def log_score(self, states: Tensor) -> Tensor:
        r"""Return ``(B,)`` log weights :math:`\log \tilde p(z)` of given paths, differentiable.

        Args:
            states: ``(B, T)`` or ``(n, B, T)``; entries beyond the end are ignored.

        Returns:
            ``(B,)`` or ``(n, B)``; ``log_score(states) - log_partition()`` is log p(z | x).
        """
        return self._paths.log_score(states)

    def log_conditionals(self, states: Tensor) -> Tensor:
        r"""Return ``(B, T)`` logs of :math:`p(z_t \mid z_{-t})` on a path; zero beyond the end.

        Args:
            states: ``(B, T)``; entries beyond the end are ignored.
        """
        t = self.tensors
        z = states.to(t.field.device).masked_fill(~t.within, 0)
        rows = torch.arange(t.num_rows, device=z.device)[:, None] % len(t.transition)
        steps = torch.arange(max(z.shape[1] - 1, 0), device=z.device) % t.transition.shape[1]
        scores = t.field.clone()
        scores[:, :1] = scores[:, :1] + t.initial[:, None]
        scores[:, 1:] = scores[:, 1:] + t.transition[rows, steps, z[:, :-1]]
        after = t.transition.transpose(2, 3)[rows, steps, z[:, 1:]]
        scores[:, :-1] = scores[:, :-1] + after.masked_fill(~t.within[:, 1:, None], 0.0)
        observed_score = scores.gather(2, z.unsqueeze(-1))[..., 0]
        impossible = observed_score.isneginf() | ~t.within
        logs = observed_score.masked_fill(impossible, 0.0) - scores.logsumexp(2).masked_fill(
            impossible, 0.0
        )
        return logs.masked_fill(observed_score.isneginf() & t.within, -math.inf)

    @property
    def _compiled(self) -> bool:
        return self.tensors.field.device.type == "cpu" and has_numba()

    @property
    def _by_torch(self) -> bool:
        return not self._compiled or self.tensors.requires_grad

    @cached_property
    def _torch(self) -> TorchChain:
        return TorchChain(self.tensors)

    @cached_property
    def _paths(self) -> TorchChainPaths:
        return TorchChainPaths(self.tensors)

    @cached_property
    def _cpu(self) -> CpuChain:
        return CpuChain(self.tensors)

    @property
    def _table_shape(self) -> tuple[int, int]:
        tables = self.tensors.transition.shape
        return tables[0], tables[1]

    def _transitions(self, weights: np.ndarray) -> Tensor:
        return self._tensor(self._cpu.smooth(weights, self._table_shape).pairs).sum(0)

    def _weights(self, weights: Tensor) -> np.ndarray:
        B = self.tensors.num_rows
        if weights.shape != (B,):
            raise ModelError(f"weights must be ({B},), got {tuple(weights.shape)}")
        return weights.detach().cpu().double().numpy()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.tensors.field.dtype)
