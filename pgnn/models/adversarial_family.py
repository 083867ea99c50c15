"""The base class of implicit models, which are learned by an adversarial game."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Never

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import AdversarialModel, Inputs
from pgnn.errors import DataError, ModelError
from pgnn.evidence.frames import columns_of, is_frame
from pgnn.evidence.nameless_rows import listed_rows, stacked_rows
from pgnn.factors.factor import Factor
from pgnn.factors.named_network import NamedNetwork
from pgnn.factors.variable import Variable
from pgnn.models.model import Model

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner


class AdversarialFamily(Model, AdversarialModel):
    """Generators of real arrays, and discriminators between generated and real data.

    Args:
        variables: All variables.
        visible: Names of the variables in the data.
        edges: Edges from the inputs of generators to their outputs.
        inputs: Names of covariates.

    Raises:
        ModelError: If a variable is discrete, or has an axis of unknown length.
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        visible: Sequence[Hashable],
        edges: Iterable[tuple[Hashable, Hashable]] = (),
        inputs: Iterable[Hashable] = (),
    ) -> None:
        super().__init__()
        for v in variables:
            if v.is_discrete or any(isinstance(n, str) for n in v.shape):
                raise ModelError(
                    f"generated variables must be real arrays of known shape, such as "
                    f"pgnn.Variable({v.name!r}, shape=(28, 28)); got {v!r}"
                )
        self._variables = {v.name: v for v in variables}
        self.visible = tuple(visible)
        self.inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        self.graph = nx.DiGraph(edges)
        self.graph.add_nodes_from(self._variables)

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The real variables by name."""
        return MappingProxyType(self._variables)

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Not supported: the model has no factors.

        Raises:
            Unsupported: Always.
        """
        raise self.without_density()

    def program(self, inputs: Inputs | None = None) -> Never:
        """Not supported: the model has no density.

        Raises:
            Unsupported: Always.
        """
        raise self.without_density()

    def default_engine(self) -> Engine:
        """Return an engine that can only draw samples."""
        from pgnn.inference.sampling.simulation import Simulation

        return Simulation()

    def default_learner(self, data: Any) -> Learner:
        """Return the adversarial game."""
        from pgnn.inference.learning.adversarial import Adversarial

        return Adversarial()

    def read_rows(self, data: Any, inputs: Inputs | None = None) -> dict[Hashable, Tensor]:
        """See :meth:`AdversarialModel.read_rows`."""
        names = (*self.visible, *self.inputs)
        by_name = self._by_name(data) | dict(inputs or {})
        missing = [n for n in names if n not in by_name]
        unknown = [n for n in by_name if n not in names]
        if missing or unknown:
            raise DataError(
                f"{type(self).__name__} is fitted to {list(names)}: missing {missing}, unknown "
                f"{unknown}"
            )
        rows = {n: _tensor(n, by_name[n]) for n in names}
        for name in self.visible:
            shape = self._variables[name].shape
            if tuple(rows[name].shape[1:]) != shape:
                raise DataError(
                    f"{name!r} must have the shape (N, {', '.join(map(str, shape))}) of the output "
                    f"of the generator, got {tuple(rows[name].shape)}"
                )
        lengths = {n: len(x) for n, x in rows.items()}
        if self.paired and len(set(lengths.values())) > 1:
            raise DataError(f"arrays must have equal numbers of rows, got {lengths}")
        if not all(lengths.values()):
            raise DataError(f"data must have at least one row, got {lengths}")
        return rows

    def _in_one_array(self, data: Any) -> Any:
        """See the base class; a list may hold an array for each variable, if there are several."""
        return data if len(self.visible) + len(self.inputs) > 1 else listed_rows(data)

    def _by_name(self, data: Any) -> dict[Hashable, Any]:
        names = (*self.visible, *self.inputs)
        if is_frame(data):
            columns = columns_of(data)
            if any(n in columns for n in names):
                return dict(columns)
            return {self.visible[0]: np.stack([np.asarray(x) for x in columns.values()], 1)}
        if isinstance(data, Mapping):
            return dict(data)
        if isinstance(data, tuple | list) and any(np.ndim(x) for x in data):
            if len(data) > len(names) or not all(isinstance(x, Tensor | np.ndarray) for x in data):
                raise DataError(
                    f"expected arrays of {list(names)} in this order, got {len(data)} objects of "
                    f"types {sorted({type(x).__name__ for x in data})}"
                )
            return dict(zip(names, data, strict=False))
        return {self.visible[0]: data}

    @staticmethod
    def _checked(network: NamedNetwork, output: Any, rows: int, v: Variable) -> Tensor:
        """Check that the output of a network has the shape of its variable."""
        expected = (rows, *v.shape)
        if not isinstance(output, Tensor) or tuple(output.shape) != expected:
            came = tuple(output.shape) if isinstance(output, Tensor) else repr(output)
            raise ModelError(
                f"the {network.name} must return {v.name!r} of shape {expected}, got {came}"
            )
        return output


def _tensor(name: Hashable, value: Any) -> Tensor:
    if isinstance(value, list | tuple) and value:  # of masked arrays, perhaps
        value = stacked_rows(value)
    if np.ma.is_masked(value):
        raise DataError(f"{name!r} has masked cells; adversarial learning needs complete rows")
    try:
        # NumPy arrays may have negative strides or be read-only, which torch does not support
        x = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name!r} must be an array of numbers: {error}") from error
    if not x.dim():
        raise DataError(f"{name!r} must have a first axis for rows, got the single number {x}")
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise DataError(
            f"{name!r} has NaN or infinite numbers; adversarial learning needs complete rows"
        )
    return x
