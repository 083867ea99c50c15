"""Directed graph models as Pyro programs: a sample site for every variable."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Hashable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pgnn.abilities import DirectedModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exogenous import Exogenous
from pgnn.factors.conditionals.renamed import Renamed
from pgnn.factors.variable import Variable

PLATE = "rows"
"""The plate of rows, around all sites."""


class ModelProgram(nn.Module):
    """The Pyro program of a model, with the variable of each of its sites.

    Attributes:
        sites: The site of each variable.
        site_variables: The variable of each site.
    """

    sites: Mapping[Hashable, str]
    site_variables: Mapping[str, Variable]

    def name_sites(self, variables: Mapping[Hashable, Variable]) -> None:
        """Give each variable a site."""
        self.sites = site_names(variables)
        self.site_variables = {self.sites[n]: v for n, v in variables.items()}


class GraphProgram(ModelProgram):
    r"""The program of a directed model: parents first, each variable is sampled given its parents.

    All of Pyro works on it: ``condition``, ``replay``, enumeration, ``SVI``. It keeps no
    parameters of its own and registers none with Pyro: they stay in the model's conditionals.

    Discrete sites have state indices as values, in the model's order of states.

    Args:
        model: A Bayesian network.
        inputs: Covariates, ``(B, ...)``; the sites are then in a plate of ``B`` rows.

    Attributes:
        sites: The site of each variable: its name, as text if it is none.
        site_variables: The variable of each site.

    Raises:
        EvidenceError: If the inputs disagree on the number of rows.

    Example:
        >>> import pgnn
        >>> from pyro import poutine
        >>> model = pgnn.BayesianNetwork(
        ...     [("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]}
        ... )
        >>> fixed = poutine.condition(model.program(), {"a": torch.tensor(1), "b": torch.tensor(1)})
        >>> poutine.trace(fixed).get_trace().log_prob_sum().exp()
        tensor(0.4000, dtype=torch.float64)
    """

    def __init__(
        self, model: DirectedModel, inputs: Mapping[Hashable, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.name_sites(model.variables)
        self._order = model.order
        self._conditionals = dict(model.conditionals)
        self._parts = nn.ModuleList(self._conditionals.values())
        self._inputs = {n: torch.as_tensor(x) for n, x in (inputs or {}).items()}
        rows = {len(x) for x in self._inputs.values()}
        if len(rows) > 1:
            raise EvidenceError(f"the inputs have different numbers of rows: {sorted(rows)}")
        self._rows = next(iter(rows), None)

    def forward(self, rows: int | None = None) -> dict[Hashable, Tensor]:
        """Sample every variable.

        Args:
            rows: Put the sites in a plate of this number of rows, for conditioning.

        Returns:
            Values by variable.
        """
        rows = self._rows if rows is None else rows
        if rows is None:
            return self._sampled()
        with pyro.plate(PLATE, rows, dim=-1):
            return self._sampled()

    def _sampled(self) -> dict[Hashable, Tensor]:
        values: dict[Hashable, Tensor] = {}
        for name in self._order:
            distribution = site_distribution(
                self._conditionals[name], values, self._inputs, self._rows
            )
            values[name] = pyro.sample(self.sites[name], distribution)
        return values


def site_distribution(
    conditional: Conditional,
    values: Mapping[Hashable, Tensor],
    inputs: Mapping[Hashable, Tensor],
    rows: int | None,
) -> Any:
    """Return a child's distribution; its batch shape is that of the parents, broadcast.

    Args:
        conditional: Of the child.
        values: ``(*batch, *shape)`` of its parents.
        inputs: Covariates, ``(rows, ...)``, or ``(...)`` where there is no plate of rows.
        rows: In the plate, the rightmost axis; none if there is no plate.
    """
    if _is_exogenous(conditional):
        return _NoDistribution(conditional.child, (rows,) if rows else ())
    parents = {}
    lead = [torch.Size([rows])] if conditional.inputs and rows is not None else []
    events = {v.name: len(v.shape) for v in conditional.parents}
    for v in conditional.parents:
        x = values[v.name]
        parents[v.name] = x.long() if v.is_discrete else x
        lead.append(x.shape[: x.dim() - events[v.name]])
    batch: torch.Size = torch.broadcast_shapes(*lead) if lead else torch.Size()  # type: ignore[no-untyped-call]
    flat = {n: _flat(x, batch, x.shape[x.dim() - events[n] :]) for n, x in parents.items()}
    skipped = int(rows is not None)
    known = {n: inputs[n] for n in conditional.inputs}
    covariates = {n: _flat(x, batch, x.shape[skipped:]) for n, x in known.items()}
    distribution = conditional.distribution(flat, covariates or None)
    return pyro_distribution(
        distribution, batch if lead or covariates else distribution.batch_shape
    )


class _NoDistribution(dist.TorchDistribution):
    """A placeholder for the distribution of an observed variable that has none."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, child: Variable, batch: tuple[int, ...]) -> None:
        self.child = child
        super().__init__(torch.Size(batch), torch.Size(child.shape), validate_args=False)

    @property
    def support(self) -> Any:
        """All real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))  # type: ignore[no-untyped-call]

    def expand(self, batch_shape: Any, _instance: Any = None) -> _NoDistribution:
        """Return the same for other rows."""
        return _NoDistribution(self.child, tuple(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Raise: there is no distribution."""
        raise Unsupported(
            f"{self.child.name!r} has no distribution of its own at the first step: observe it, "
            "such as by pyro.poutine.condition(program, ...)"
        )

    rsample = sample

    def log_prob(self, value: Tensor) -> Tensor:
        """Return zeros."""
        lead = value.shape[: value.dim() - len(self.event_shape)]
        shape = torch.broadcast_shapes(lead, self.batch_shape)  # type: ignore[no-untyped-call]
        return torch.zeros(shape, dtype=torch.float64)


def _is_exogenous(conditional: Conditional) -> bool:
    inner = conditional.conditional if isinstance(conditional, Renamed) else conditional
    return isinstance(inner, Exogenous)


def _flat(value: Tensor, batch: torch.Size, event: torch.Size) -> Tensor:
    """A value for each cell of a batch, with one batch axis."""
    return value.expand([*batch, *event]).reshape([-1, *event])


def site_names(names: Mapping[Hashable, Any]) -> dict[Hashable, str]:
    """Return a name of a site for each variable; all distinct.

    A string is its own name. Anything else is converted to one, with primes if that is taken.

    Example:
        >>> site_names({"a": None, ("a", 0): None, 7: None, "7": None})
        {'a': 'a', ('a', 0): "('a', 0)", 7: "7'", '7': '7'}
    """
    taken = {n for n in names if isinstance(n, str)} | {PLATE}
    unique: dict[Hashable, str] = {}
    for name in names:
        text = str(name)
        if not isinstance(name, str):
            while text in taken:
                text += "'"
            taken.add(text)
        elif name == PLATE:
            text = name + "'"
        unique[name] = text
    return unique


def pyro_distribution(distribution: Distribution, batch: torch.Size) -> Any:
    """Return a torch distribution as Pyro's, its batch axis reshaped to a batch shape.

    Args:
        distribution: Distribution of batch shape ``()``, ``(N,)``, or already ``batch``.
        batch: With ``N`` cells.

    Raises:
        Unsupported: If the kind of distribution cannot be laid out.
    """
    if tuple(distribution.batch_shape) == tuple(batch):
        return _as_pyro(distribution)
    return _laid_out(distribution, batch)


def _laid_out(distribution: Distribution, batch: torch.Size) -> Any:
    if isinstance(distribution, torch.distributions.Independent):
        inner = distribution.base_dist
        count = distribution.reinterpreted_batch_ndims
        inner_shape = inner.batch_shape[len(inner.batch_shape) - count :]
        return dist.Independent(_laid_out(inner, batch + inner_shape), count)
    if isinstance(distribution, torch.distributions.MixtureSameFamily):
        parts = distribution.component_distribution.batch_shape[-1:]
        return dist.MixtureSameFamily(
            _laid_out(distribution.mixture_distribution, batch),
            _laid_out(distribution.component_distribution, batch + parts),
        )
    known = getattr(distribution, "arg_constraints", {})
    kind: Any = type(distribution)
    names = [n for n in _arguments(kind) if n in known]
    parameters = {n: x for n in names if isinstance(x := distribution.__dict__.get(n), Tensor)}
    if not parameters:
        raise Unsupported(
            f"a {type(distribution).__name__} cannot be given several batch axes; use one of "
            "torch's distributions with tensors as parameters"
        )
    axes = len(distribution.batch_shape)
    laid = {}
    for name, x in parameters.items():
        expanded = x.expand([*distribution.batch_shape, *x.shape[axes:]]) if axes else x
        laid[name] = expanded.reshape([*batch, *x.shape[axes:]])
    return _class(type(distribution))(**laid, validate_args=False)


@functools.cache
def _arguments(kind: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(kind.__init__).parameters)


def _as_pyro(distribution: Distribution) -> Any:
    """The same object as an instance of Pyro's class."""
    if isinstance(distribution, TorchDistributionMixin):
        return distribution
    kind = _class(type(distribution))
    converted = object.__new__(kind)
    converted.__dict__.update(distribution.__dict__)
    if isinstance(distribution, torch.distributions.Independent):
        converted.__dict__["base_dist"] = _as_pyro(distribution.base_dist)
    return converted


def _class(kind: type) -> Any:
    """Pyro's class of the same name, or one made of torch's."""
    pyro_class = getattr(dist, kind.__name__, None)
    if isinstance(pyro_class, type) and issubclass(pyro_class, kind):
        return pyro_class
    if issubclass(kind, TorchDistributionMixin):
        return kind
    if kind not in _MADE:
        _MADE[kind] = type(kind.__name__, (kind, TorchDistributionMixin), {})
    return _MADE[kind]


_MADE: dict[type, Any] = {}
