"""Densities of programs without tables, by one execution for each point."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import ExecutableModel
from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable
from pgnn.inference.continuous.coordinates import Reals, num_points
from pgnn.inference.continuous.densities import KnownStates

_EXECUTIONS = 4
"""Number of executions that check that a program always has the same sites."""


class ExecutedDensity(KnownStates):
    r"""Density of the real latents of a program whose control flow may depend on them.

    .. math:: \log p(r, e) = \sum_i \log p(x_i \mid x_{<i})

    The program is executed once for each point with all latent sites fixed, and the log
    probabilities of its sites are summed. Every execution must have the same sites, and discrete
    sites must be observed.

    Args:
        model: A program.
        latent: Its latent real variables.
        observed: ``(1, *shape)`` values of all other variables, state indices of discrete ones.

    Raises:
        Unsupported: If a discrete site is latent, or the set of sites depends on a value; the
            message names the site.

    Example:
        >>> import pgnn, pyro
        >>> from pyro.distributions import Normal
        >>> def bent():
        ...     x = pyro.sample("x", Normal(0.0, 1.0))
        ...     pyro.sample("y", Normal(x if x > 0 else -2 * x, 1.0), obs=torch.tensor(1.0))
        >>> model = pgnn.Program(bent)
        >>> density = ExecutedDensity(model, [model.variables["x"]], {})
        >>> density.log_density({"x": torch.tensor([0.0, -0.5])})
        tensor([-2.3379, -1.9629], dtype=torch.float64)
    """

    def __init__(self, model: ExecutableModel, latent: Sequence[Variable], observed: Reals) -> None:
        executable: Any = model
        super().__init__(executable.elements, observed)
        self.model, self.latent, self.variables = model, tuple(latent), executable.variables
        self.observed = {n: x[0] for n, x in observed.items()}
        for v in self.elements.variables:
            if v.name not in observed:
                raise Unsupported(
                    f"site {v.name!r} is discrete and latent, and cannot be summed out because "
                    f"{model.obstacle}",
                    "use engine=pgnn.ExecutionSampling()",
                )
        for seed in range(_EXECUTIONS):
            self._check(model.execute(self.observed, seed))

    def log_density(self, reals: Reals) -> Tensor:
        """See :class:`JointDensity`."""
        log_densities = []
        for k in range(num_points(reals)):
            point = {n: x[k] for n, x in reals.items()}
            if all(bool(x.detach().isfinite().all()) for x in point.values()):
                log_densities.append(self._executed(point).log_weight.double())
            else:
                log_densities.append(
                    torch.stack([x.sum() for x in point.values()]).sum() * torch.nan
                )
        return torch.stack(log_densities)

    def terms(self, reals: Reals) -> dict[Hashable, Tensor]:
        """Return the log density of each site."""
        terms: dict[Hashable, list[Tensor]] = {}
        for k in range(num_points(reals)):
            for name, x in self._executed({n: x[k] for n, x in reals.items()}).terms.items():
                terms.setdefault(name, []).append(x)
        return {n: torch.stack(x) for n, x in terms.items()}

    def _executed(self, point: Mapping[Hashable, Tensor]) -> Any:
        execution = self.model.execute({**self.observed, **point}, 0)
        self._check(execution)
        return execution

    def _check(self, execution: Any) -> None:
        """Raise if a latent site is missing from an execution."""
        missing = [n for n in self.variables if n not in execution.values]
        if missing:
            raise Unsupported(
                f"site {str(missing[0])!r} is not in every execution of the program, so the "
                "number of latent values varies",
                "use engine=pgnn.ExecutionSampling()",
            )
