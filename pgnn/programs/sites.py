"""What one sample statement of a program is: its distribution, its plates, its log probability."""

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
from torch.distributions import Bernoulli, Categorical, constraints
from torch.nn.functional import logsigmoid

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.support import support_of
from pgnn.factors.variable import Variable
from pgnn.programs.handlers import Plate, plates_of, scaled, thinning
from pgnn.programs.tracking import Sources, Tracked, plain, sources_of

_MAX_STATES = 2**12
"""States that the elements of one site may have together."""


class Kind(Enum):
    """What a site is to a question."""

    DISCRETE = "discrete"
    REAL = "real"
    OBSERVED = "observed"


@dataclass(frozen=True, eq=False)
class Site:
    """One sample statement.

    Attributes:
        name: Its name.
        kind: Finite latent, other latent, or observed by the program itself.
        axes: Its batch dimensions, the leftmost first.
        event: Its event shape.
        support: ``(K, *event)`` values of a finite one.
        sources: The latent sites that its log probability was computed from.
        value: What was drawn.
        log_prob: Of what was drawn, in the shape of the axes; of a finite one without thinning.
        weighted: Whether it is scaled, so that it need not sum to one.
        thinning: How many times as many rows its plates have as it sees; a part of the scale.
        auxiliary: Whether the program marks it so: a guide may have it where the model has not.
        constraint: What its values fulfil; all real numbers where the distribution does not tell.
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
    thinning: float = 1.0
    auxiliary: bool = False
    constraint: Any = constraints.real

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(a.size for a in self.axes)

    @property
    def drawn(self) -> Tensor:
        """What was drawn, ``(*sizes, *event)``."""
        return self.value.reshape([*self.sizes, *self.event])

    @property
    def num_states(self) -> int:
        """States of a finite site."""
        return 0 if self.support is None else len(self.support)

    def codes(self, value: Tensor) -> Tensor:
        """Return the state indices of values ``(*batch, *event)``, ``(*batch)``."""
        assert self.support is not None
        same = value.unsqueeze(-1 - len(self.event)) == self.support
        if self.event:
            same = same.flatten(start_dim=same.dim() - len(self.event)).all(-1)
        return same.to(torch.int64).argmax(-1)

    def variable(self, declared: Mapping[str, Variable]) -> Variable:
        """Return the site as a variable, with the name and labels that the program declares."""
        own = declared.get(self.name)
        name = self.name if own is None else own.name
        if self.kind is Kind.REAL:
            return Variable(name, None, (*self.sizes, *self.event))
        labels: Any = self.num_states
        if own is not None and own.is_discrete and own.num_states == self.num_states:
            labels = own.states
        return Variable(name, labels, self.sizes)

    def where(self) -> str:
        """Say which plates the site is in."""
        inside = [f"plate {a.name!r} of size {a.size}" for a in self.axes if a.name]
        return " and ".join(inside) if inside else "no plate"


def site_of(name: str, fn: Any, value: Any, observed: Any, message: dict[str, Any]) -> Site:
    """Return what one sample statement is, given the value it has in one execution.

    Raises:
        ModelError: If the value does not fit the distribution, or either does not fit a plate.
    """
    kind, support = _kind(name, fn, observed)
    try:
        states = 1 if support is None else len(support)
        bare = log_prob_of(fn, value)
        times = thinning(message)
        power = times if kind is Kind.DISCRETE else 1.0
        log_prob = scaled(bare, message, states, power)
    except (ValueError, RuntimeError) as error:
        raise ModelError(_misfit(name, fn, value, message, error)) from error
    if observed is not None:
        _check_crossed(name, fn, value, bare)
    plates, shape = plates_of(message), tuple(log_prob.shape)
    _check_plates(name, plates, shape, fn, value)
    scale = message["scale"]
    weighted = not (isinstance(scale, int | float) and scale == 1)
    if weighted and kind is Kind.DISCRETE and not math.isclose(_number(scale), times):
        raise powers(name, _number(scale))
    return Site(
        name,
        kind,
        _axes(plates, shape),
        tuple(fn.event_shape),
        support,
        sources_of(log_prob),
        plain(value).detach(),
        plain(log_prob).detach(),
        weighted,
        times,
        bool(message["infer"].get("is_auxiliary")),
        support_of(fn),
    )


def powers(name: str, scale: float) -> Unsupported:
    """Return the error of a discrete latent site that is scaled."""
    by = "" if math.isnan(scale) else f" by {scale:g}"
    return Unsupported(
        f"site {name!r} is discrete, latent and scaled{by}, by poutine.scale or by a plate of some "
        "of its rows: the power of its probabilities is none; give the plate all rows, and scale "
        "observed sites only"
    )


def is_computed(fn: Any) -> bool:
    """Whether there is but one value, so that a site of it is computed, not drawn."""
    return type(fn).__name__ in ("Delta", "Unit")


def has_density(fn: Any) -> bool:
    """Whether the one value has a density other than one, so that its site is a factor."""
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
    inner = fn
    while isinstance(inner, torch.distributions.Independent):
        inner = inner.base_dist
    if inner is fn or not inner.has_enumerate_support:
        return Kind.REAL, None
    states = plain(inner.enumerate_support(expand=False)).detach().flatten()
    count = math.prod(fn.event_shape)
    if len(states) ** count > _MAX_STATES:
        raise Unsupported(
            f"site {name!r} has {len(states)} ** {count} states, since .to_event() makes its "
            f"{count} elements one; put them in a plate instead"
        )
    return Kind.DISCRETE, torch.cartesian_prod(*[states] * count).reshape(-1, *fn.event_shape)


def _number(scale: Any) -> float:
    one = scale if not isinstance(scale, Tensor) else plain(scale)
    return float(one) if isinstance(one, int | float) or one.numel() == 1 else math.nan


def _axes(plates: Mapping[int, Plate], shape: tuple[int, ...]) -> tuple[Plate, ...]:
    """The plates of a site, and its own batch dimensions that stand in none."""
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
    """Raise if each of several values meets each of several distributions."""
    lead = tuple(value.shape[: value.dim() - len(fn.event_shape)])
    if tuple(log_prob.shape) not in (lead, tuple(fn.batch_shape)):
        raise ModelError(
            f"site {name!r}: values of shape {tuple(value.shape)} and a distribution of batch "
            f"shape {tuple(fn.batch_shape)} and event shape {tuple(fn.event_shape)} would be "
            f"crossed to {tuple(log_prob.shape)}; give the values the shape of the plates"
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
        name: Of the site.
        variable: What stands for it in questions and evidence; None if the program observes it.
        parents: The sites that its distribution depends on, in the order of the program.
        plates: The size of each plate around it, the outermost first.
        observed: Whether the program itself observes it (``obs=``).
    """

    name: str
    variable: Variable | None
    parents: tuple[str, ...]
    plates: Mapping[str, int]
    observed: bool

    @classmethod
    def read(cls, source: Any) -> dict[str, ProgramSite]:
        """Return the sites of a program that was read.

        Args:
            source: With ``sites``, ``names``, ``variables`` and ``graph``.
        """
        graph: nx.DiGraph = source.graph
        found = {}
        for name, site in source.sites.items():
            plates = {a.name: a.size for a in site.axes if a.name is not None}
            before = set(graph.predecessors(name))
            found[name] = cls(
                name=name,
                variable=source.variables[source.names[name]] if name in source.names else None,
                parents=tuple(n for n in source.sites if n in before),
                plates=MappingProxyType(plates),
                observed=name not in source.names,
            )
        return found


