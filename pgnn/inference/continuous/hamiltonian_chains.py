"""Hamiltonian chains with no-U-turn trajectories or trajectories of fixed length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.loop import Info, iterate

Floats = NDArray[np.float64]

ValueAndGradient = Callable[[Floats], tuple[Floats, Floats]]
r"""Maps points ``(C, D)`` to potentials :math:`U` ``(C,)`` and their gradients ``(C, D)``."""

_STEPS = 100


@dataclass(frozen=True)
class Draws:
    """Draws of all chains with their statistics.

    Attributes:
        points: ``(C, samples, D)`` draws.
        potential: ``(C, samples)`` :math:`U` of each draw.
        acceptance: ``(C, samples)`` mean acceptance probability of the points of a trajectory.
        depth: ``(C, samples)`` depths of the trees.
        gradients: ``(C, samples)`` number of gradients of each draw.
        diverged: ``(C, samples)`` whether the energy diverged.
        energy: ``(C, samples)`` :math:`H` at the start of each trajectory.
        step_size: ``(C,)`` step sizes after the warm-up.
        variance: ``(C, D)`` inverse masses after the warm-up.
        evaluations: Number of batched gradient evaluations, including the warm-up.
    """

    points: Floats
    potential: Floats
    acceptance: Floats
    depth: NDArray[np.int64]
    gradients: NDArray[np.int64]
    diverged: NDArray[np.bool_]
    energy: Floats
    step_size: Floats
    variance: Floats
    evaluations: int


@dataclass(frozen=True)
class HamiltonianChains:
    r"""Draws from :math:`\exp(-U(q))` by Hamiltonian trajectories, for all chains at once.

    .. math:: H(q, p) = U(q) + \tfrac12 \sum_i \sigma_i^2 p_i^2

    Trajectories double in length, forwards or backwards, until they make a U-turn; a draw is a
    point of the trajectory with probability proportional to :math:`e^{-H}`. With ``num_steps``,
    trajectories have that fixed length, and their end is accepted with probability
    :math:`\min(1, e^{H_0 - H})`. During the warm-up, the step size is adapted by dual averaging,
    and the variances :math:`\sigma^2` are estimated from draws in growing windows. Chains run in
    one batch without synchronisation: each has its own tree, step size and random numbers, so that
    its draws do not depend on the other chains.

    Args:
        warmup: Number of adaptive transitions, which are discarded.
        samples: Number of transitions after the warm-up.
        max_tree_depth: A trajectory has at most ``2 ** max_tree_depth`` points.
        target_accept: Target of the mean acceptance probability.
        num_steps: Number of leapfrog steps of every trajectory; by default, until a U-turn.

    Cost:
        One batched gradient for each leapfrog step of the longest trajectories.

    References:
        Neal (2011), MCMC using Hamiltonian dynamics, section 3 (trajectories of given length).
        Hoffman and Gelman (2014), The No-U-Turn sampler, algorithm 6. Betancourt (2017), A
        conceptual introduction to Hamiltonian Monte Carlo, appendix A (multinomial draws,
        termination). Lao and Dillon (2019), Unrolled implementation of no-U-turn sampler (trees
        without recursion). Stan reference manual, section 15.2 (windows of adaptation).

    Example:
        >>> normal = lambda q: (0.5 * (q**2).sum(axis=1), q)
        >>> draws = HamiltonianChains(200, 500).run(normal, np.zeros((4, 2)), seed=0)
        >>> draws.points.shape, bool(abs(draws.points.mean()) < 0.1)
        ((4, 500, 2), True)
    """

    warmup: int = 500
    samples: int = 1000
    max_tree_depth: int = 10
    target_accept: float = 0.8
    num_steps: int | None = None

    def run(
        self,
        function: ValueAndGradient,
        start: Floats,
        seed: int | None = None,
        progress: bool = False,
    ) -> Draws:
        """Run all chains.

        Args:
            function: Potentials and gradients.
            start: ``(C, D)`` points with finite potential and gradient.
            seed: The same seed gives the same draws.
            progress: Whether to show a progress bar after one second.
        """
        stepper = _ChainStepper(self, function, start, seed)
        total = self.warmup + self.samples
        iterate(stepper, min(_STEPS, total), progress=progress, label="Hamiltonian chains")
        return stepper.draws()

    def windows(self) -> NDArray[np.int64]:
        """Return the start of the first window and the ends of all, each twice as long as the last.

        Example:
            >>> HamiltonianChains(warmup=1000).windows()
            array([ 75, 100, 150, 250, 450, 950])
        """
        if self.warmup < 20:
            return np.array([self.warmup])
        first, last, size = 75, 50, 25
        if self.warmup < first + last + size:
            first, last = int(0.15 * self.warmup), int(0.1 * self.warmup)
            size = self.warmup - first - last
        ends, at = [first], first
        while at < self.warmup - last:
            at += size
            size *= 2
            if at + size > self.warmup - last:
                at = self.warmup - last
            ends.append(at)
        return np.array(ends)


class _ChainStepper:
    """An iterative method that advances all chains by one gradient at a time."""

    def __init__(
        self,
        settings: HamiltonianChains,
        function: ValueAndGradient,
        start: Floats,
        seed: int | None,
    ) -> None:
        from pgnn.inference.continuous.kernels import hamiltonian as h

        chains, dim = start.shape
        total = settings.warmup + settings.samples
        self.settings, self.function, self.slots = settings, function, h
        self.evaluations = self.stage = self.least = 0
        words = np.random.SeedSequence(seed).generate_state(chains, np.uint64)
        self.chains: Any = h.Chains(
            point=np.ascontiguousarray(start, dtype=np.float64).copy(),
            vectors=np.zeros((chains, h.NUM_VECTORS, dim)),
            numbers=np.zeros((chains, h.NUM_NUMBERS)),
            integers=np.zeros((chains, h.NUM_INTEGERS), dtype=np.int64),
            checkpoints=np.zeros((chains, 2, settings.max_tree_depth + 1, dim)),
            random=words.reshape(chains, 1),
            draws=np.zeros((chains, settings.samples, dim)),
            statistics=np.zeros((chains, total, h.NUM_STATISTICS)),
            windows=settings.windows().astype(np.int64),
        )
        self.chains.vectors[:, h.VAR] = 1.0
        self.chains.numbers[:, h.EPS] = 0.1
        self.chains.integers[:, h.WINDOW] = 1

    def init(self) -> int:
        """See :class:`Iterative`."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Advance until the slowest chain has completed the next share of its transitions."""
        from pgnn.inference.continuous.kernels.no_u_turn import advance

        s = self.settings
        total = s.warmup + s.samples
        goal = -(-total * (state + 1) // min(_STEPS, total))
        point = self.chains.point
        while self.least < goal:
            potential, gradient = self.function(point)
            self.least = advance(
                self.chains, potential, gradient, s.warmup, s.max_tree_depth, s.num_steps or 0,
                s.target_accept,
            )  # fmt: skip
            self.evaluations += 1
        return state + 1, Info()

    def draws(self) -> Draws:
        """Return the draws and their statistics, without the warm-up."""
        statistics = self.chains.statistics[:, self.settings.warmup :]
        return Draws(
            points=self.chains.draws,
            potential=statistics[..., 0],
            acceptance=statistics[..., 1],
            depth=statistics[..., 3].astype(np.int64),
            gradients=statistics[..., 4].astype(np.int64),
            diverged=statistics[..., 5] > 0,
            energy=statistics[..., 6],
            step_size=self.chains.numbers[:, self.slots.EPS].copy(),
            variance=self.chains.vectors[:, self.slots.VAR].copy(),
            evaluations=self.evaluations,
        )
