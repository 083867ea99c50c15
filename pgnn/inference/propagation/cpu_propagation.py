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

_STEP = 3e7  # numbers walked over in one step of the loop: a few hundredths of a second
_WIDE = 200.0  # spread of a table's logarithms beyond which doubles may lose states that matter
_TRACE = 1e-6  # share of the uniform message in a warm start, so that nothing is ruled out


@dataclass(frozen=True)
class Control:
    """How messages are renewed, and for how long; see :class:`BeliefPropagation`."""

    schedule: Schedule
    damping: float = 0.0
    adaptive: bool = True
    max_iterations: int = 1000
    tolerance: float = 1e-6
    progress: bool = False


class CpuPropagation:
    """Messages of some rows, and their beliefs.

    Args:
        plan: Of the graph.
        log_field: ``(B, S)`` own log field of every element, evidence included.
        rows: Which rows these are, where tables differ from row to row.
        log_messages: ``(B, M)`` or ``(1, M)`` where to begin; uniform if not given.

    Attributes:
        course: How each row fares, see ``Course`` of the kernels.
        history: Largest residual of a row in each iteration.
    """

    UNDER_WAY, CONVERGED, IMPOSSIBLE = 0, 1, 2

    def __init__(
        self,
        plan: PropagationPlan,
        log_field: Floats,
        rows: slice | Ints = slice(None),
        log_messages: Floats | None = None,
    ) -> None:
        from pgnn.inference.propagation.kernels.sweeps import Course, MessageNumbers

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
        self.course = Course(
            residual=np.full(num, np.inf),
            damping=np.zeros(num),
            iterations=np.zeros(num, dtype=np.int64),
            state=np.full(num, self.UNDER_WAY),
            window=np.stack([np.zeros(num), np.full(num, np.inf)], axis=1),
            priority=np.zeros((num, 0)),
        )
        self.history: list[float] = []

    @staticmethod
    def suits(plan: PropagationPlan) -> bool:
        """Whether doubles hold the numbers; else logarithms are needed."""
        return plan.hard or plan.tables.log_range <= _WIDE

    def run(self, control: Control) -> None:
        """Renew messages until every row has converged or the limit is reached."""
        block = int(np.clip(_STEP / max(self.plan.cost * self.num_rows, 1.0), 1, 50))
        self.course.damping[:] = control.damping
        steps = -(-control.max_iterations // block)
        method = _Sweeps(self, control, block)
        iterate(method, steps, progress=control.progress, label="belief propagation")

    def solve(self) -> None:
        """Renew all messages of a forest twice, up to the roots and down again: they are exact."""
        self.begin()
        self.sweep(Control(Sequential(), adaptive=False, tolerance=0.0), 2)
        self.course.state[self.course.state == self.UNDER_WAY] = self.CONVERGED
        self.course.residual[:] = 0.0

    def sweep(self, control: Control, sweeps: int) -> None:
        """Renew the messages of the rows under way at most so many times."""
        from pgnn.inference.propagation.kernels.sweeps import (
            FLOODING,
            RESIDUAL,
            SEQUENTIAL,
            propagate,
        )

        plan, histories = self.plan, [np.zeros(sweeps)]
        kinds = {Flooding: FLOODING, Sequential: SEQUENTIAL, Residual: RESIDUAL}
        schedule = kinds[type(control.schedule)]
        if schedule == RESIDUAL and self.course.priority.shape[1] != len(plan.order):
            urgent = np.full((self.num_rows, len(plan.order)), np.inf)
            self.course = self.course._replace(priority=urgent)

        under_way = np.flatnonzero(self.course.state == self.UNDER_WAY)
        cost = self._cost(len(under_way)) * sweeps
        run = KERNELS.choose(propagate, cost)

        def work(rows: Ints, stop: Stop) -> None:
            history = np.zeros(sweeps)
            run(
                plan.algebra, plan.wiring, self.numbers, self.course, rows, schedule, plan.order,
                sweeps, control.tolerance, control.adaptive, plan.work(), history, stop,
            )  # fmt: skip
            histories.append(history)

        in_threads(work, under_way, cost)
        taken = int(self.course.iterations.max(initial=0)) - len(self.history)
        self.history.extend(np.max(histories, axis=0)[:taken].tolist())

    def begin(self) -> None:
        """Renew all beliefs."""
        from pgnn.inference.propagation.kernels.sweeps import begin

        plan, numbers = self.plan, self.numbers
        run = KERNELS.choose(begin, self._cost())

        def work(rows: Ints, stop: Stop) -> None:
            run(plan.algebra, plan.wiring, numbers, rows, stop)

        in_threads(work, self._rows, self._cost())

    def put(self, log_messages: Floats) -> None:
        """Set ``(B, M)`` messages as they are, and renew all beliefs."""
        messages = log_messages if self.plan.hard else np.exp(log_messages)
        self.numbers.message[...] = messages
        self.begin()

    def bethe(self) -> tuple[Floats, Floats]:
        """Renew all beliefs; return ``(B,)`` the elements' part of the value, and the value.

        That is the logarithm of the sum (at temperature zero the maximum) of the distribution to
        the power 1 / T; ``-inf`` where nothing is possible.
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
        r"""Return ``(B,)`` upper bounds on what :meth:`bethe` estimates, whatever the messages.

        Messages reparameterise the distribution: with :math:`p_T` the product of the beliefs of
        the elements and factors of forest ``T``, not normalised where messages are not at rest,

        .. math:: \log \tilde p(x) = \sum_i \log z_i + \frac1N \sum_T \log p_T(x),

        and by Hölder's inequality the sum (or maximum) of a geometric mean is at most the
        geometric mean of the sums, each of which a forest allows to be computed.

        Args:
            elements_part: What :meth:`bethe` returned first.
        """
        from pgnn.inference.propagation.kernels.values import forest_sums

        plan, numbers, value = self.plan, self.numbers, elements_part.copy()
        width = max(numbers.message.shape[1], numbers.belief.shape[1])
        run = KERNELS.choose(forest_sums, self._cost())
        for member in plan.forests or ():
            _, reached, through = plan.walk(member)

            def work(
                rows: Ints,
                stop: Stop,
                member: Mask = member,
                reached: Ints = reached,
                through: Ints = through,
            ) -> None:
                memory = np.full((2, width), 0.0 if plan.hard else 1.0)
                run(
                    plan.algebra, plan.wiring, numbers, rows, member, reached, through,
                    plan.work(), memory, 1.0 / len(plan.forests or ()), value, stop,
                )  # fmt: skip

            in_threads(work, self._rows, self._cost())
        return value

    def decode(self, order: Ints | None = None) -> Ints:
        """Return ``(B, E)`` states chosen one after another, in the plan's order or another."""
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
        if self.plan.hard:
            return np.array(self.numbers.message)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.numbers.message))

    @property
    def _rows(self) -> Ints:
        return np.arange(self.num_rows)

    def _cost(self, rows: int | None = None) -> float:
        """About how many nanoseconds an iteration takes for some rows."""
        return self.plan.cost * (self.num_rows if rows is None else rows)


