"""Real latent variables as one vector of unconstrained numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable


@dataclass(frozen=True, eq=False)
class Support:
    """Where a real variable may be.

    Attributes:
        constraint: One of torch's.
        dtype: Of its values.
    """

    constraint: Any = constraints.real
    dtype: torch.dtype = torch.float64


class RealLatents:
    """Puts unconstrained numbers ``(..., D)`` and values of variables into each other's form.

    Args:
        variables: The real variables, in order.
        supports: Of each, by name.

    Attributes:
        size: Unconstrained numbers ``D``.

    Raises:
        Unsupported: If no bijection onto a support is known.

    Example:
        >>> latents = RealLatents([Variable("rate")], {"rate": Support(constraints.positive)})
        >>> values, log_det = latents.values(torch.tensor([[[0.5]]]))
        >>> values["rate"], log_det
        (tensor([[1.6487]], dtype=torch.float64), tensor([[0.5000]]))
    """

    def __init__(self, variables: Sequence[Variable], supports: Mapping[Hashable, Support]) -> None:
        self.variables = tuple(variables)
        self.supports = {v.name: supports[v.name] for v in self.variables}
        self._maps = {v.name: _bijection(v.name, supports[v.name]) for v in self.variables}
        self._shapes: dict[Hashable, torch.Size] = {
            v.name: self._maps[v.name].inverse_shape(torch.Size(v.shape)) for v in self.variables
        }
        self._sizes = [self._shapes[v.name].numel() for v in self.variables]
        self.size = sum(self._sizes)

    @property
    def names(self) -> tuple[Hashable, ...]:
        """Names of the variables."""
        return tuple(v.name for v in self.variables)

    def values(self, z: Tensor) -> tuple[dict[Hashable, Tensor], Tensor]:
        """Return values ``(*batch, *shape)`` by name, and log determinants ``(*batch)``.

        Args:
            z: ``(*batch, D)`` unconstrained numbers.
        """
        batch = z.shape[:-1]
        found: dict[Hashable, Tensor] = {}
        log_det = z.new_zeros(batch)
        for v, part in zip(self.variables, torch.split(z, self._sizes, dim=-1), strict=True):
            raw = part.reshape([*batch, *self._shapes[v.name]])
            value = self._maps[v.name](raw)
            own = self._maps[v.name].log_abs_det_jacobian(raw, value)
            log_det = log_det + own.reshape([*batch, -1]).sum(-1)
            found[v.name] = value.to(self.supports[v.name].dtype)
        return found, log_det

    def unconstrained(self, values: Mapping[Hashable, Tensor]) -> Tensor:
        """Return ``(*batch, D)`` numbers of values ``(*batch, *shape)``."""
        parts = []
        for v in self.variables:
            x = values[v.name].double()
            lead = x.shape[: x.dim() - len(v.shape)]
            parts.append(self._maps[v.name].inv(x).reshape([*lead, -1]))
        return torch.cat(parts, dim=-1)


def _bijection(name: Hashable, support: Support) -> Any:
    try:
        return biject_to(support.constraint)
    except NotImplementedError:
        raise Unsupported(
            f"{name!r} has the support {support.constraint}, onto which no bijection from real "
            "numbers is known; give it as evidence"
        ) from None


def supports_of(model: Any, latent: Sequence[Hashable], inputs: Any = None) -> dict[Any, Support]:
    """Return the supports of real variables of a directed model or a program.

    They are read off two draws from the prior.

    Args:
        model: A model with conditionals, or a program.
        latent: Names of the real variables that matter.
        inputs: Covariates by name.

    Raises:
        Unsupported: If a support depends on other variables.
    """
    if hasattr(model, "conditionals"):
        first, second = (_of_graph(model, inputs, seed) for seed in (0, 1))
    elif hasattr(model, "execute"):
        from pgnn.inference.continuous.pyro_trace import supports_of_sites

        first, second = (supports_of_sites(model, seed) for seed in (0, 1))
    else:
        return {n: Support() for n in latent}
    for name in latent:
        if _bounds(first[name].constraint) != _bounds(second[name].constraint):
            raise Unsupported(
                f"the support of {name!r} depends on other variables; write it as a transform of a "
                "variable that has the same support always"
            )
    return {n: first[n] for n in latent}


def _of_graph(model: Any, inputs: Any, seed: int) -> dict[Any, Support]:
    """Supports of the variables, from one draw, parents first."""
    found: dict[Any, Support] = {}
    values: dict[Hashable, Tensor] = {}
    given = {n: x[:1] for n, x in (inputs or {}).items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for name in model.order:
            conditional = model.conditionals[name]
            own = {v.name: values[v.name] for v in conditional.parents}
            dist = conditional.distribution(own, given or None)
            values[name] = dist.sample(() if dist.batch_shape else (1,))
            if not conditional.child.is_discrete:
                found[name] = Support(support_of(dist), values[name].dtype)
    return found


def support_of(dist: Any) -> Any:
    """Return the support of a distribution; all real numbers where it does not tell."""
    try:
        return dist.support if dist.support is not None else constraints.real
    except NotImplementedError:
        return constraints.real


def _bounds(constraint: Any) -> list[Any]:
    """The numbers that a constraint is made of."""
    inner = getattr(constraint, "base_constraint", constraint)
    bounds = [getattr(inner, n, None) for n in ("lower_bound", "upper_bound")]
    return [None if b is None else torch.as_tensor(b).tolist() for b in bounds]
