"""One step of a particle filter: draws of a slice, weighted by its evidence."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from pgnn.errors import Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.tape.array_tape import ArrayTape, lifted
from pgnn.tape.recorder import record
from pgnn.tape.tape import Tape

Values = dict[Hashable, Tensor]
Array = NDArray[Any]

_WARM = 1
"""Number of runs by Python before the operations of a step are recorded."""


class Observed(Enum):
    """Whether a variable was observed in no, some or all rows at a step."""

    EVERYWHERE = "all"
    SOMEWHERE = "some"
    NOWHERE = "none"
    LIKELIHOOD = "likelihood"


@dataclass(frozen=True)
class Pattern:
    """The properties of a step that determine its operations.

    Attributes:
        first: Whether it is the first step.
        observed: In which rows each variable was observed, in the order of the slice.
        inside: Whether no row has ended.
    """

    first: bool
    observed: tuple[Observed, ...]
    inside: bool


class Slice(NamedTuple):
    """The parts of a step: conditionals in order, and the stored variables.

    Attributes:
        conditionals: Conditionals of each variable, parents first.
        proposals: Conditionals from which some variables are drawn instead.
        skipped: Variables that need not be drawn if they are not observed.
        kept: Variables whose values are returned after the step.
        number: Number of particles per row.
        scored: Whether the log density of the draws is returned as well.
        in_part: Variables that are partially observed.
    """

    conditionals: Mapping[Hashable, Conditional]
    proposals: Mapping[Hashable, Conditional]
    skipped: frozenset[Hashable]
    kept: tuple[Hashable, ...]
    number: int
    scored: bool
    in_part: frozenset[Hashable] = frozenset()


class ParticleStep:
    """The steps of one pattern, first run in Python, then replayed from a tape.

    Args:
        slice_: The parts of the step.
        pattern: Pattern of the steps.
        lagged: Variables of the previous slice among the arguments.
        inputs: Names of the covariates among the arguments.
        rng: Random generator in addition to that of torch.

    Attributes:
        fed: Variables that are observed in some row, whose values are among the arguments.
        weighs: Whether the step changes the log weights.
    """

    def __init__(
        self,
        slice_: Slice,
        pattern: Pattern,
        lagged: Sequence[Hashable],
        inputs: Sequence[Hashable],
        rng: np.random.Generator,
    ) -> None:
        self.slice, self.pattern, self.rng = slice_, pattern, rng
        self.modes = dict(zip(slice_.conditionals, pattern.observed, strict=True))
        self.fed = [n for n, mode in self.modes.items() if mode is not Observed.NOWHERE]
        self.lagged = [] if pattern.first else [(n, -1) for n in lagged]
        self.inputs = [*inputs]
        self.weighs = bool(self.fed) or any(self._proposal(n) for n in slice_.proposals)
        self._runs = 0
        self._arrays: ArrayTape | None = None
        self._fast: Callable[..., Sequence[Tensor]] | None = None
        self._guards: list[bool] = []

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Propagate all particles by one step.

        Args:
            arrays: ``(B N, *shape)`` values of the previous slice; ``(B, *shape)`` observations, or
                likelihoods ``(B, K)``; ``(B, ...)`` covariates; and a ``(B,)`` mask of rows that
                have not ended.

        Returns:
            ``(B N, *shape)`` values of the stored variables; ``(B N,)`` increments of the log
            weights, if any; ``(B N,)`` log densities of the slice, if requested.
        """
        self._runs += 1
        if self._arrays is not None:
            return self._arrays.run([*arrays, *self._arrays.draw(self.rng)])
        tensors = [_tensor(x) for x in arrays]
        outputs = self._replayed(tensors)
        if outputs is None:
            recording = self._runs == _WARM + 1
            outputs = self._recorded(tensors) if recording else self._moved(tensors)
        return [x.numpy(force=True) for x in outputs]

    # --- by Python ------------------------------------------------------------------------------

    def _moved(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        left = iter(tensors)
        known: Values = {n: next(left) for n in self.lagged}
        observed = {n: self._spread(next(left)) for n in self.fed}
        covariates = {n: self._spread(next(left)) for n in self.inputs}
        inside = next(left)
        rows = len(inside) * self.slice.number
        going = None if self.pattern.inside else self._spread(inside)
        gained: list[Tensor] = []
        scored: list[Tensor] = []
        for name, conditional in self.slice.conditionals.items():
            if self.modes[name] is Observed.NOWHERE and name in self.slice.skipped:
                continue
            piece = Piece(conditional, known, covariates, rows, name in self.slice.in_part)
            if self.modes[name] is Observed.EVERYWHERE:
                known[name] = observed[name]
                gained.append(piece.log_prob(known[name]))
                scored.append(gained[-1])
            else:
                known[name] = self._drawn_or_observed(piece, observed, gained, scored)
        values = [known[n] for n in self.slice.kept]
        sums = [_sum(gained, going)] if self.weighs else []
        sums += [_sum(scored, going)] if self.slice.scored else []
        return [*values, *sums]

    def _drawn_or_observed(
        self, piece: Piece, observed: Values, gained: list[Tensor], scored: list[Tensor]
    ) -> Tensor:
        """Return the values of a variable that is not observed in all rows."""
        name = piece.conditional.child.name
        proposal, mode = self._proposal(name), self.modes[name]
        if proposal is None:
            value = piece.draw()
        else:
            proposed = Piece(proposal, {**observed, **piece.known}, piece.covariates, piece.rows)
            value = proposed.draw()
            gained.append(piece.log_prob(value) - proposed.log_prob(value))
        if mode is Observed.LIKELIHOOD:
            gained.append(observed[name].gather(1, value.long()[:, None])[:, 0].log())
            scored.append(gained[-1])
        if mode is Observed.SOMEWHERE:
            present = _present(observed[name])
            shape = [-1, *[1] * (value.dim() - 1)]
            value = torch.where(present.reshape(shape), observed[name].to(value), value)
            term = piece.log_prob(value)
            gained.append(torch.where(present, term, torch.zeros_like(term)))
            scored.append(term)
        elif self.slice.scored:
            scored.append(piece.log_prob(value))
        return value

    def _proposal(self, name: Hashable) -> Conditional | None:
        """Return the proposal of a variable if all its parents are known."""
        proposal = self.slice.proposals.get(name)
        if proposal is None:
            return None
        if self.modes[name] is not Observed.NOWHERE:
            return None
        for v in proposal.parents:
            lagged = isinstance(v.name, tuple) and v.name not in self.modes
            if lagged and self.pattern.first:
                return None
            if (
                not lagged
                and self.modes[v.name] is not Observed.EVERYWHERE
                and not self._drawn_before(v.name, name)
            ):
                return None
        return proposal

    def _drawn_before(self, one: Hashable, other: Hashable) -> bool:
        order = [*self.slice.conditionals]
        drawn = self.modes[one] is Observed.NOWHERE and one not in self.slice.skipped
        return drawn and order.index(one) < order.index(other)

    def _spread(self, x: Tensor) -> Tensor:
        """Repeat ``(B, ...)`` to ``(B N, ...)``."""
        if len(x) == 1:
            return x.expand(self.slice.number, *x.shape[1:])
        return x.repeat_interleave(self.slice.number, dim=0)

    # --- by a tape ------------------------------------------------------------------------------

    def _recorded(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Run in Python, record the operations, and check that the recording is complete."""
        outputs: list[Tensor] = []

        def compute() -> list[Tensor]:
            outputs.extend(self._moved(tensors))
            return outputs

        tape = record(compute, tensors, numbers_only=True, with_draws=True)
        if tape is not None and len({id(x) for x in tensors}) == len(tensors):
            self._arrays = _in_arrays(tape, tensors, outputs)
            if self._arrays is None:
                self._in_torch(tape, tensors)
        return outputs

    def _in_torch(self, tape: Tape, tensors: Sequence[Tensor]) -> None:
        """Run the tape by torch's interpreter, if its results agree with those of Python."""
        whole = replace(tape, outputs=(*tape.outputs, *(s for s, _ in tape.guards)), guards=())
        fast = whole.scripted(tensors)
        state = torch.random.get_rng_state()
        one = whole.run(tensors)
        torch.random.set_rng_state(state)
        if _agree(one, list(fast(*tensors))):
            self._fast, self._guards = fast, [answer for _, answer in tape.guards]

    def _replayed(self, tensors: Sequence[Tensor]) -> list[Tensor] | None:
        """Return the results of the tape; None if there is no tape, or a branch differs."""
        if self._fast is None:
            return None
        outputs = list(self._fast(*tensors))
        count = len(outputs) - len(self._guards)
        if any(bool(x) != a for x, a in zip(outputs[count:], self._guards, strict=True)):
            return None
        return outputs[:count]


def _in_arrays(
    tape: Tape, tensors: Sequence[Tensor], outputs: Sequence[Tensor]
) -> ArrayTape | None:
    """Return the tape for NumPy, if its results agree with those of torch."""
    array_tape = ArrayTape.of(tape, outputs)
    if array_tape is None:
        return None
    noise = array_tape.draw(np.random.default_rng(0))
    arrays = array_tape.run([*(x.numpy() for x in tensors), *noise])
    reference = lifted(tape).run([*tensors, *map(torch.from_numpy, noise)])
    return array_tape if _agree(reference, [_tensor(x) for x in arrays]) else None


@dataclass(frozen=True, eq=False)
class Piece:
    """The distribution of one variable given particles."""

    conditional: Conditional
    known: Values
    covariates: Values
    rows: int
    in_part: bool = False

    def draw(self) -> Tensor:
        """``(R, *shape)`` draws."""
        return drawn(self._distribution(), self.rows)

    def log_prob(self, value: Tensor) -> Tensor:
        """``(R,)`` log probabilities; missing components of a vector are integrated out."""
        if self.conditional.child.is_discrete or self.in_part:
            child = self.conditional.child
            table = self.conditional.factor({**self._parents, child.name: value}, self._inputs)
            return table.log_values.double().expand(self.rows)
        log_probs: Tensor = self._distribution().log_prob(value)
        return log_probs.double().expand(self.rows)

    def _distribution(self) -> Distribution:
        return self.conditional.distribution(self._parents, self._inputs)

    @property
    def _parents(self) -> Values:
        return {v.name: self.known[v.name] for v in self.conditional.parents}

    @property
    def _inputs(self) -> Values | None:
        return {n: self.covariates[n] for n in self.conditional.inputs} or None


def drawn(distribution: Distribution, rows: int) -> Tensor:
    """Return ``rows`` draws; of normal distributions as shifted and scaled standard ones."""
    base: Any = distribution.base_dist if isinstance(distribution, Independent) else distribution
    shape = (
        [*distribution.batch_shape, *distribution.event_shape]
        if distribution.batch_shape
        else [rows, *distribution.event_shape]
    )
    if type(base) is Normal:
        noise = torch.randn(shape, dtype=base.loc.dtype, device=base.loc.device)
        return torch.addcmul(base.loc, base.scale, noise)
    if type(distribution) is MultivariateNormal:
        noise = torch.randn(shape, dtype=distribution.loc.dtype, device=distribution.loc.device)
        factor: Any = distribution._unbroadcasted_scale_tril
        spread: Tensor = (factor @ noise.unsqueeze(-1)).squeeze(-1)
        return distribution.loc + spread
    draws: Tensor = (
        distribution.sample()
        if distribution.batch_shape
        else distribution.sample(torch.Size((rows,)))
    )
    return draws


def observed_in_part(conditional: Conditional, values: Tensor, has_children: bool) -> bool:
    """Return whether a variable is partially observed at some steps and has a use for this.

    Args:
        conditional: Conditional of the variable.
        values: ``(B, T, *shape)`` real values.
        has_children: Whether other variables depend on it.

    Raises:
        Unsupported: If missing components of a vector are not integrated out.
    """
    missing = values.isnan().flatten(start_dim=2) if values.dim() > 2 else values.isnan()
    in_part = values.dim() > 2 and bool((missing.any(-1) & ~missing.all(-1)).any())
    if in_part and (has_children or not conditional.integrates_missing):
        raise Unsupported(
            f"{conditional.child.name!r} is partially observed at some steps, which particles do "
            "not support",
            "declare its components as separate variables",
        )
    return in_part


def _present(value: Tensor) -> Tensor:
    """Return ``(R,)`` whether any component is observed."""
    if not value.is_floating_point():
        return value >= 0
    missing = value.isnan()
    return ~missing.flatten(start_dim=1).all(1) if value.dim() > 1 else ~missing


def _sum(terms: Sequence[Tensor], going: Tensor | None) -> Tensor:
    """Sum of log probabilities; zero in rows that have ended."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total if going is None else torch.where(going, total, torch.zeros_like(total))


def _tensor(array: Array) -> Tensor:
    """Return the array as a tensor; a read-only view is copied to avoid a warning of torch."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _agree(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(
        torch.allclose(x, y, rtol=1e-6, atol=1e-9, equal_nan=True)
        for x, y in zip(one, other, strict=True)
    )
