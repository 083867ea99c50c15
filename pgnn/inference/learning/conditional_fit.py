"""Maximum likelihood of a conditional without a closed form, by L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.data_start import StartsFromData
from pgnn.factors.conditionals.renamed import bare
from pgnn.inference.convergence import Convergence
from pgnn.inference.learning.earlier_batches import EarlierBatches
from pgnn.inference.learning.expected_statistics import WeightedRows
from pgnn.inference.learning.line_search_loss import LineSearchLoss

_GRADIENT = 1e-6
"""Largest partial derivative of the mean log-likelihood at which a fit has converged."""
_AT_REST = 1e-3
"""Largest partial derivative of the mean over rows at which an M-step is skipped."""
_ITERATIONS = 20
"""Number of L-BFGS iterations in an M-step without a closed form."""
_ROUNDS = 10
"""Largest number of runs of L-BFGS, each in units of the scale that the last one has found."""
_STILL = 1e-3
"""Largest step in these units after which there is no further run."""


@dataclass(frozen=True, eq=False)
class Term:
    r"""An expected log-likelihood, :math:`\sum_n \sum_j w_{nj} \log p(x_n \mid j)`.

    Attributes:
        conditional: The conditional, with learnable parameters.
        values: Observed values ``(N, ...)`` by name; unobserved variables are axes of the weights.
        inputs: Covariates ``(N, ...)``.
        weights: ``(N, K...)`` posterior weights, with axes in the order of the unobserved
            variables.
        earlier: Log-likelihood of earlier batches, which is added.
    """

    conditional: Conditional
    values: Mapping[Hashable, Tensor]
    inputs: Mapping[Hashable, Tensor]
    weights: Tensor
    earlier: EarlierBatches | None = None

    @classmethod
    def of(cls, conditional: Conditional, rows: WeightedRows) -> Term:
        """Return the term of rows with posterior weights."""
        return cls(bare(conditional), rows.values, rows.inputs, rows.weights, rows.earlier)

    def start(self) -> None:
        """Set numbers that were not given, if the conditional takes them from the data."""
        first = self.earlier is None or self.earlier.are_none
        if first and isinstance(self.conditional, StartsFromData):
            self.conditional.start_from(self.values, self.weights)

    def value(self) -> Tensor:
        """Return the scalar value."""
        table = self.conditional.log_table(dict(self.values), dict(self.inputs) or None)
        # configurations of weight zero may be impossible
        weights = self.weights
        terms = torch.where(weights > 0, weights.to(table) * table, torch.zeros_like(table))
        total = terms.sum()
        return total if self.earlier is None else total + self.earlier.value(self.conditional)


@contextmanager
def evaluating(conditionals: Sequence[Conditional]) -> Iterator[None]:
    """Put conditionals into evaluation mode, so that repeated evaluations agree."""
    training = [c.training for c in conditionals]
    for c in conditionals:
        c.eval()
    try:
        yield
    finally:
        for c, was in zip(conditionals, training, strict=True):
            c.train(was)


def fit_conditional(term: Term, max_iterations: int) -> None:
    """Maximise the term over the learnable parameters, in place.

    Args:
        term: The term of one conditional.
        max_iterations: Largest number of iterations.

    Raises:
        DataError: If the rows are impossible under the initial parameters.

    Warns:
        NotConverged: If the gradient is not small after ``max_iterations`` iterations.

    References:
        Nocedal and Wright (2006), Numerical Optimization, section 7.2.
    """
    conditional, name = term.conditional, term.conditional.child.name
    parameters = [p for p in conditional.parameters() if p.requires_grad]
    total = float(term.weights.sum())
    term.start()
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=max_iterations,
        tolerance_grad=_GRADIENT,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -term.value() / total
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad(), evaluating([conditional]):
        if not math.isfinite(closure().item()):
            raise DataError(
                "some rows have probability zero under the initial parameters of the "
                f"conditional of {name!r}",
                "use other initial parameters (such as leak=None of a noisy-or, which is "
                "learned) or check the data",
            )
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        closure()
    worst = max(float(p.grad.abs().max()) for p in parameters if p.grad is not None and p.numel())
    optimizer.zero_grad()
    if not worst <= 10 * _GRADIENT:
        Convergence("MaximumLikelihood").stopped(
            max_iterations,
            "raise max_iterations",
            f"with a largest partial derivative of {worst:.2g} for {name!r}, more than "
            f"{10 * _GRADIENT:g}",
        ).warn()


def gradient_step(terms: Sequence[Term], max_iterations: int = _ITERATIONS) -> bool:
    r"""Increase a sum of terms by L-BFGS, in place.

    A generalised M-step: the value is increased, not necessarily maximised, and never decreases.

    Args:
        terms: The terms; several if conditionals share parameters.
        max_iterations: Largest number of L-BFGS iterations.

    Returns:
        Whether the value increased, or is already stationary.

    Raises:
        DataError: If the initial value or gradient is not finite.

    References:
        Neal and Hinton (1998), A view of the EM algorithm that justifies incremental, sparse, and
        other variants.
    """
    pieces = [t.conditional for t in terms]
    parameters = [*dict.fromkeys(p for c in pieces for p in c.parameters() if p.requires_grad)]
    total = sum(float(t.weights.sum()) for t in terms)
    if not parameters or total <= 0:
        return True
    named = ", ".join(repr(c.child.name) for c in pieces)
    for t in terms:
        t.start()

    def loss() -> Tensor:
        return -torch.stack([t.value() for t in terms]).sum() / total

    with evaluating(pieces):
        for _ in range(_ROUNDS if max_iterations > _ITERATIONS else 1):
            units, before = _units(pieces), [p.detach().clone() for p in parameters]
            increased = raised(loss, parameters, named, max_iterations, units)
            if not (units and _moved(parameters, before, units)):
                break
        return increased


def raised(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    what: str,
    max_iterations: int,
    units: Mapping[Tensor, Tensor] | None = None,
) -> bool:
    """Decrease a mean loss by L-BFGS, in place; it never increases.

    Args:
        loss: Function that returns the scalar loss.
        parameters: The parameters of the loss.
        what: Name of the loss in messages.
        max_iterations: Largest number of L-BFGS iterations.
        units: Sizes of steps of parameters, where they are not one.

    Returns:
        Whether the loss decreased, or is already stationary.

    Raises:
        DataError: If the initial loss or gradient is not finite.
    """
    before = [p.detach().clone() for p in parameters]
    search = LineSearchLoss(loss, parameters, units or {})
    optimizer = torch.optim.LBFGS(
        search.variables, max_iter=max_iterations, history_size=10, line_search_fn="strong_wolfe"
    )
    try:
        with torch.enable_grad():
            first = search.begin()
            _check_finite(what, first, parameters)
            steepest = search.steepest
            optimizer.step(search)  # type: ignore[no-untyped-call]
        last = search.end()
        with torch.no_grad():
            if not last <= first:
                for p, old in zip(parameters, before, strict=True):
                    p.copy_(old)
    finally:
        for p in parameters:
            p.grad = None
    return last < first or steepest <= _AT_REST


def _units(pieces: Sequence[Conditional]) -> dict[Tensor, Tensor]:
    """Units of parameters that have those of the data."""
    starting = [c for c in pieces if isinstance(c, StartsFromData)]
    return {p: unit for c in starting for p, unit in c.units().items()}


def _moved(
    parameters: Sequence[Tensor], before: Sequence[Tensor], units: Mapping[Tensor, Tensor]
) -> bool:
    """Whether some parameter has moved by more than a small share of its unit."""
    pairs = zip(parameters, before, strict=True)
    steps = [(p.detach() - old).abs() / units.get(p, torch.ones_like(p)) for p, old in pairs]
    return any(float(x.max()) > _STILL for x in steps if x.numel())


def _check_finite(what: str, value: float, parameters: Sequence[Tensor]) -> None:
    """Check that the gradient is finite at the start of a step."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if math.isfinite(value) and all(bool(g.isfinite().all()) for g in gradients):
        return
    kind = "log-likelihood" if not math.isfinite(value) else "gradient"
    raise DataError(
        f"the observations of {what} have no finite {kind} under the parameters: a value is on "
        "the boundary of the support (such as 0 for a Gamma distribution), or a given parameter "
        "is infinite",
        "check the data, or use other initial parameters",
    )
