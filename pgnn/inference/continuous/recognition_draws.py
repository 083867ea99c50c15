"""Draws of latent variables from the recognition network of a model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from pgnn.abilities import AmortisedModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.heads import NeuralHead
from pgnn.factors.conditionals.neural import Neural
from pgnn.factors.finite import has_nan
from pgnn.factors.network_precision import mapped
from pgnn.factors.randomness import drawing_from
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.guide_draws import Drawn, GuideDraws
from pgnn.inference.continuous.guides import At
from pgnn.inference.continuous.objective import Elbo, Objective, Renyi

Values = dict[Hashable, Tensor]


class RecognitionDraws(GuideDraws):
    """Draws of the latent variables from the recognition conditionals of a model.

    Missing numbers of a partially observed vector are replaced by zeros.

    Args:
        model: A model with recognition conditionals.
        latents: Names of the unobserved latent variables.

    Raises:
        Unsupported: If a latent variable has no recognition conditional.
    """

    def __init__(self, model: AmortisedModel, latents: tuple[Hashable, ...]) -> None:
        super().__init__()
        for name in latents:
            if name not in model.recognition:
                raise Unsupported(
                    f"{name!r} is unobserved and has no recognition conditional",
                    "pass a guide, such as Variational(guide=pgnn.MeanFieldNormal())",
                )
        self._names = tuple(n for n in model.recognition if n in latents)
        self.is_density = all(_has_density(model.recognition[n]) for n in self._names)
        # not a submodule, because the parameters belong to the model
        self.__dict__["model"] = model

    @property
    def names(self) -> tuple[Hashable, ...]:
        """See :class:`GuideDraws`."""
        return self._names

    def draw(self, n: int, at: At, objective: Objective, generator: torch.Generator) -> Drawn:
        """See :class:`GuideDraws`.

        With an ``Elbo`` in closed form, ``log_q`` contains the divergence.

        Raises:
            Unsupported: If doubly reparameterised gradients are requested for several latent
                variables.
        """
        dreg = isinstance(objective, Renyi) and objective.doubly_reparameterised
        if dreg and len(self._names) > 1:
            raise Unsupported(
                "doubly reparameterised gradients support one latent variable, got "
                f"{len(self._names)}",
                "use an objective without doubly_reparameterised",
            )
        model: AmortisedModel = self.__dict__["model"]
        density = _density_at(at)
        known, rows = observed_values(density), len(at.rows)
        values: Values = {}
        log_q: Tensor = torch.zeros(n, rows, dtype=torch.float64)
        pathwise, points = not objective.score_function, None
        for name in self._names:
            q = _distribution(model.recognition[name], known, values, density.inputs, n)
            z, pathwise = _drawn(q, n, rows, pathwise, generator)
            points = z.reshape([*z.shape[:2], -1])
            values[name] = points.reshape(z.shape)
            prior = model.conditionals[name]
            log_q = log_q + _log_q(q, prior, known, values, density, objective)
        settled = self._names if _is_settled(density, objective) else ()
        return Drawn(values, log_q, pathwise, points if dreg else None, frozenset(settled))


def _has_density(conditional: Conditional) -> bool:
    head = conditional.head if isinstance(conditional, Neural) else None
    return not isinstance(head, NeuralHead) or head.is_density


def observed_values(density: SummedDensity) -> Values:
    """Return ``(R, *shape)`` values of the observations, zero where a number is missing."""
    observed, model = density.observed, density.model
    values: Values = {}
    for name, x in observed.reals.items():
        if name not in density.latents:
            values[name] = x.nan_to_num() if not density.checked and has_nan(x) else x
    for v in model.elements.variables:
        codes = observed.codes[:, model.elements.numbers(v.name).ravel()]
        if codes.size and codes.min() >= 0:
            states = torch.from_numpy(codes.astype(np.int64))
            values[v.name] = states.reshape(observed.num_rows, *v.shape)
    return values


def _density_at(at: At) -> SummedDensity:
    assert at.density is not None
    return at.density


def _distribution(
    conditional: Conditional, known: Values, drawn: Values, inputs: Mapping[Hashable, Any], n: int
) -> Distribution:
    """Return the distribution of a conditional, of batch shape ``(R,)``, given draws ``(n R,)``."""
    names = [v.name for v in conditional.parents]
    missing = [name for name in names if name not in known and name not in drawn]
    if missing:
        raise EvidenceError(
            f"the recognition network of {conditional.child.name!r} requires {missing[0]!r} in "
            "every row",
            "remove incomplete rows, or impute them",
        )
    times = n if any(name in drawn for name in names) else 1
    parents = {
        name: drawn[name].flatten(end_dim=1) if name in drawn else repeated(known[name], times)
        for name in names
    }
    covariates = {name: repeated(torch.as_tensor(x), times) for name, x in inputs.items()}
    return conditional.distribution(parents, covariates or None)


def repeated(x: Tensor, times: int) -> Tensor:
    """Repeat all rows a number of times, block by block."""
    return x if times == 1 else x.repeat(times, *[1] * (x.dim() - 1))


def _drawn(
    q: Distribution, n: int, rows: int, pathwise: bool, generator: torch.Generator
) -> tuple[Tensor, bool]:
    """Return draws ``(n, R, *event)``, and whether they are reparameterised."""
    pathwise = pathwise and q.has_rsample
    lead = (n,) if q.batch_shape == (rows,) else ()
    base: Any = q.base_dist if isinstance(q, Independent) else q
    if isinstance(base, Normal):  # the usual case; rsample would have to set the global generator
        noise = torch.randn(*lead, *base.loc.shape, generator=generator, dtype=base.loc.dtype)
        z = base.loc + base.scale * noise.to(base.loc.device)
        z = z if pathwise else z.detach()
    else:
        with drawing_from(generator):
            z = q.rsample(torch.Size(lead)) if pathwise else q.sample(torch.Size(lead))
    return z.reshape(n, rows, *q.event_shape), pathwise


def _log_q(
    q: Distribution,
    prior: Conditional,
    known: Values,
    drawn: Values,
    density: SummedDensity,
    objective: Objective,
) -> Tensor:
    r"""Return log densities ``(n, R)`` of the last draws, or terms that replace them.

    With a divergence in closed form or weighted, :math:`\log p(z) + \beta\, KL(q \,\|\, p)`; its
    difference to :math:`\log p(x, z)` is :math:`\log p(x \mid z) - \beta\, KL`. If the density can
    omit :math:`p(z)`, that term is omitted on both sides.
    """
    z = drawn[prior.child.name]
    n, rows = z.shape[:2]
    if not isinstance(objective, Elbo) or objective.is_plain:
        return _log_prob(held(q) if objective.path_only else q, z)
    p = _distribution(prior, known, {k: x for k, x in drawn.items() if x is not z},
                      density.inputs, n)  # fmt: skip
    if not objective.closed_form:
        log_q, log_p = _log_prob(held(q) if objective.path_only else q, z), _log_prob(p, z)
        return log_p + objective.beta * (log_q - log_p)
    divergence = _free_bits(_divergences(q, p, prior.child.name), objective.free_bits)
    weighted = objective.beta * divergence.reshape(-1, rows).expand(n, rows)
    return weighted if _is_settled(density, objective) else _log_prob(p, z) + weighted


def _is_settled(density: SummedDensity, objective: Objective) -> bool:
    """Whether divergences replace priors that the density omits."""
    return isinstance(objective, Elbo) and objective.closed_form and density.is_product


def _log_prob(distribution: Distribution, z: Tensor) -> Tensor:
    """Return log densities ``(n, R)`` of draws ``(n, R, *event)``."""
    n, rows = z.shape[:2]
    flat = distribution.batch_shape not in ((), (1,), (rows,))
    log_prob: Tensor = distribution.log_prob(z.flatten(end_dim=1) if flat else z)
    return log_prob.expand(n, rows) if not flat else log_prob.reshape(n, rows)


def _divergences(q: Distribution, p: Distribution, name: Hashable) -> Tensor:
    """Return ``(rows, D)`` divergences of each dimension of a variable, or ``(rows, 1)`` of all."""
    try:
        if isinstance(q, Independent) and isinstance(p, Independent):
            each: Tensor = kl_divergence(q.base_dist, p.base_dist)
            return each.flatten(start_dim=max(0, each.dim() - len(q.event_shape)))
        total: Tensor = kl_divergence(q, p)
        return total.unsqueeze(-1)
    except NotImplementedError:
        raise Unsupported(
            f"the divergence of {type(q).__name__} from {type(p).__name__} of {name!r} has no "
            "closed form",
            "use Elbo() without closed_form and free_bits",
        ) from None


def _free_bits(divergences: Tensor, least: float) -> Tensor:
    """Sum divergences over dimensions, each bounded below by ``least`` on average."""
    if not least:
        return divergences.sum(-1)
    spent = divergences.mean(0) > least
    return torch.where(spent, divergences, torch.full_like(divergences, least)).sum(-1)


def held(distribution: Distribution) -> Distribution:
    """Return the distribution with detached parameters."""
    fixed: Distribution = mapped(distribution, Tensor.detach)
    return fixed
