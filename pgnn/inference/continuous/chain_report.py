"""Whether chains of real variables can be trusted, and what to do if not."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from pgnn.errors import NotConverged
from pgnn.inference.continuous.hamiltonian_chains import Draws
from pgnn.inference.continuous.real_potential import RealPotential
from pgnn.inference.rank_diagnostics import rank_effective_sample_size, rank_r_hat

_APART = 1.05


def diagnostics_of(
    potential: RealPotential, draws: Draws, values: Mapping[Hashable, Tensor]
) -> dict[str, Any]:
    """Return what there is to say about chains; see :class:`pgnn.MCMC`."""
    r_hats = {n: float(np.max(rank_r_hat(x.numpy()))) for n, x in values.items()}
    sizes = {n: float(np.min(rank_effective_sample_size(x.numpy()))) for n, x in values.items()}
    number = draws.diverged.sum(axis=1)
    told = {
        "r_hat": r_hats,
        "effective_sample_size": sizes,
        "divergences": number,
        "acceptance": draws.acceptance.mean(axis=1),
        "step_size": draws.step_size,
        "tree_depth": draws.depth.mean(axis=1),
        "gradients": draws.evaluations,
        "compiled": potential.compiled,
        "converged": bool(number.sum() == 0 and all(x <= _APART for x in r_hats.values())),
    }
    if number.sum():
        told["divergent_at"] = _divergent_at(potential, draws)
    return told


def _divergent_at(potential: RealPotential, draws: Draws) -> Hashable:
    """The variable whose coordinates where it diverged are furthest from the others' mean."""
    flat = draws.points.reshape(-1, draws.points.shape[-1])
    there = flat[draws.diverged.reshape(-1)].mean(axis=0)
    off = np.abs(there - flat.mean(axis=0)) / (flat.std(axis=0) + 1e-300)
    return potential.coordinates.name_of(int(off.argmax()))


def report(told: Mapping[str, Any], total: int) -> None:
    """Warn of chains that disagree and trajectories that diverged."""
    said = []
    apart = {n: x for n, x in told["r_hat"].items() if not x <= _APART}
    if apart:
        worst = ", ".join(f"{n!r} ({x:.2f})" for n, x in apart.items())
        said.append(f"the chains disagree about {worst}, R-hat above {_APART}; run them longer")
    number = int(np.sum(told["divergences"]))
    if number:
        said.append(
            f"{number} of {total} trajectories diverged, most often near "
            f"{told['divergent_at']!r}; raise target_accept, or declare the model with the "
            "scale taken out (non-centred)"
        )
    if said:
        warnings.warn("MCMC: " + "; ".join(said), NotConverged, stacklevel=4)
