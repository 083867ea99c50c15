"""Directed graph models as Pyro programs, with a sample site for each variable."""

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
"""Name of the plate of rows that contains all sites."""


class ModelProgram(nn.Module):
    """The Pyro program of a model, with a mapping between variables and sites.

    Attributes:
        sites: The site of each variable.
        site_variables: The variable of each site.
    """

    sites: Mapping[Hashable, str]
    site_variables: Mapping[str, Variable]

    def name_sites(self, variables: Mapping[Hashable, Variable]) -> None:
        """Assign a site to each variable."""
        self.sites = site_names(variables)
        self.site_variables = {self.sites[n]: v for n, v in variables.items()}


class GraphProgram(ModelProgram):
    r"""The program of a directed model, which samples each variable given its parents.

    Pyro's ``condition``, ``replay``, enumeration and ``SVI`` apply to it. The parameters remain in
    the conditionals of the model; the program registers none with Pyro.

    The values of discrete sites are state indices, in the order of states of the model.

    Args:
        model: A Bayesian network.
        inputs: Covariates, ``(B, ...)``; if given, the sites are in a plate of ``B`` rows.

    Attributes:
        sites: The site of each variable: its name, converted to a string.
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
            rows: Size of a plate that contains the sites, for conditioning; no plate by default.

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
    """Return the distribution of a child; its batch shape is the broadcast one of the parents.

    Args:
        conditional: Conditional of the child.
        values: ``(*batch, *shape)`` values of its parents.
        inputs: Covariates, ``(rows, ...)``, or ``(...)`` without a plate of rows.
        rows: Size of the plate, the rightmost axis; None without a plate.
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
    """Placeholder for the distribution of a variable that must be observed."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, child: Variable, batch: tuple[int, ...]) -> None:
        self.child = child
        super().__init__(torch.Size(batch), torch.Size(child.shape), validate_args=False)

    @property
    def support(self) -> Any:
        """The real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))  # type: ignore[no-untyped-call]

    def expand(self, batch_shape: Any, _instance: Any = None) -> _NoDistribution:
        """Expand to another batch shape."""
        return _NoDistribution(self.child, tuple(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Raise, because the variable has no distribution."""
        raise Unsupported(
            f"{self.child.name!r} has no distribution at the first step",
            "observe it, for example by pyro.poutine.condition(program, ...)",
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
    """Broadcast to the batch and flatten its axes into one."""
    return value.expand([*batch, *event]).reshape([-1, *event])


def site_names(names: Mapping[Hashable, Any]) -> dict[Hashable, str]:
    """Return a unique site name for each variable.

    Strings are used unchanged. Other names are converted to strings, with primes appended if taken.

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
    """Convert a torch distribution to Pyro's, with its batch axis reshaped to a batch shape.

    Args:
        distribution: Distribution of batch shape ``()``, ``(N,)``, or already ``batch``.
        batch: Batch shape with ``N`` cells.

    Raises:
        Unsupported: If a distribution of this class cannot be reshaped.
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
            f"{type(distribution).__name__} cannot be reshaped to several batch axes",
            "use a distribution of torch.distributions with tensors as parameters",
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
    """Convert to an instance of Pyro's class."""
    if isinstance(distribution, TorchDistributionMixin):
        return distribution
    kind = _class(type(distribution))
    converted = object.__new__(kind)
    converted.__dict__.update(distribution.__dict__)
    if isinstance(distribution, torch.distributions.Independent):
        converted.__dict__["base_dist"] = _as_pyro(distribution.base_dist)
    return converted


def _class(kind: type) -> Any:
    """Return Pyro's class of the same name, or one derived from torch's."""
    pyro_class = getattr(dist, kind.__name__, None)
    if isinstance(pyro_class, type) and issubclass(pyro_class, kind):
        return pyro_class
    if issubclass(kind, TorchDistributionMixin):
        return kind
    if kind not in _MADE:
        _MADE[kind] = type(kind.__name__, (kind, TorchDistributionMixin), {})
    return _MADE[kind]


_MADE: dict[type, Any] = {}
