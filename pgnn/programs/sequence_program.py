"""Models over time as Pyro programs, with a sample site for each variable at each step."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from pgnn.abilities import EmittingModel, SlicedModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.time_steps import lagged_name
from pgnn.factors.variable import Variable
from pgnn.models.segment_tables import countdown
from pgnn.programs.graph_program import PLATE, ModelProgram, site_distribution

Values = dict[Hashable, Tensor]


class SequenceProgram(ModelProgram):
    r"""The program of a model over time, which samples each variable given its parents.

    The sites equal those of ``model.unroll(steps).program()`` and are named by ``(name, t)``, but
    the network is not unrolled. Sequences of different lengths are rows of one plate, masked after
    their end. Steps are in ``pyro.markov``, so that Pyro's enumeration reuses its dimensions. The
    parameters remain in the conditionals of the model.

    Args:
        model: A model over time.
        lengths: Number of steps of one sequence, or of each sequence of a batch.
        inputs: Covariates by name, ``(T, ...)`` for one sequence, ``(B, T, ...)`` for a batch.

    Attributes:
        sites: The site of each ``(name, t)``.
        site_variables: The variable of each site.

    Raises:
        EvidenceError: If no length is given, a length is not positive, or inputs do not fit.

    Example:
        >>> import pgnn
        >>> from pyro import poutine
        >>> model = pgnn.HiddenMarkovModel(
        ...     2, {"observed": [[0.9, 0.1], [0.2, 0.8]]}, [0.5, 0.5], [[0.7, 0.3], [0.4, 0.6]]
        ... )
        >>> program = model.program(lengths=2)
        >>> list(program.sites.values())[:2]
        ["('state', 0)", "('observed', 0)"]
        >>> fixed = poutine.condition(program, {s: torch.tensor(1) for s in program.sites.values()})
        >>> poutine.trace(fixed).get_trace().log_prob_sum().exp()  # 0.5 * 0.8 * 0.6 * 0.8
        tensor(0.1920, dtype=torch.float64)
    """

    def __init__(
        self,
        model: SlicedModel,
        lengths: int | Iterable[int] | None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self._rows, self._lengths = _lengths(lengths)
        self._order = model.order
        self._conditionals = dict(model.conditionals)
        self._first = {n: model.first(n) for n in self._order}
        self._parts = nn.ModuleList([*self._conditionals.values(), *self._first.values()])
        self._inputs = self._by_step(inputs or {})
        names: dict[Hashable, Variable] = {}
        for t in range(self.steps):
            for v in self._cells():
                names[v.name, t] = Variable((v.name, t), v.states, v.shape)
        self.name_sites(names)

    @property
    def steps(self) -> int:
        """Number of steps of the longest sequence."""
        return int(self._lengths.max())

    def forward(self) -> Values:
        """Sample every variable at every step.

        Returns:
            Values by ``(name, t)``.
        """
        values: Values = {}
        with contextlib.ExitStack() as inside:
            if self._rows is not None:
                inside.enter_context(pyro.plate(PLATE, self._rows, dim=-1))
            before: Values = {}
            for t in pyro.markov(range(self.steps)):
                with self._mask(t):
                    before = self._step(t, before)
                values.update({(n, t): x for n, x in before.items()})
        return values

    def _cells(self) -> list[Variable]:
        """Return the variables of one slice, in the order of the model."""
        return [c.child for c in self._conditionals.values()]

    def _step(self, t: int, before: Values) -> Values:
        """Sample a slice, given the previous one."""
        known: Values = {lagged_name(n): x for n, x in before.items()}
        chosen = self._conditionals if t else self._first
        for name in self._order:
            known[name] = self._sampled(chosen[name], t, known)
        return {n: known[n] for n in self._order}

    def _sampled(self, conditional: Conditional, t: int, known: Values) -> Tensor:
        name = conditional.child.name
        axis = int(self._rows is not None)
        inputs = {n: self._inputs[n].select(axis, t) for n in conditional.inputs}
        distribution = site_distribution(conditional, known, inputs, self._rows)
        return pyro.sample(self.sites[name, t], distribution)

    def _mask(self, t: int) -> Any:
        """Mask the sequences that have ended."""
        active: Any = self._lengths > t
        return contextlib.nullcontext() if bool(active.all()) else poutine.mask(mask=active)

    def _by_step(self, inputs: Mapping[Hashable, Tensor]) -> Values:
        lead = (self.steps,) if self._rows is None else (self._rows, self.steps)
        by_step = {}
        for name, value in inputs.items():
            x = torch.as_tensor(value)
            if tuple(x.shape[: len(lead)]) != lead:
                shape = ", ".join(map(str, lead))
                raise EvidenceError(
                    f"the input {name!r} must be ({shape}, ...), with a value for each step, got "
                    f"{tuple(x.shape)}"
                )
            by_step[name] = x
        return by_step


class SemiMarkovProgram(SequenceProgram):
    """The program of a hidden semi-Markov model.

    Its sites are the states, and the remaining steps of their segments, named ``("left", t)``.

    Args:
        model: A model with ``transitions`` between segments and ``durations``.
        lengths: See :class:`SequenceProgram`.
        inputs: See :class:`SequenceProgram`.
    """

    def __init__(
        self,
        model: Any,
        lengths: int | Iterable[int] | None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> None:
        # set before the constructor, which names the sites
        object.__setattr__(self, "_left", Variable("left", model.durations.child.num_states))
        if "left" in model.conditionals:
            raise Unsupported(
                "'left' is the name of the remaining steps in the program", "rename the variable"
            )
        super().__init__(model, lengths, inputs)
        self._state = model.state.name
        self._durations = model.durations

    def _cells(self) -> list[Variable]:
        state, *rest = super()._cells()
        left: Any = self._left
        return [state, left, *rest]

    def _step(self, t: int, before: Values) -> Values:
        state, left = self.sites[self._state, t], self.sites["left", t]
        lasts = self._durations.factor().log_values.exp()
        known: Values = {}
        if not before:
            known[self._state] = self._sampled(self._first[self._state], t, {})
            tables = lasts[known[self._state].long()]
        else:
            go, count = countdown(self._conditionals[self._state].factor().log_values.exp(), lasts)
            old, remaining = before[self._state].long(), before["left"].long()
            known[self._state] = pyro.sample(state, dist.Categorical(go[old, remaining]))
            tables = count[known[self._state].long(), remaining]
        known["left"] = pyro.sample(left, dist.Categorical(tables))
        known.update({lagged_name(n): x for n, x in before.items()})
        chosen = self._conditionals if t else self._first
        emitted = [n for n in self._order if n != self._state]
        for name in emitted:
            known[name] = self._sampled(chosen[name], t, known)
        return {n: known[n] for n in [self._state, "left", *emitted]}


def sequence_program(
    model: SlicedModel,
    lengths: int | Iterable[int] | None,
    inputs: Mapping[Hashable, Tensor] | None = None,
) -> SequenceProgram:
    """Return the program of a model over time."""
    lasting = isinstance(model, EmittingModel) and model.durations is not None
    return (SemiMarkovProgram if lasting else SequenceProgram)(model, lengths, inputs)


def _lengths(steps: int | Iterable[int] | None) -> tuple[int | None, Tensor]:
    """Return the number of rows (None: one sequence without a batch axis), and the lengths."""
    if steps is None:
        raise EvidenceError(
            "a program over time has sites for each step",
            "pass the number of steps, such as program(lengths=10), or program(lengths=[10, 7]) "
            "for a batch",
        )
    single = isinstance(steps, int)
    lengths = torch.as_tensor([steps] if single else list(steps), dtype=torch.int64)  # type: ignore[arg-type]
    if lengths.dim() != 1 or not len(lengths) or int(lengths.min()) < 1:
        raise EvidenceError(f"lengths must be positive numbers of steps, got {steps!r}")
    return (None if single else len(lengths)), lengths
