"""Densities of programs that have no tables: one execution for each point."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable
from pgnn.inference.continuous.coordinates import Reals, Support
from pgnn.inference.continuous.supports import same_constraint

_EXECUTIONS = 4


class ExecutedDensity:
    r"""Density of the real latents of a program whose control flow may depend on them.

    .. math:: \log p(r, e) = \sum_i \log p(x_i \mid x_{<i})

    The program is executed with all of its latent sites held, once for each point, and Pyro's
    distributions say how probable that is. So there must be the same sites in every execution,
    and none of them discrete unless it was observed.

    Args:
        model: A program.
        latent: Its latent real variables.
        known: ``(1, *shape)`` values of all others, state indices of discrete ones.

    Raises:
        Unsupported: If a discrete site is latent, or which sites there are depends on a value;
            the message names the site.

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

    def __init__(
        self, model: Any, latent: Sequence[Variable], known: Mapping[Hashable, Tensor]
    ) -> None:
        self.model, self.latent = model, tuple(latent)
        self.known = {n: x[0] for n, x in known.items()}
        for v in model.variables.values():
            if v.is_discrete and v.name not in known:
                raise Unsupported(
                    f"site {v.name!r} is discrete and latent, and is not summed out since "
                    f"{model.obstacle}; use engine=pgnn.ExecutionSampling()"
                )
        for seed in range(_EXECUTIONS):
            self._check(model.execute(self.known, seed))

    def supports(self) -> dict[Hashable, Support]:
        """Return the values that each latent variable can have.

        Raises:
            Unsupported: If they depend on other latent sites.
        """
        first, second = (self.model.execute(self.known, seed) for seed in (0, 1))
        found = {}
        for v in self.latent:
            one, other = (e.sites[self._site(v)] for e in (first, second))
            if not same_constraint(one.constraint, other.constraint):
                raise Unsupported(
                    f"the support of site {one.name!r} depends on latent sites; declare it as a "
                    "transform of a site that has the same support always"
                )
            found[v.name] = Support(one.constraint, one.value.dtype, tuple(one.value.shape))
        return found

    def log_density(self, reals: Reals) -> Tensor:
        """Return ``(B,)`` log densities of ``(B, *shape)`` values; ``NaN`` of what is no number."""
        rows = len(next(iter(reals.values())))
        found = []
        for k in range(rows):
            own = {n: x[k] for n, x in reals.items()}
            if all(bool(x.detach().isfinite().all()) for x in own.values()):
                found.append(self._executed(own).log_weight.double())
            else:
                found.append(torch.stack([x.sum() for x in own.values()]).sum() * torch.nan)
        return torch.stack(found)

    def terms(self, reals: Reals) -> dict[Hashable, Tensor]:
        """Return the log density of each site, ``(B,)``."""
        rows = len(next(iter(reals.values())))
        found: dict[Hashable, list[Tensor]] = {}
        for k in range(rows):
            for name, x in self._executed({n: x[k] for n, x in reals.items()}).terms.items():
                found.setdefault(name, []).append(x)
        return {n: torch.stack(x) for n, x in found.items()}

    def marginals(self, reals: Reals, wanted: Any) -> Tensor:
        """Return ``(B, S)`` marginals of the wanted elements: all of them were observed."""
        elements = self.model.elements
        states = self.draw(reals, 0)
        parts = [
            torch.nn.functional.one_hot(states[:, e], int(elements.card[e])).double()
            for e in range(len(elements))
            if wanted[e]
        ]
        return torch.cat([torch.zeros(len(states), 0, dtype=torch.float64), *parts], dim=1)

    def draw(self, reals: Reals, seed: int) -> Tensor:
        """Return ``(B, E)`` states of all elements, which were observed."""
        elements = self.model.elements
        rows = len(next(iter(reals.values())))
        states = torch.zeros(len(elements), dtype=torch.int64)
        for v in elements.variables:
            states[torch.from_numpy(elements.numbers(v.name))] = self.known[v.name].reshape(-1)
        return states.expand(rows, -1)

    def _executed(self, own: Mapping[Hashable, Tensor]) -> Any:
        done = self.model.execute({**self.known, **own}, 0)
        self._check(done)
        return done

    def _check(self, done: Any) -> None:
        """Raise if other sites are there than are held."""
        missing = [n for n in self.model.variables if n not in done.values]
        if missing:
            raise Unsupported(
                f"site {str(missing[0])!r} is not in every execution of the program, so that the "
                "number of its latent values changes; use engine=pgnn.ExecutionSampling()"
            )

    def _site(self, variable: Variable) -> str:
        sites = self.model.sites.values()
        return next(str(s.name) for s in sites if s.variable == variable)
