"""Sample sites of a program, with their distributions, plates and log probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

import networkx as nx
import torch
from torch import Tensor
from torch.distributions import constraints

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.heads import PointMass
from pgnn.factors.support import support_of
from pgnn.factors.variable import Variable
from pgnn.programs.handlers import Plate, is_masked, observed_values, plates_of, scaled, thinning
from pgnn.programs.log_probabilities import all_possible, log_prob_of
from pgnn.programs.tracking import Sources, Tracked, plain, sources_of

_MAX_STATES = 2**12
"""Largest number of joint states of the elements of a site."""


class Kind(Enum):
    """The role of a site in a query."""

    DISCRETE = "discrete"
    REAL = "real"
    OBSERVED = "observed"


@dataclass(frozen=True, eq=False)
class Site:
    """One sample statement.

    Attributes:
        name: Name of the site.
        kind: Finite latent, other latent, or observed by the program.
        axes: Batch dimensions, the leftmost first.
        event: Event shape.
        support: ``(K, *event)`` values of a finite site, jointly over the independent elements
            that ``to_event`` joins.
        elements: Shape of these elements, each of which is a variable; ``()`` for none.
        states: ``(K,)`` values of one element; equal to the support if there are no elements.
        sources: The latent sites from which the log probability was computed.
        value: The drawn value.
        log_prob: Log probability of the value, in the shape of the axes; without the scale if the
            site is finite.
        weighted: Whether the site is scaled, so that it need not sum to one.
        scale: Factor of the log probability; NaN if it differs between cells.
        thinning: Ratio of all rows of the plates to those in the batch; a factor of the scale.
        auxiliary: Whether the site is marked as auxiliary, for sites of a guide without a
            counterpart in the model.
        constraint: Constraint on the values; the real numbers if the distribution declares none.
        in_support: Whether the site is observed and all of its data is in the support.
        constant: Whether it is real and has a point mass at a value that never changes, as the
            sites of variables that were set by an intervention.
    """

    name: str
    kind: Kind
    axes: tuple[Plate, ...]
    event: tuple[int, ...]
    support: Tensor | None
    sources: Sources
    value: Tensor
    log_prob: Tensor
    weighted: bool
    scale: float = 1.0
    thinning: float = 1.0
    auxiliary: bool = False
    constraint: Any = constraints.real
    elements: tuple[int, ...] = ()
    in_support: bool = False
    constant: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(a.size for a in self.axes)

    @property
    def drawn(self) -> Tensor:
        """The drawn value, ``(*sizes, *event)``."""
        return self.value.reshape([*self.sizes, *self.event])

    @property
    def num_states(self) -> int:
        """Number of states of a finite site."""
        return 0 if self.support is None else len(self.support)

    @property
    def states(self) -> Tensor:
        """See :class:`Site`."""
        assert self.support is not None
        if not self.elements:
            return self.support
        one = self.support.reshape(len(self.support), -1)[:, -1]  # the fastest-changing element
        return one[: self.num_element_states]

    @property
    def num_element_states(self) -> int:
        """Number of states of each element; of the site, if it has no elements."""
        count = math.prod(self.elements)
        return round(self.num_states ** (1.0 / count)) if count > 1 else self.num_states

    def joint_codes(self, value: Tensor) -> Tensor:
        """Return the indices ``(*batch)`` of values ``(*batch, *event)`` in the support."""
        assert self.support is not None
        return _places(value, self.support, len(self.event))

    def codes(self, value: Tensor) -> Tensor:
        """Return the state indices of values ``(*batch, *event)``, ``(*batch, *elements)``."""
        return _places(value, self.states, 0) if self.elements else self.joint_codes(value)

    def shape_in(self, value: Tensor) -> tuple[int, ...]:
        """Return the shape of the state indices of a value."""
        lead = tuple(value.shape[: value.dim() - len(self.event)])
        return (*lead, *self.elements)

    def variable(self, declared: Mapping[str, Variable]) -> Variable:
        """Return the site as a variable, with the declared name and labels."""
        variable = declared.get(self.name)
        name = self.name if variable is None else variable.name
        if self.kind is Kind.REAL:
            return Variable(name, None, (*self.sizes, *self.event))
        count = self.num_element_states
        labels: Any = count
        if variable is not None and variable.is_discrete and variable.num_states == count:
            labels = variable.states
        return Variable(name, labels, (*self.sizes, *self.elements))

    def where(self) -> str:
        """Describe the plates of the site."""
        inside = [f"plate {a.name!r} of size {a.size}" for a in self.axes if a.name]
        return " and ".join(inside) if inside else "no plate"


def _places(value: Tensor, support: Tensor, event: int) -> Tensor:
    """Return the index of each value in the support."""
    same = value.unsqueeze(-1 - event) == support
    if event:
        same = same.flatten(start_dim=same.dim() - event).all(-1)
    return same.to(torch.int64).argmax(-1)


def site_of(name: str, fn: Any, value: Any, observed: Any, message: dict[str, Any]) -> Site:
    """Return the site of a sample statement, given its value in one execution.

    Raises:
        ModelError: If the value does not fit the distribution, or either does not fit a plate.
    """
    kind, support = _kind(name, fn, observed)
    try:
        if observed is not None:
            value = observed_values(fn, value, message)
            _check_numbers(name, fn, value)
        possible = observed is not None and not sources_of(value) and all_possible(fn, value)
        bare = log_prob_of(fn, value, possible)
        scale = _number(message["scale"])
        if kind is Kind.DISCRETE and math.isnan(scale):
            raise powers(name)
        power = scale if kind is Kind.DISCRETE else 1.0
        log_prob = scaled(bare, message, kind is not Kind.OBSERVED, power)
    except (ValueError, RuntimeError) as error:
        raise ModelError(_misfit(name, fn, value, message, error)) from error
    if observed is not None:
        _check_crossed(name, fn, value, bare)
    plates, shape = plates_of(message), tuple(log_prob.shape)
    _check_plates(name, plates, shape, fn, value)
    weighted = scale != 1.0 or (kind is Kind.DISCRETE and is_masked(elementwise(fn)))
    return Site(
        name,
        kind,
        _axes(plates, shape),
        tuple(fn.event_shape),
        support,
        sources_of(log_prob),
        plain(observed if observed is not None else value).detach(),
        plain(log_prob).detach(),
        weighted,
        scale,
        thinning(message),
        bool(message["infer"].get("is_auxiliary")),
        support_of(fn),
        tuple(fn.event_shape) if support is not None and elementwise(fn) is not fn else (),
        possible,
        kind is Kind.REAL and _is_constant(elementwise(fn)),
    )


def _is_constant(fn: Any) -> bool:
    """Whether a distribution is a point mass of a model at a value that never changes."""
    return isinstance(fn, PointMass) and not sources_of(fn.value) and not fn.value.requires_grad


def powers(name: str) -> Unsupported:
    """Return the error for a discrete latent site whose cells have different scales."""
    return Unsupported(
        f"site {name!r} is discrete and latent, and its scale differs between cells or depends "
        "on other sites",
        "scale all discrete sites by one number",
    )


def elementwise(fn: Any) -> Any:
    """Return the distribution without the independent dimensions added by ``to_event``."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return fn


