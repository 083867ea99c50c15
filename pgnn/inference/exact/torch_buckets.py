"""Buckets of tables: eliminate the variables of a query one by one, and walk back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.inference.exact.torch_tables import Problem, Table
from pgnn.inference.semiring import Reduction, contract


class Elimination(NamedTuple):
    """A finished upward pass.

    Attributes:
        buckets: The tables that were multiplied when each variable of the order was eliminated.
        log_z: ``(B,)`` what is left.
    """

    buckets: list[list[Table]]
    log_z: Tensor


def upward(task: Problem, tables: Iterable[Table], steps: Sequence[Reduction]) -> Elimination:
    """Eliminate the variables in order; ``steps`` says how."""
    buckets: list[list[Table]] = [[] for _ in task.order]
    constants = [task.zeros((), 1).values]

    def put(table: Table) -> None:
        if table.scope:
            buckets[task.position[table.scope[0]]].append(table)
        else:
            constants.append(table.values)

    for table in tables:
        put(table)
    for v, bucket, reduction in zip(task.order, buckets, steps, strict=True):
        if not bucket:
            bucket.append(task.zeros((v,), 1))
        put(_eliminate(task, bucket, reduction))
    log_z = torch.stack([c.expand(task.num_rows) for c in constants]).sum(0)
    # Nothing that is done to an impossible row changes it: the fill stops the gradient.
    return Elimination(buckets, log_z.masked_fill(log_z == -math.inf, -math.inf))


def _eliminate(task: Problem, bucket: Sequence[Table], reduction: Reduction) -> Table:
    """Multiply the tables of a bucket and reduce over the first variable of them all."""
    scope = tuple(sorted({v for t in bucket for v in t.scope}, key=task.position.__getitem__))
    views = []
    for table in bucket:
        sizes = [int(task.graph.card[v]) if v in table.scope else 1 for v in scope]
        rows = table.values.shape[-1]
        view = table.values.reshape([*sizes, rows])
        views.append(view.expand([*sizes, task.num_rows]) if reduction.rowwise else view)
    return Table(scope[1:], contract(views, reduction, 0))


def walk_back(
    task: Problem,
    done: Elimination,
    first: int,
    copies: int,
    choose: Callable[[int, Tensor], Tensor],
) -> Tensor:
    """Choose states from the last bucket to bucket ``first``, each given the later ones.

    Args:
        task: The rows.
        done: Their upward pass.
        first: Where in the order to stop.
        copies: How often the rows are walked.
        choose: Maps the number of a bucket and ``(K, copies * B)`` logs to states.

    Returns:
        ``(copies * B, V)`` states, the copies one after the other.
    """
    states = task.codes.clamp(min=-1).repeat(copies, 1)
    rows = torch.arange(task.num_rows, device=states.device).repeat(copies)
    for k in range(len(task.order) - 1, first - 1, -1):
        v = task.order[k]
        logs = task.zeros((), 1).values
        for table in done.buckets[k]:
            logs = logs + _at_states(task, table, states, rows)
        seen = states[:, v]
        states[:, v] = torch.where(seen >= 0, seen, choose(k, logs.expand(-1, len(rows))))
    return states


def _at_states(task: Problem, table: Table, states: Tensor, rows: Tensor) -> Tensor:
    """A table at the chosen states of all but its first variable, ``(K, 1 or N)``."""
    (_, *others), values = table
    index = torch.zeros_like(rows)
    for u in others:
        index = index * int(task.graph.card[u]) + states[:, u]
    wide = values.shape[-1] != 1
    if not others and not wide:
        return values
    if wide:
        index = index * values.shape[-1] + rows
    return values.flatten(1).index_select(1, index)
