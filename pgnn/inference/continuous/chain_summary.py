"""Summaries of Markov chains of real variables: draws, marginals, convergence diagnostics."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.inference.continuous.hamiltonian_chains import Draws
from pgnn.inference.continuous.potential_energy import PotentialEnergy
from pgnn.inference.convergence import LARGEST_R_HAT, Convergence
from pgnn.inference.diagnostics import standard_error
from pgnn.inference.rank_diagnostics import rank_effective_sample_size, rank_r_hat


def diagnostics_of(
    potential: PotentialEnergy, draws: Draws, values: Mapping[Hashable, Tensor]
) -> dict[str, Any]:
    """Return diagnostics of chains; see :class:`pgnn.MCMC`."""
    r_hats = {n: float(np.max(rank_r_hat(x.numpy()))) for n, x in values.items()}
    sizes = {n: float(np.min(rank_effective_sample_size(x.numpy()))) for n, x in values.items()}
    number = draws.diverged.sum(axis=1)
    diagnostics = {
        "r_hat": r_hats,
        "effective_sample_size": sizes,
        "divergences": number,
        "acceptance": draws.acceptance.mean(axis=1),
        "step_size": draws.step_size,
        "tree_depth": draws.depth.mean(axis=1),
        "gradients": draws.evaluations,
        "compiled": potential.compiled,
        "converged": bool(number.sum() == 0 and all(x <= LARGEST_R_HAT for x in r_hats.values())),
    }
    if number.sum():
        diagnostics["divergent_at"] = _divergent_at(potential, draws)
    return diagnostics


def _divergent_at(potential: PotentialEnergy, draws: Draws) -> Hashable:
    """Return the variable whose mean over divergent draws differs most from that over all draws."""
    flat = draws.points.reshape(-1, draws.points.shape[-1])
    divergent_mean = flat[draws.diverged.reshape(-1)].mean(axis=0)
    z_scores = np.abs(divergent_mean - flat.mean(axis=0)) / (flat.std(axis=0) + 1e-300)
    return potential.coordinates.name_of(int(z_scores.argmax()))


def report(potential: PotentialEnergy, diagnostics: Mapping[str, Any], total: int) -> None:
    """Warn about chains that disagree and trajectories that diverged."""
    chains = len(diagnostics["divergences"])
    advice = "run it longer" if chains == 1 else "run them longer"
    verdict = Convergence("MCMC").chains_apart(diagnostics["r_hat"], advice, chains=chains)
    number = int(np.sum(diagnostics["divergences"]))
    if number:
        advice = "raise target_accept"
        if potential.is_centred:
            advice += ", or use a non-centred parameterisation"
        verdict.add(
            f"{number} of {total} trajectories diverged, most often near "
            f"{diagnostics['divergent_at']!r}",
            advice,
        )
    verdict.warn()


_THINNED, _FEWEST = 400, 4


def thin(values: Mapping[Hashable, Tensor], n: int) -> dict[Hashable, Tensor]:
    """Return ``n`` of the draws, evenly spaced over all chains."""
    thinned = {}
    for name, x in values.items():
        flat = x.flatten(end_dim=1)
        thinned[name] = flat[torch.linspace(0, len(flat) - 1, n).round().long()]
    return thinned


def codes_of(
    potential: PotentialEnergy, reals: Mapping[Hashable, Tensor], n: int, seed: int | None
) -> Tensor:
    """Return ``(n, E)`` states drawn given the reals."""
    size = len(potential.model.elements)
    if not size or not n:
        return torch.zeros(n, size, dtype=torch.int64)
    return potential.density.draw(reals, int(np.random.default_rng(seed).integers(2**31)))


def all_reals(
    potential: PotentialEnergy, reals: Mapping[Hashable, Tensor], n: int
) -> dict[Hashable, Tensor]:
    """Return values of all real variables, including observed ones."""
    values = dict(reals)
    for v in potential.model.variables.values():
        if not v.is_discrete and v.name not in values:
            values[v.name] = potential.observed.reals[v.name].expand(n, *v.shape)
    return values


def marginals_of(
    potential: PotentialEnergy, values: Mapping[Hashable, Tensor], mask: Any
) -> tuple[Tensor, Tensor]:
    """Return averages of exact marginals of some elements given thinned draws.

    Returns:
        ``(1, S)`` marginals and ``(S,)`` standard errors, NaN of less than four draws of a chain.
    """
    if not mask.any():
        return torch.zeros(1, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    chains, samples = next(iter(values.values())).shape[:2]
    each = min(max(1, _THINNED // chains), samples)
    with torch.no_grad():
        given = potential.density.marginals(thin(values, chains * each), mask)
    traces = given.reshape(chains, each, -1)
    if each < _FEWEST:
        return given.mean(dim=0, keepdim=True), torch.full_like(given[0], torch.nan)
    errors = torch.as_tensor(standard_error(traces.numpy(force=True)))
    return given.mean(dim=0, keepdim=True), errors