def is_computed(fn: Any) -> bool:
    """Whether a distribution is a point mass, so that its site is deterministic."""
    return type(fn).__name__ in ("Delta", "Unit")


def has_density(fn: Any) -> bool:
    """Whether a point mass has a log density other than zero, so that its site is a factor."""
    density = getattr(fn, "log_density", None)
    if not isinstance(density, Tensor) or isinstance(density, Tracked) or density.requires_grad:
        return True
    return bool((density != 0).any())


def _kind(name: str, fn: Any, observed: Any) -> tuple[Kind, Tensor | None]:
    if observed is not None:
        return Kind.OBSERVED, None
    if getattr(fn, "has_enumerate_support", False):
        support = plain(fn.enumerate_support(expand=False)).detach()
        return Kind.DISCRETE, support.reshape(len(support), *fn.event_shape)
    inner = elementwise(fn)
    if inner is fn or not inner.has_enumerate_support:
        return Kind.REAL, None
    states = plain(inner.enumerate_support(expand=False)).detach().flatten()
    count = math.prod(fn.event_shape)
    if len(states) ** count > _MAX_STATES:
        raise Unsupported(
            f"site {name!r} has {len(states)} ** {count} joint states, because .to_event() joins "
            f"its {count} elements",
            "put them in a plate instead",
        )
    return Kind.DISCRETE, torch.cartesian_prod(*[states] * count).reshape(-1, *fn.event_shape)


