"""Runs the propagation kernels over rows of evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.loop import Info, iterate
from pgnn.inference.propagation.compilation import KERNELS
from pgnn.inference.propagation.propagation_plan import PropagationPlan
from pgnn.inference.propagation.schedules import Flooding, Residual, Schedule, Sequential
from pgnn.inference.threads import Stop, in_threads

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_STEP = 3e7  # table entries visited in one step of the loop: a few hundredths of a second
_MAX_LOG_RANGE = 200.0  # range of a table's log values beyond which doubles may underflow
_UNIFORM_SHARE = 1e-6  # weight of uniform messages in a warm start, so that no state is ruled out


@dataclass(frozen=True)
class Control:
    """Settings of the updates and their termination; see :class:`BeliefPropagation`."""

    schedule: Schedule
    damping: float = 0.0
    adaptive: bool = True
    max_iterations: int = 1000
    tolerance: float = 1e-6
    progress: bool = False


class CpuPropagation:
    """Messages of some rows, and their beliefs.

    Args:
        plan: Plan of the graph.
        log_field: ``(B, S)`` log fields of the elements, the evidence included.
        rows: Their indices among the rows of the tables.
        log_messages: ``(B, M)`` or ``(1, M)`` initial messages; uniform if not given.

    Attributes:
        row_progress: State of each row, see ``RowProgress`` of the kernels.
        history: Largest residual of a row in each iteration.
    """

    ACTIVE, CONVERGED, IMPOSSIBLE = 0, 1, 2

    def __init__(
        self,
        plan: PropagationPlan,
        log_field: Floats,
        rows: slice | Ints = slice(None),
        log_messages: Floats | None = None,
    ) -> None:
        from pgnn.inference.propagation.kernels.sweeps import MessageNumbers, RowProgress

        self.plan = plan
        num = self.num_rows = len(log_field)
        field, top = _scaled(plan, log_field)
        tables, graph, power = plan.tables, plan.graph, 1.0 / (plan.temperature or 1.0)
        constant = power * graph.log_constant.detach().to("cpu").double().numpy()
        scale = constant + tables.log_scale
        self.log_scale: Floats = top + (scale[rows] if len(scale) > 1 else scale)
        values = tables.values[rows] if len(tables.values) > 1 else tables.values
        self.numbers = MessageNumbers(
            table=np.ascontiguousarray(values),
            field=field,
            weight=np.zeros(0) if plan.forests is None else plan.forests.weights,
            message=_messages(plan, num, log_messages),
            belief=np.zeros_like(field),
        )
        self.row_progress = RowProgress(
            residual=np.full(num, np.inf),
            damping=np.zeros(num),
            iterations=np.zeros(num, dtype=np.int64),
            state=np.full(num, self.ACTIVE),
            window=np.stack([np.zeros(num), np.full(num, np.inf)], axis=1),
            priority=np.zeros((num, 0)),
        )
        self.history: list[float] = []

    @staticmethod
    def fits_doubles(plan: PropagationPlan) -> bool:
        """Whether scaled probabilities fit in doubles; logarithms are needed otherwise."""
        return plan.max_product or plan.tables.log_range <= _MAX_LOG_RANGE

    def run(self, control: Control) -> None:
        """Update messages until every row has converged or the limit is reached."""
        block = int(np.clip(_STEP / max(self.plan.cost * self.num_rows, 1.0), 1, 50))
        self.row_progress.damping[:] = control.damping
        steps = -(-control.max_iterations // block)
        method = _Sweeps(self, control, block)
        iterate(method, steps, progress=control.progress, label="belief propagation")

    def solve(self) -> None:
        """Update all messages of a forest, up to the roots and down again, which is exact."""
        self.compute_beliefs()
        self.sweep(Control(Sequential(), adaptive=False, tolerance=0.0), 2)
        self.row_progress.state[self.row_progress.state == self.ACTIVE] = self.CONVERGED
        self.row_progress.residual[:] = 0.0

    def sweep(self, control: Control, sweeps: int) -> None:
        """Update the messages of the rows that have not converged, in at most ``sweeps`` sweeps."""
        from pgnn.inference.propagation.kernels.sweeps import (
            FLOODING,
            RESIDUAL,
            SEQUENTIAL,
            propagate,
        )

        plan, histories = self.plan, [np.zeros(sweeps)]
        kinds = {Flooding: FLOODING, Sequential: SEQUENTIAL, Residual: RESIDUAL}
        schedule = kinds[type(control.schedule)]
        if schedule == RESIDUAL and self.row_progress.priority.shape[1] != len(plan.order):
            priority = np.full((self.num_rows, len(plan.order)), np.inf)
            self.row_progress = self.row_progress._replace(priority=priority)

        active = np.flatnonzero(self.row_progress.state == self.ACTIVE)
        cost = self._cost(len(active)) * sweeps
        run = KERNELS.choose(propagate, cost)

        def work(rows: Ints, stop: Stop) -> None:
            history = np.zeros(sweeps)
            run(
                plan.algebra, plan.wiring, self.numbers, self.row_progress, rows, schedule,
                plan.order, sweeps, control.tolerance, control.adaptive, plan.work(), history, stop,
            )  # fmt: skip
            histories.append(history)

        in_threads(work, active, cost)
        taken = int(self.row_progress.iterations.max(initial=0)) - len(self.history)
        self.history.extend(np.max(histories, axis=0)[:taken].tolist())

    def compute_beliefs(self) -> None:
        """Compute all beliefs from the current messages."""
        from pgnn.inference.propagation.kernels.sweeps import compute_beliefs

        plan, numbers = self.plan, self.numbers
        run = KERNELS.choose(compute_beliefs, self._cost())

        def work(rows: Ints, stop: Stop) -> None:
            run(plan.algebra, plan.wiring, numbers, rows, stop)

        in_threads(work, self._rows, self._cost())

    def set_messages(self, log_messages: Floats) -> None:
        """Set the messages ``(B, M)``, and compute all beliefs from them."""
        messages = log_messages if self.plan.max_product else np.exp(log_messages)
        self.numbers.message[...] = messages
        self.compute_beliefs()

    def bethe(self) -> tuple[Floats, Floats]:
        """Compute all beliefs; return ``(B,)`` the elements' part of the value, and the value.

        The value estimates the log of the sum (at temperature zero the maximum) of the
        distribution to the power 1 / T; ``-inf`` where no state is possible.
        """
        from pgnn.inference.propagation.kernels.values import bethe

        plan, elements_part, value = self.plan, np.zeros(self.num_rows), np.zeros(self.num_rows)

        run = KERNELS.choose(bethe, self._cost())

        def work(rows: Ints, stop: Stop) -> None:
            run(
                plan.algebra,
                plan.wiring,
                self.numbers,
                rows,
                plan.work(),
                elements_part,
                value,
                stop,
            )

        in_threads(work, self._rows, self._cost())
        return elements_part + self.log_scale, value + self.log_scale

    def upper_bound(self, elements_part: Floats) -> Floats:
        r"""Return ``(B,)`` upper bounds on what :meth:`bethe` estimates, for any messages.

        Messages reparameterise the distribution: with :math:`p_T` the product of the beliefs of
        the elements and factors of forest ``T``, normalised only at a fixed point of the messages,

        .. math:: \log \tilde p(x) = \sum_i \log z_i + \frac1N \sum_T \log p_T(x),

        and by Hölder's inequality the sum (or maximum) of a geometric mean is at most the geometric
        mean of the sums, each of which is over a forest.

        Args:
            elements_part: The first value that :meth:`bethe` returns.
        """
        from pgnn.inference.propagation.kernels.values import forest_sums

        plan, numbers, value = self.plan, self.numbers, elements_part.copy()
        width = max(numbers.message.shape[1], numbers.belief.shape[1])
        run = KERNELS.choose(forest_sums, self._cost())
        for member in plan.forests or ():
            _, reached, through = plan.traverse(member)

            def work(
                rows: Ints,
                stop: Stop,
                member: Mask = member,
                reached: Ints = reached,
                through: Ints = through,
            ) -> None:
                memory = np.full((2, width), 0.0 if plan.max_product else 1.0)
                run(
                    plan.algebra, plan.wiring, numbers, rows, member, reached, through,
                    plan.work(), memory, 1.0 / len(plan.forests or ()), value, stop,
                )  # fmt: skip

            in_threads(work, self._rows, self._cost())
        return value

    def decode(self, order: Ints | None = None) -> Ints:
        """Return ``(B, E)`` states decoded sequentially in an order, by default the plan's."""
        from pgnn.inference.propagation.kernels.values import decode

        plan = self.plan
        order = plan.order if order is None else order
        states = np.full((self.num_rows, len(plan.order)), -1)

        run = KERNELS.choose(decode, self._cost())

        def work(rows: Ints, stop: Stop) -> None:
            run(plan.algebra, plan.wiring, self.numbers, rows, order, plan.work(), states, stop)

        in_threads(work, self._rows, self._cost())
        return states

    @property
    def log_messages(self) -> Floats:
        """``(B, M)`` logs of the messages."""
        if self.plan.max_product:
            return np.array(self.numbers.message)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.numbers.message))

    @property
    def _rows(self) -> Ints:
        return np.arange(self.num_rows)

    def _cost(self, rows: int | None = None) -> float:
        """Approximate time of an iteration for some rows, in nanoseconds."""
        return self.plan.cost * (self.num_rows if rows is None else rows)