def log_prob_of(fn: Any, value: Any) -> Tensor:
    """Return the log probability of a value; ``-inf`` where it is zero.

    Args:
        fn: A distribution.
        value: ``(*batch, *event)``, broadcast with the distribution's batch.
    """
    if isinstance(fn, Categorical) and _of_probs(fn):
        pair = torch.broadcast_tensors(value.long().unsqueeze(-1), _log(fn.probs))  # type: ignore[no-untyped-call]
        chosen: Tensor = pair[1].gather(-1, pair[0][..., :1]).squeeze(-1)
        return chosen
    if isinstance(fn, Bernoulli) and _of_probs(fn):
        return torch.where(value != 0, _log(fn.probs), _log(1 - fn.probs))
    found: Tensor = fn.log_prob(value)
    return found


def log_table_of(fn: Any, support: Tensor, dim: int) -> Tensor:
    """Return the log probabilities of all states of a finite site.

    Args:
        fn: The distribution; along ``dim`` its batch has length one.
        support: ``(K, *event)`` values.
        dim: Negative dimension of the batch along which the states are laid out.
    """
    if isinstance(fn, Categorical) and type(fn).__name__ == "Categorical":
        table = _log(fn.probs) if _of_probs(fn) else fn.logits
        return _last_to(table, dim)
    if isinstance(fn, Bernoulli):
        if _of_probs(fn):
            off, on = _log(1 - fn.probs), _log(fn.probs)
        else:
            off, on = logsigmoid(-fn.logits), logsigmoid(fn.logits)
        return _last_to(torch.stack([off, on], dim=-1), dim)
    return log_prob_of(fn, support.reshape(len(support), *[1] * (-dim - 1), *support.shape[1:]))


def _last_to(table: Tensor, dim: int) -> Tensor:
    """Move the states from the last axis to a dimension of the batch before it."""
    missing = -dim - (table.dim() - 1)
    if missing > 0:
        table = table.reshape([*[1] * missing, *table.shape])
    table = table.transpose(dim - 1, -1)
    return table.squeeze(-1)


def _of_probs(fn: Any) -> bool:
    probs = fn.__dict__.get("probs")
    return probs is not None and getattr(fn, "_param", None) is probs


def _log(probs: Tensor) -> Tensor:
    # cells that share their numbers are computed once, and stay seen as such
    once = probs[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in probs.stride())]
    zero = once == 0
    return once.masked_fill(zero, 1.0).log().masked_fill(zero, -math.inf).expand(probs.shape)
