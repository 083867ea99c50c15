"""What a checkpoint keeps of emissions besides their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgnn.factors.conditionals.bernoulli import Bernoulli
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.covariance import Covariance
from pgnn.factors.conditionals.diagonal_covariance import Diagonal, Spherical
from pgnn.factors.conditionals.emission import Emission
from pgnn.factors.conditionals.full_covariance import Full, Tied
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.gaussian_mixture import GaussianMixture
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.conditionals.poisson import Poisson
from pgnn.factors.variable import Variable

EMISSIONS: tuple[type[Emission], ...] = (
    Gaussian,
    GaussianMixture,
    LinearGaussian,
    Poisson,
    Bernoulli,
)
"""The kinds that can be made again."""

_FORMS: dict[str, Callable[[float], Covariance]] = {
    form.__name__: form for form in (Full, Tied, Diagonal, Spherical)
}


def describe_emission(emission: Emission) -> dict[str, Any] | None:
    """Return the settings of an emission by what JSON can hold; None if one cannot be kept."""
    if isinstance(emission, Poisson):
        return {"min_rate": emission.min_rate}
    if isinstance(emission, Bernoulli):
        return {"min_prob": emission.min_prob}
    normal = emission.components if isinstance(emission, GaussianMixture) else emission
    form: Any = getattr(normal, "form", None)
    if type(form) not in _FORMS.values():
        return None
    settings = {"form": type(form).__name__, "min_variance": form.min_variance}
    if isinstance(emission, GaussianMixture):
        settings["num_components"] = emission.num_components
    return settings


def make_emission(
    kind: str, child: Variable, parents: Sequence[Variable], settings: Mapping[str, Any]
) -> Conditional:
    """Make an emission with its settings, and learnable numbers of the right shapes."""
    given = dict(settings)
    if "form" in given:
        given["form"] = _FORMS[given["form"]](given.pop("min_variance"))
    make: dict[str, Callable[..., Emission]] = {e.__name__: e for e in EMISSIONS}
    return make[kind](child, parents, **given)
