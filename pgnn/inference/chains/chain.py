"""Chains of discrete states: the kernel of hidden Markov models, chain CRFs and CTC."""

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
    """What Baum-Welch needs of a batch of rows."""

    log_partition: Tensor
    """``(B,)``."""
    marginals: Tensor
    """``(B, T, K)`` p(z_t | x), zero beyond the end, NaN in impossible rows."""
    initial: Tensor
    """``(K,)`` expected numbers of rows that begin in a state."""
    transitions: Tensor
    """``(K, K)`` expected numbers of transitions; ``(T - 1, K, K)`` if steps differ."""


class Chain:
    r"""Rows of discrete states, each depending on the one before.

    .. math:: \tilde p(z) = e^{\pi(z_1)} \prod_{t=2}^T e^{A_t(z_{t-1}, z_t)}
        \prod_{t=1}^T e^{f_t(z_t)}, \qquad p(z) = \tilde p(z) / Z

    In a hidden Markov model the field is the log-likelihood of the evidence, and Z the
    probability of all that was observed; potentials need not be probabilities. Any entry may be
    ``-inf``. Empty rows have log Z zero. In impossible rows log Z is ``-inf``, probabilities are
    NaN and states -1.

    On the CPU compiled kernels answer, in the field's precision (half precision in single);
    elsewhere, and wherever gradients of other things than :meth:`log_partition` or higher
    derivatives are wanted, torch does. Results are of the field's type and on its device.

    Args:
        log_initial: ``(K,)`` or ``(B, K)`` logs :math:`\pi`.
        log_transition: ``(K, K)`` or ``(B, K, K)`` logs :math:`A`, from row to column; with
            ``per_step``, ``(T - 1, K, K)`` or ``(B, T - 1, K, K)``.
        log_field: ``(B, T, K)`` logs :math:`f`.
        lengths: ``(B,)`` lengths of the rows, or a ``(B, T)`` mask: where it is False nothing was
            observed, and a row ends at its last True. All rows are of length T if not given.
        per_step: Whether each step has a transition of its own.

    Raises:
        ModelError: If shapes disagree, a length is not between 0 and T, or an entry is NaN or
            ``+inf``; row and step are named.

    Cost: :math:`O(B T K^2)` time; on the CPU memory for the results and :math:`O(T K)` a thread.

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

        The gradient by the field is :meth:`marginals`, by the transition
        :meth:`expected_transitions`; zero in impossible rows. A first derivative costs one more
        pass of the compiled kernel, higher ones torch's time and memory.
        """
        if not self._compiled:
            return self._torch.log_partition()
        return log_partition(self.tensors, self._cpu)

    def marginals(self) -> Tensor:
        """Return ``(B, T, K)`` p(z_t | x): zero beyond the end, NaN in impossible rows."""
        return self.smoothed()[0]

    def smoothed(self) -> tuple[Tensor, Tensor]:
        """Return :meth:`marginals` and :meth:`log_partition` of one pass."""
        if not self._compiled:
            return self._torch.marginals(), self.log_partition()
        if self._by_torch:
            return self._differentiable_marginals()
        sums = self._cpu.smooth()
        return self._tensor(sums.states), self._tensor(sums.log_z)

    def _differentiable_marginals(self) -> tuple[Tensor, Tensor]:
        """Marginals as gradients by the field, found by the kernel, and log Z."""
        t = self.tensors
        with torch.enable_grad():
            probe = torch.zeros_like(t.field, requires_grad=True)
            moved = ChainTensors(t.initial, t.transition, t.field + probe, t.lengths)
            log_z = log_partition(moved, self._cpu)
            (marginals,) = torch.autograd.grad(log_z.sum(), probe, create_graph=True)
        return marginals.masked_fill(log_z.isneginf()[:, None, None], torch.nan), log_z

    def filtered(self) -> tuple[Tensor, Tensor]:
        """Return ``(B, T, K)`` p(z_t | x_1..t) and ``(B, T)`` log p(x_t | x_1..t-1).

        Both are zero beyond the end. From the step on at which a row becomes impossible, states
        are NaN and the log is ``-inf``, then NaN.
        """
        if self._by_torch:
            return self._torch.filtered()
        states, increments = self._cpu.filtered()
        return self._tensor(states), self._tensor(increments)

    def expected_transitions(self, weights: Tensor | None = None) -> Tensor:
        """Return expected numbers of transitions from state to state.

        Args:
            weights: ``(B,)`` how much each row counts; then their sum ``(K, K)`` is returned.

        Returns:
            ``(B, K, K)``, or ``(K, K)`` with weights; NaN in impossible rows, which count for
            nothing in a sum.
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

        NaN in impossible rows. :meth:`expected_transitions` needs far less memory.
        """
        if self._by_torch:
            return self._torch.pairs()
        B, T = self.tensors.field.shape[:2]
        sums = self._cpu.smooth(pairs=(B, max(T - 1, 0)))
        pairs = self._tensor(sums.pairs)
        pairs[self._tensor(sums.log_z).isneginf()] = math.nan
        return pairs.masked_fill(~self.tensors.within[:, 1:, None, None], 0.0)

    def expectations(self, weights: Tensor | None = None) -> ChainExpectations:
        """Return all that Baum-Welch's E-step needs, in one pass.

        Args:
            weights: ``(B,)`` how much each row counts in the sums over rows; one by default.
                Impossible rows never count.
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
            sums = self._cpu.smooth(array, self._own_pairs)
            log_z, marginals = self._tensor(sums.log_z), self._tensor(sums.states)
            total = self._tensor(sums.pairs).sum(0)
            total = total if self.per_step else total[0]
            counted = weight.to(marginals).masked_fill(log_z.isneginf(), 0.0)
        first = marginals[:, :1].sum(1).masked_fill(log_z.isneginf()[:, None], 0.0)
        return ChainExpectations(log_z, marginals, counted @ first, total)

    def best(self, k: int = 1) -> tuple[Tensor, Tensor]:
        """Return the most probable states and their scores, of one path or of the ``k`` best.

        Of paths of equal score those with the smallest last state come first, then those with the
        smallest last but one, and so on; only scores that are equal as computed count as equal.

        Args:
            k: How many paths.

        Returns:
            ``(B, T)`` int64 states, -1 beyond the end and in impossible rows, and ``(B,)`` logs of
            what the path weighs; with ``k > 1``, ``(B, k, T)`` and ``(B, k)``, where paths that
            are not there have states -1 and score ``-inf``.
        """
        if k < 1:
            raise ModelError(f"k must be at least 1, got {k}")
        if not self._compiled:
            return self._paths.best() if k == 1 else self._paths.best_k(k)
        states, scores = self._cpu.best() if k == 1 else self._cpu.best_k(k)
        return torch.from_numpy(states), self._tensor(scores)

    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """Return ``(n, B, T)`` exact draws of the states: last first, given the filtered ones.

        They are -1 beyond the end and in impossible rows.

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
        """Return ``(B,)`` logs of what given paths weigh, differentiable.

        Args:
            states: ``(B, T)`` or ``(n, B, T)``; anything beyond the end, where it does not matter.

        Returns:
            ``(B,)`` or ``(n, B)``; ``log_score(states) - log_partition()`` is log p(z | x).
        """
        return self._paths.log_score(states)

    def log_conditionals(self, states: Tensor) -> Tensor:
        r"""Return ``(B, T)`` logs of :math:`p(z_t \mid z_{-t})` on a path; zero beyond the end.

        Args:
            states: ``(B, T)``; anything beyond the end.
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
    def _own_pairs(self) -> tuple[int, int]:
        tables = self.tensors.transition.shape
        return tables[0], tables[1]

    def _transitions(self, weights: np.ndarray) -> Tensor:
        return self._tensor(self._cpu.smooth(weights, self._own_pairs).pairs).sum(0)

    def _weights(self, weights: Tensor) -> np.ndarray:
        B = self.tensors.num_rows
        if weights.shape != (B,):
            raise ModelError(f"weights must be ({B},), got {tuple(weights.shape)}")
        return weights.detach().cpu().double().numpy()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.tensors.field.dtype)
