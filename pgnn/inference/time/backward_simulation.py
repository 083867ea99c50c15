"""Backward simulation of paths through the particles of all steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import SlicedModel
from pgnn.factors.validation import unvalidated
from pgnn.inference.loop import Info, iterate
from pgnn.inference.time.particle_filter import ParticleHistory
from pgnn.inference.time.particle_step import Piece

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CELLS = 2**20
"""Pairs of a path and a particle whose densities are computed at once."""


@dataclass(frozen=True, eq=False)
class BackwardSimulation:
    r"""Draws paths from the last step to the first.

    .. math:: p(i_t = i \mid x_{t+1}) \propto w_t^i \, p(x_{t+1} \mid x_t^i)

    with the weights of the particles before resampling. Paths are independent given the particles
    and do not degenerate to few common ancestors.

    Args:
        model: A slice that repeats.
        run: Weighted particles of all steps, with the children of conditionals that have parents in
            the previous slice.
        inputs: Covariates ``(B, T, ...)``.

    Cost:
        ``M N`` transition densities at each step of each row.

    References:
        Godsill, Doucet and West (2004), Monte Carlo smoothing for nonlinear time series.
    """

    model: SlicedModel
    run: ParticleHistory
    inputs: Mapping[Hashable, Tensor]

    @staticmethod
    def needed(model: SlicedModel) -> list[Hashable]:
        """Return the variables that must be stored for backward simulation."""
        parents = {v.name for c in _transitions(model) for v in c.scope}
        return [n for n in model.order if n in parents or (n, -1) in parents]

    def paths(self, number: int, rng: np.random.Generator, progress: bool) -> Ints:
        """Return ``(T, B, M)`` indices of the particles along paths.

        Args:
            number: Number of paths ``M`` of each row.
            rng: Source of random numbers.
            progress: Whether to show a progress bar if it takes longer than a second.
        """
        steps = len(self.run.values)
        chosen = np.zeros((steps, self.run.weights.rows, number), np.int64)
        if steps:
            going = _Going(self, chosen, rng)
            with torch.no_grad(), unvalidated():
                iterate(going, steps, progress=progress, label="backward")
        return chosen

    def along(self, name: Hashable, chosen: Ints) -> Tensor:
        """Return ``(M, B, T, *shape)`` values of a variable along paths."""
        cloud = self.run.clouds(name)
        rows = torch.arange(cloud.shape[1])[:, None]
        steps = torch.arange(cloud.shape[2])
        return cloud[torch.from_numpy(chosen).permute(2, 1, 0), rows, steps]

    def log_transitions(self, t: int, row: int, paths: Ints) -> Floats:
        """Return ``(M, N)`` log densities of step ``t + 1`` of paths, given particles of ``t``."""
        n, m = self.run.weights.number, len(paths)
        first = row * n
        before, after = self.run.values[t], self.run.values[t + 1]
        known: dict[Hashable, Tensor] = {}
        for at, v in enumerate(self.run.kept):
            now = torch.from_numpy(np.ascontiguousarray(before[at][first : first + n]))
            then = torch.from_numpy(np.ascontiguousarray(after[at][first + paths]))
            known[v.name, -1] = now.repeat(m, *[1] * (now.dim() - 1))
            known[v.name] = then.repeat_interleave(n, dim=0)
        covariates = {k: x[row : row + 1, t + 1].expand(m * n, *x.shape[2:]) for k, x in
                      self.inputs.items()}  # fmt: skip
        total = torch.zeros(m * n, dtype=torch.float64)
        for conditional in _transitions(self.model):
            total += Piece(conditional, known, covariates, m * n).log_prob(
                known[conditional.child.name]
            )
        return np.asarray(total.numpy().reshape(m, n))


class _Going:
    """Iteration backward over the steps."""

    def __init__(self, of: BackwardSimulation, chosen: Ints, rng: np.random.Generator) -> None:
        self._of, self._chosen, self._rng = of, chosen, rng

    def init(self) -> int:
        """Return the initial state, at the last step."""
        return len(self._chosen) - 1

    def step(self, t: int) -> tuple[int, Info]:
        """Draw the particles of one step for all paths."""
        of, chosen = self._of, self._chosen
        last = t + 1 == len(chosen)
        for row, weights in enumerate(of.run.step_weights[t]):
            with np.errstate(divide="ignore"):
                log_weights = np.log(weights)
            number = chosen.shape[2]
            size = max(1, _CELLS // len(weights))
            for begin in range(0, number, size):
                part = slice(begin, begin + size)
                if last:
                    logs = np.tile(log_weights, (len(chosen[t, row, part]), 1))
                else:
                    logs = log_weights + of.log_transitions(t, row, chosen[t + 1, row, part])
                chosen[t, row, part] = _drawn(logs, self._rng)
        return t - 1, Info()


def _transitions(model: SlicedModel) -> Sequence[Any]:
    """Return the conditionals that connect a slice to the previous one."""
    late = {(n, -1) for n in model.order}
    return [c for c in model.conditionals.values() if any(v.name in late for v in c.parents)]


def _drawn(logs: Floats, rng: np.random.Generator) -> Ints:
    """Return ``(M,)`` columns drawn by log weights ``(M, N)``."""
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    ends = np.cumsum(weights, axis=1)
    points = rng.random(len(ends)) * ends[:, -1]
    return np.asarray((ends <= points[:, None]).sum(axis=1).clip(max=ends.shape[1] - 1))
