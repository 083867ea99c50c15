"""Tables of distributions over the grid of the states of their variables."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable
from pgnn.limits import check_size


def configurations(
    variables: Sequence[Variable], rows: int, device: torch.device
) -> dict[Hashable, Tensor]:
    """Return state indices of all configurations, last variable fastest, repeated for each row."""
    shape = [v.num_states for v in variables]
    index = torch.arange(math.prod(shape), device=device)
    values: dict[Hashable, Tensor] = {}
    for axis, v in enumerate(variables):
        inner = math.prod(shape[axis + 1 :])
        values[v.name] = ((index // inner) % shape[axis]).repeat(rows)
    return values


def values_on_grid(
    known: Mapping[Hashable, Tensor], grid: Sequence[Variable], device: torch.device
) -> tuple[int | None, dict[Hashable, Tensor]]:
    """Return the number of rows, if any, and all values on the grid of each row.

    Args:
        known: ``(rows, ...)`` values, which are the same on a row's grid.
        grid: Discrete variables.
        device: Of the values.
    """
    rows = next((int(x.shape[0]) for x in known.values()), None)
    cells = math.prod(v.num_states for v in grid)
    values = {n: x.repeat_interleave(cells, dim=0) for n, x in known.items()}
    return rows, values | configurations(grid, rows or 1, device)


def state_table(
    child: Variable,
    dist: Distribution,
    rows: int | None,
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """Return the log probability of each state of a variable, ``(rows, *shape, K)``.

    Args:
        child: A single discrete variable.
        dist: Its distribution in each row and configuration of the parents.
        rows: Number of rows; None if the table does not depend on the row.
        shape: Numbers of states of the parents.
        device: Of the distribution.
    """
    number = (rows or 1) * math.prod(shape)
    states = torch.arange(child.num_states, device=device)
    log_prob = dist.log_prob(states.reshape(-1, 1)).expand(-1, number).t()
    return log_prob.reshape([*([] if rows is None else [rows]), *shape, len(states)])


def element_table(
    child: Variable,
    parents: Sequence[Variable],
    rows: int | None,
    dist: Distribution,
    device: torch.device,
) -> Tensor:
    """Return log probabilities of the states of an array's elements, ``(rows, K_pa..., E, K)``.

    Args:
        child: An array of discrete variables.
        parents: Discrete parents, whose axes come first.
        rows: Number of rows, the axis before those; None if nothing depends on the row.
        dist: The child's distribution in each row and configuration of the parents.
        device: Of the distribution.

    Raises:
        Unsupported: If the elements depend on each other.
        Intractable: If the table exceeds the memory limit.
    """
    base = dist.base_dist if isinstance(dist, Independent) else None
    if base is None or len(base.event_shape) or dist.event_shape != child.shape:
        raise Unsupported(
            f"the elements of {child.name!r} are not independent in its distribution, "
            f"{type(dist).__name__}, so that they have no tables",
            "observe all of them",
        )
    lead = [*([] if rows is None else [rows]), *(v.num_states for v in parents)]
    size = math.prod(lead) * child.num_elements * child.num_states
    check_size(f"the tables of {child.name!r}", size)
    states = torch.arange(child.num_states).reshape(-1, *[1] * (len(child.shape) + 1))
    logs: Tensor = base.log_prob(states.to(device)).movedim(0, -1)
    return logs.expand(math.prod(lead), *child.shape, -1).reshape(
        *lead, child.num_elements, child.num_states
    )