@dataclass(frozen=True, eq=False)
class _Sweeps:
    """Propagation as an iterative method, whose state is the number of iterations."""

    propagation: CpuPropagation
    control: Control
    block: int

    def init(self) -> int:
        """See :class:`Iterative`."""
        self.propagation.compute_beliefs()
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Run a block of iterations."""
        sweeps = min(self.block, self.control.max_iterations - state)
        self.propagation.sweep(self.control, sweeps)
        row_progress = self.propagation.row_progress
        active = row_progress.state == CpuPropagation.ACTIVE
        residual = float(row_progress.residual[active].max(initial=0.0))
        return state + sweeps, Info(not active.any(), {"residual": residual})


def _scaled(plan: PropagationPlan, log_field: Floats) -> tuple[Floats, Floats]:
    """Return fields in the arithmetic of the kernels, and ``(B,)`` logs of their scales."""
    if plan.max_product or not log_field.size:
        return np.ascontiguousarray(log_field), np.zeros(len(log_field))
    offset = plan.graph.elements.offset
    field = log_field / plan.temperature
    top = np.maximum.reduceat(field, offset[:-1], axis=1)
    top[~np.isfinite(top)] = 0.0
    field -= np.repeat(top, np.diff(offset), axis=1)
    return np.exp(field, out=field), top.sum(axis=1)


def _messages(plan: PropagationPlan, rows: int, log_messages: Floats | None) -> Floats:
    """``(B, M)`` initial messages."""
    wiring = plan.graph.wiring
    slot_card = wiring.card[wiring.slot_var]
    shape = (rows, int(wiring.message[-1]))
    if log_messages is None and plan.max_product:
        return np.zeros(shape)
    uniform = np.repeat(1.0 / slot_card, slot_card)
    if log_messages is None:
        return uniform[None] if rows == 1 else np.tile(uniform, (rows, 1))
    start = np.broadcast_to(log_messages, shape)
    if plan.max_product:
        return np.maximum(start, np.log(_UNIFORM_SHARE))
    return np.asarray((1.0 - _UNIFORM_SHARE) * np.exp(start) + _UNIFORM_SHARE * uniform)


def arc_consistent(plan: PropagationPlan, log_field: Floats, rows: Ints) -> Mask:
    """Return ``(b,)`` whether each element has a state that is supported by all neighbours.

    If some element has none, the row has probability zero. Only zeros of tables are used, so that
    there is no rounding error. Without loops the converse holds as well.

    Args:
        plan: Plan of the graph.
        log_field: ``(b, S)`` fields of some rows.
        rows: ``(b,)`` their indices among the rows of the tables.

    References:
        Mackworth (1977), Consistency in networks of relations.
    """
    hard = replace(plan, temperature=0.0, num_forests=0)
    run = CpuPropagation(hard, _zeros_only(log_field), rows)
    run.numbers = run.numbers._replace(table=_zeros_only(run.numbers.table))
    # each iteration except the last removes a state
    limit = log_field.shape[1] + int(plan.graph.wiring.message[-1]) + 2
    run.run(Control(Sequential(), adaptive=False, tolerance=0.0, max_iterations=limit))
    return np.asarray(run.row_progress.state != CpuPropagation.IMPOSSIBLE)


def _zeros_only(logs: Floats) -> Floats:
    return np.where(np.isneginf(logs), -np.inf, 0.0)