def _number(scale: Any) -> float:
    """Return a constant scale as a float; NaN if it is not constant."""
    if isinstance(scale, int | float):
        return float(scale)
    if sources_of(scale) or scale.requires_grad or scale.numel() != 1:
        return math.nan
    return float(scale)


def _axes(plates: Mapping[int, Plate], shape: tuple[int, ...]) -> tuple[Plate, ...]:
    """Return the plates of a site, and its batch dimensions outside of plates."""
    deepest = min([-len(shape), *plates])
    axes = [plates.get(d, Plate(None, d, _size(shape, d))) for d in range(deepest, 0)]
    return tuple(a for a in axes if a.name is not None or a.size != 1)


def _size(shape: tuple[int, ...], dim: int) -> int:
    return shape[dim] if -dim <= len(shape) else 1


def _check_plates(
    name: str, plates: Mapping[int, Plate], shape: tuple[int, ...], fn: Any, value: Any
) -> None:
    for plate in plates.values():
        if _size(shape, plate.dim) not in (1, plate.size):
            raise ModelError(
                f"site {name!r} does not fit plate {plate.name!r}: the plate has size "
                f"{plate.size} along dimension {plate.dim}, but the value has shape "
                f"{tuple(value.shape)} and the distribution batch shape {tuple(fn.batch_shape)}"
            )


def _check_crossed(name: str, fn: Any, value: Any, log_prob: Tensor) -> None:
    """Raise if several values are broadcast against several distributions."""
    lead = tuple(value.shape[: value.dim() - len(fn.event_shape)])
    if tuple(log_prob.shape) not in (lead, tuple(fn.batch_shape)):
        raise ModelError(
            f"site {name!r}: values of shape {tuple(value.shape)} and a distribution of batch "
            f"shape {tuple(fn.batch_shape)} and event shape {tuple(fn.event_shape)} broadcast to "
            f"{tuple(log_prob.shape)}",
            "give the values the shape of the plates",
        )


def _misfit(name: str, fn: Any, value: Any, message: dict[str, Any], error: Exception) -> str:
    plates = [f"plate {p.name!r} of size {p.size}" for p in plates_of(message).values()]
    place = f" in {' and '.join(plates)}" if plates else ""
    return (
        f"site {name!r}{place}: a value of shape {tuple(value.shape)} does not fit a distribution "
        f"of batch shape {tuple(fn.batch_shape)} and event shape {tuple(fn.event_shape)} ({error})"
    )


@dataclass(frozen=True, eq=False)
class ProgramSite:
    """One sample statement of a program.

    Attributes:
        name: Name of the site.
        variable: Variable of the site; None if the program observes it.
        parents: Sites on which its distribution depends, in the order of the program.
        plates: The size of each plate around the site, the outermost first.
        observed: Whether the program observes the site (``obs=``).
    """

    name: str
    variable: Variable | None
    parents: tuple[str, ...]
    plates: Mapping[str, int]
    observed: bool

    @classmethod
    def read(cls, source: Any) -> dict[str, ProgramSite]:
        """Return the sites of an analysed program.

        Args:
            source: Analysed program with ``sites``, ``names``, ``variables`` and ``graph``.
        """
        graph: nx.DiGraph = source.graph
        described = {}
        for name, site in source.sites.items():
            plates = {a.name: a.size for a in site.axes if a.name is not None}
            before = set(graph.predecessors(name))
            described[name] = cls(
                name=name,
                variable=source.variables[source.names[name]] if name in source.names else None,
                parents=tuple(n for n in source.sites if n in before),
                plates=MappingProxyType(plates),
                observed=name not in source.names,
            )
        return described


def _check_numbers(name: str, fn: Any, observed: Any) -> None:
    """Raise if an observed and unmasked value is ``NaN``."""
    if not (isinstance(observed, Tensor) and observed.is_floating_point()):
        return
    missing = plain(observed).detach().isnan()
    event = len(fn.event_shape)
    missing = missing.flatten(start_dim=missing.dim() - event).any(-1) if event else missing
    if bool(missing.any()):
        where = missing.nonzero()[0].tolist()
        place = f" at {where}" if where else ""
        raise ModelError(
            f"site {name!r} is observed as NaN{place}",
            "leave it out of the data, or mask missing values by obs_mask= or poutine.mask",
        )
