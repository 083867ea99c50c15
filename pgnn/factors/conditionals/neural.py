"""Neural networks as conditionals: torch modules that output distributions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent
from torch.nn.functional import one_hot

from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.grid import values_on_grid
from pgnn.factors.conditionals.heads import BernoulliHead, NeuralHead
from pgnn.factors.finite import has_nan
from pgnn.factors.network_precision import run
from pgnn.factors.piece import Restorable, Settings
from pgnn.factors.variable import Variable

Features = Callable[[Sequence[Variable], Mapping[Hashable, Tensor]], Any]
"""Turns values (parents by name, then inputs) into what the module is called with."""

Head = Callable[[Any], Distribution]
"""Turns what the module returned into a distribution of the child."""


class Concatenate(Restorable):
    """Concatenate all features, flattened, with discrete parents one-hot encoded.

    A single real parent or input without others is passed unchanged, so that an image reaches a
    convolution; a scalar becomes a column.
    """

    def __call__(self, variables: Sequence[Variable], values: Mapping[Hashable, Tensor]) -> Tensor:
        """Return ``(*batch, F)`` features, parents first; a single real value is not flattened."""
        by_name = {v.name: v for v in variables}
        if len(values) == 1:
            ((name, value),) = values.items()
            alone = not by_name[name].is_discrete if name in by_name else True
            if alone and (value.dim() > 1 or not value.is_floating_point()):
                return value
        pieces = [_flat(by_name.get(name), value) for name, value in values.items()]
        if not pieces:
            raise ModelError("a network needs at least one parent or input")
        dtype = next((p.dtype for p in pieces if p.is_floating_point()), torch.get_default_dtype())
        return torch.cat([p.to(dtype) for p in pieces], dim=-1)


class ByName(Restorable):
    """Pass features as a mapping of state indices of discrete parents, real values and inputs."""

    def __call__(
        self, variables: Sequence[Variable], values: Mapping[Hashable, Tensor]
    ) -> dict[Hashable, Tensor]:
        """Return the unchanged values by name."""
        return dict(values)


class Neural(Conditional):
    r"""A conditional :math:`p(y \mid x, u) = \mathrm{head}(f_\theta(x, u))` computed by a network.

    A discrete child's module returns logits with the states on the last axis. A real child needs a
    head or a module that returns a torch distribution. Values are cast to the dtype of the module,
    as is ``factor()``: a float32 network yields float32 tables, which are promoted when combined
    with float64 tables.

    Args:
        child: Discrete or real variable.
        parents: Discrete or real variables.
        module: Maps features to logits, to arguments of the head, or to a distribution.
        inputs: Names of covariates passed to the module.
        head: Maps the module's output to a distribution; :class:`NormalHead`,
            :class:`BernoulliHead` or any callable (if a module, its parameters are learned too).
        features: Maps the variables and their values to the module's argument; :class:`Concatenate`
            by default.
        columns: Name of a discrete parent that is no input of the module, which returns outputs for
            each of its states, ``(rows, K, ...)``. A table over the states then costs one
            evaluation per row instead of K.

    Raises:
        ModelError: If there is no parent or input other than ``columns``, or the head is one of
            other children.

    Example:
        >>> from pgnn import BernoulliHead
        >>> digit, image = Variable("digit", 10), Variable("image", shape=(1, 28, 28))
        >>> decoder = Neural(image, [digit], nn.Linear(10, 784), head=BernoulliHead((1, 28, 28)))
        >>> decoder.factor({"image": torch.zeros(5, 1, 28, 28)})
        Factor('digit', batch=(5,))
    """

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable],
        module: nn.Module,
        inputs: Iterable[Hashable] = (),
        head: Head | None = None,
        features: Features | None = None,
        columns: Hashable | None = None,
    ) -> None:
        super().__init__(child, parents, [inputs] if isinstance(inputs, str) else inputs)
        if not self.parents and not self.inputs:
            raise ModelError(
                f"Neural conditional of {child.name!r} needs a parent or an input",
                "use Tabular for a discrete root",
            )
        _check_head(child, head)
        self.columns = self._read_columns(columns)
        self.module = module
        self.head = head
        self.features: Features = features or Concatenate()

    def settings(self) -> Settings:
        """Return the variables, the network, and its head and features."""
        return super().settings() | {
            "module": self.module,
            "inputs": self.inputs,
            "head": self.head,
            "features": self.features,
            "columns": None if self.columns is None else self.columns.name,
        }

    @property
    def integrates_missing(self) -> bool:  # type: ignore[override]
        """Whether elements of the child may be missing, which the head sums out."""
        return isinstance(self.head, NeuralHead)

    @property
    def has_independent_elements(self) -> bool:  # type: ignore[override]
        """Whether numbers of the child are independent, as most heads make them."""
        return isinstance(self.head, NeuralHead) and self.head.has_independent_elements

    def _log_prob_at(self, dist: Distribution, x: Tensor) -> Tensor:
        """See the base class; missing elements, ``NaN``, are summed out."""
        if self.child.is_discrete or not isinstance(self.head, NeuralHead) or not has_nan(x):
            return super()._log_prob_at(dist, x)
        return self.head.log_prob(dist, x)

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the network's distribution given parents and inputs; see the base class.

        Values need one batch axis, ``(rows, ...)``, unless the module accepts others.

        Raises:
            ModelError: If the network returns an invalid output.
        """
        values = {**self._values(parents), **self._covariates(inputs)}
        if self.columns is None:
            return self._distribution_of(self._output(values))
        state = values.pop(self.columns.name)
        output = self._columns_of(values)
        return self._distribution_of(output[torch.arange(len(output), device=output.device), state])

    def _on_grid(
        self,
        known: Mapping[Hashable, Tensor],
        grid: Sequence[Variable],
        covariates: Mapping[Hashable, Tensor],
    ) -> tuple[int | None, Distribution]:
        """See the base class; the states of ``columns`` share one evaluation."""
        if self.columns is None or self.columns not in grid:
            return super()._on_grid(known, grid, covariates)
        others = [v for v in grid if v != self.columns]
        rows, values = values_on_grid({**known, **covariates}, others, self._device)
        order = [*(v.name for v in self.parents if v != self.columns), *covariates]
        output = self._columns_of({n: values[n] for n in order})
        lead = [rows or 1, *(v.num_states for v in others)]
        cells = output.reshape(*lead, *output.shape[1:])
        cells = cells.movedim(len(lead), 1 + list(grid).index(self.columns))
        return rows, self._distribution_of(cells.flatten(0, len(lead)))

    def _read_columns(self, name: Hashable | None) -> Variable | None:
        if name is None:
            return None
        parent = next((v for v in self.parents if v.name == name), None)
        if parent is None or not parent.is_discrete or parent.shape:
            raise ModelError(
                f"columns of the network of {self.child.name!r} must be the name of a discrete "
                f"parent, got {name!r}"
            )
        if len(self.parents) + len(self.inputs) < 2:
            raise ModelError(
                f"the network of {self.child.name!r} has no features other than {name!r}, which "
                "is left out of its features",
                "give an input, or leave columns out",
            )
        return parent

    def _output(self, parent_values: Mapping[Hashable, Tensor]) -> Any:
        dtype = self._dtype
        values = {k: _cast(x, dtype) for k, x in parent_values.items()}
        features = _cast(self.features(self.parents, values), dtype)
        try:
            return run(self.module, features)
        except RuntimeError as error:
            shape = (
                tuple(features.shape)
                if isinstance(features, Tensor)
                else sorted(map(str, parent_values))
            )
            raise ModelError(
                f"the network of {self.child.name!r} fails on {shape}: {error}"
            ) from error

    def _columns_of(self, values: Mapping[Hashable, Tensor]) -> Tensor:
        """Return the outputs ``(rows, K, ...)`` of the network."""
        output, column = self._output(values), self.columns
        rows = len(next(iter(values.values())))
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if (
            column is None
            or not isinstance(output, Tensor)
            or output.dim() < 2
            or shape[:2] != (rows, column.num_states)
        ):
            raise ModelError(
                f"the network of {self.child.name!r} must return a column for each state, "
                f"({rows}, {column.num_states if column else 0}, ...), got {shape}"
            )
        return output

    def _distribution_of(self, output: Any) -> Distribution:
        """Return the distribution for an output of the network."""
        if isinstance(self.head, NeuralHead) and not isinstance(output, Tensor):
            raise ModelError(
                f"the network of {self.child.name!r} must return one tensor for its "
                f"{type(self.head).__name__}, got {type(output).__name__}",
                "join several, such as means and scales before a softplus, by torch.cat([mean, "
                "scale], dim=-1)",
            )
        if self.head is not None:
            output = self.head(output)
        return self._checked(output if isinstance(output, Distribution) else self._logits(output))

    def _checked(self, dist: Distribution) -> Distribution:
        if len(dist.event_shape) != len(self.child.shape):
            raise ModelError(
                f"the network's distribution of {self.child.name!r} must have event shape "
                f"{self.child.shape}, got {tuple(dist.event_shape)} with batch shape "
                f"{tuple(dist.batch_shape)}",
                "wrap it in torch.distributions.Independent",
            )
        return _of_states(dist) if self.child.is_discrete else dist

    def _logits(self, output: Any) -> Distribution:
        if not self.child.is_discrete:
            raise ModelError(
                f"the network of the real variable {self.child.name!r} must return a torch "
                f"distribution, got {type(output).__name__}",
                "give a head, such as NormalHead",
            )
        states = (*self.child.shape, self.child.num_states)
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if not isinstance(output, Tensor) or output.shape[output.dim() - len(states) :] != states:
            raise ModelError(
                f"the network of {self.child.name!r} must return logits of shape (rows, "
                f"{', '.join(map(str, states))}), got {shape}"
            )
        try:
            dist = Categorical(logits=output)
        except ValueError:
            raise ModelError(
                f"the network of {self.child.name!r} returns logits that are NaN",
                "check its inputs and parameters for NaN",
            ) from None
        return Independent(dist, len(self.child.shape)) if self.child.shape else dist


