"""Parameters of conditionals as data frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.table_frame import check_cells, rows_index
from pgnn.factors.variable import Variable


class ParameterTable(NamedTuple):
    """Parameters of a conditional for each configuration of discrete variables.

    Attributes:
        rows: The discrete variables, ``n`` of them.
        columns: Numbers ``(K1, ..., Kn, ...)`` by name.

    Example:
        >>> import torch
        >>> rate = torch.tensor([[5.0, 1.0], [0.5, 2.0]])
        >>> table = ParameterTable([Variable("day", ["work", "holiday"])], {"rate": rate})
        >>> table.frame().loc["holiday"].to_dict()
        {'rate[0]': 0.5, 'rate[1]': 2.0}
    """

    rows: Sequence[Variable]
    columns: Mapping[str, Tensor]

    @classmethod
    def of_regression(
        cls, child: Variable, parents: Sequence[Variable], regression: Regression
    ) -> ParameterTable:
        """Return biases, weights of each real parent and covariances; variances if diagonal."""
        rows = [v for v in parents if v.is_discrete]
        lead, shape = [v.num_states for v in rows], child.shape
        reals = [v for v in parents if not v.is_discrete]
        bias = regression.bias.expand(*lead, -1).reshape([*lead, *shape])
        columns = {"bias" if reals else "mean": bias}
        weights = (
            torch.split(regression.weight, [v.num_elements for v in reals], -1) if reals else ()
        )
        for v, weight in zip(reals, weights, strict=True):
            numbers = weight.expand(*lead, -1, -1)
            columns[f"weight of {v.name}"] = numbers.reshape([*lead, *shape, *v.shape])
        matrices = (regression.scale @ regression.scale.mT).expand(*lead, -1, -1)
        variances = matrices.diagonal(dim1=-2, dim2=-1)
        if bool((matrices == variances.diag_embed()).all()):
            columns["variance"] = variances.reshape([*lead, *shape])
        else:
            columns["covariance"] = matrices
        return cls(rows, columns)

    @property
    def num_columns(self) -> int:
        """Number of columns of the data frame."""
        return sum(math.prod(x.shape[len(self.rows) :]) for x in self.columns.values())

    def frame(self) -> Any:
        """Return a data frame with a row for each configuration and a column for each number.

        Raises:
            ModelError: If it would be too large.
        """
        import pandas as pd

        check_cells("parameter table", sum(x.numel() for x in self.columns.values()))
        index = rows_index(self.rows)
        columns: dict[str, Any] = {}
        for name, numbers in self.columns.items():
            tail = numbers.shape[len(self.rows) :]
            flat = numbers.detach().cpu().reshape(len(index), -1).numpy()
            places = itertools.product(*map(range, tail))
            columns.update(zip((_label(name, place) for place in places), flat.T, strict=True))
        return pd.DataFrame(columns, index=index)


def _label(name: str, place: Sequence[int]) -> str:
    return f"{name}[{', '.join(map(str, place))}]" if place else name