@dataclass(frozen=True, eq=False)
class _Sweeps:
    """Propagation as an iteration; the state is how many iterations have been taken."""

    propagation: CpuPropagation
    control: Control
    block: int

    def init(self) -> int:
        """Begin with the beliefs of the messages as they are."""
        self.propagation.begin()
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Do a block of iterations."""
        sweeps = min(self.block, self.control.max_iterations - state)
        self.propagation.sweep(self.control, sweeps)
        course = self.propagation.course
        under_way = course.state == CpuPropagation.UNDER_WAY
        residual = float(course.residual[under_way].max(initial=0.0))
        return state + sweeps, Info(not under_way.any(), {"residual": residual})


def _scaled(plan: PropagationPlan, log_field: Floats) -> tuple[Floats, Floats]:
    """Fields in the algebra's numbers, and ``(B,)`` logs of their scales."""
    if plan.hard or not log_field.size:
        return np.ascontiguousarray(log_field), np.zeros(len(log_field))
    offset = plan.graph.elements.offset
    field = log_field / plan.temperature
    top = np.maximum.reduceat(field, offset[:-1], axis=1)
    top[~np.isfinite(top)] = 0.0
    field -= np.repeat(top, np.diff(offset), axis=1)
    return np.exp(field, out=field), top.sum(axis=1)


def _messages(plan: PropagationPlan, rows: int, log_messages: Floats | None) -> Floats:
    """``(B, M)`` messages to begin with."""
    wiring = plan.graph.wiring
    of_slot = wiring.card[wiring.slot_var]
    shape = (rows, int(wiring.message[-1]))
    if log_messages is None and plan.hard:
        return np.zeros(shape)
    uniform = np.repeat(1.0 / of_slot, of_slot)
    if log_messages is None:
        return uniform[None] if rows == 1 else np.tile(uniform, (rows, 1))
    begin = np.broadcast_to(log_messages, shape)
    if plan.hard:
        return np.maximum(begin, np.log(_TRACE))
    return np.asarray((1.0 - _TRACE) * np.exp(begin) + _TRACE * uniform)


def arc_consistent(plan: PropagationPlan, log_field: Floats, rows: Ints) -> Mask:
    """Return ``(b,)`` whether each element keeps a state that every neighbour supports.

    Where one does not, the row has probability zero: no rounding is involved, as only zeros
    matter. Without loops the reverse holds too.

    Args:
        plan: Of the graph.
        log_field: ``(b, S)`` fields of some rows.
        rows: ``(b,)`` which rows of its tables they belong to.

    References:
        Mackworth (1977), Consistency in networks of relations.
    """
    hard = replace(plan, temperature=0.0, num_forests=0)
    run = CpuPropagation(hard, _zeros_only(log_field), rows)
    run.numbers = run.numbers._replace(table=_zeros_only(run.numbers.table))
    # every iteration but the last one rules out a state
    limit = log_field.shape[1] + int(plan.graph.wiring.message[-1]) + 2
    run.run(Control(Sequential(), adaptive=False, tolerance=0.0, max_iterations=limit))
    return np.asarray(run.course.state != CpuPropagation.IMPOSSIBLE)


def _zeros_only(logs: Floats) -> Floats:
    return np.where(np.isneginf(logs), -np.inf, 0.0)