def _check_head(child: Variable, head: Head | None) -> None:
    """Check that a head makes distributions of a child."""
    if not isinstance(head, NeuralHead):
        return
    if child.is_discrete and not (isinstance(head, BernoulliHead) and child.num_states == 2):
        raise ModelError(
            f"{child.name!r} has {child.num_states} states, of which a {type(head).__name__} "
            "makes no distribution",
            "leave head out, and let the module return logits, the states last",
        )
    if head.shape != child.shape:
        raise ModelError(
            f"{child.name!r} has the shape {child.shape}, and its head {head!r} makes numbers of "
            f"the shape {head.shape}"
        )


def _of_states(dist: Distribution) -> Distribution:
    """Return a distribution of state indices in place of one of the numbers zero and one."""
    base, axes = dist, 0
    if isinstance(dist, Independent):
        base, axes = dist.base_dist, dist.reinterpreted_batch_ndims
    if not isinstance(base, Bernoulli):
        return dist
    states = Categorical(logits=torch.stack([torch.zeros_like(base.logits), base.logits], -1))
    return Independent(states, axes) if axes else states


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Cast reals to a dtype; return indices and containers unchanged."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype)
    return value


def _flat(variable: Variable | None, value: Tensor) -> Tensor:
    """Return a value as ``(*batch, D)``; inputs (no variable) have one batch axis."""
    if variable is None:
        return value.flatten(start_dim=1) if value.dim() > 1 else value.unsqueeze(-1)
    if variable.is_discrete:
        value = one_hot(value.long(), variable.num_states)
    events = len(variable.shape) + int(variable.is_discrete)
    return value.reshape([*value.shape[: value.dim() - events], -1])
