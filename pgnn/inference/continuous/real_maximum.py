"""Most probable values of real variables, by gradient ascent or from modes of conditionals."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pgnn.abilities import DirectedModel
from pgnn.errors import PgnnError, Unsupported
from pgnn.inference.assignment_with_reals import AssignmentWithReals
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.guides import Delta
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, make_generator
from pgnn.inference.continuous.objective import Elbo
from pgnn.inference.continuous.potential_energy import SPREAD
from pgnn.inference.convergence import Convergence
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.known_values import known_values, unknown_reals
from pgnn.inference.question import Question, listed

if TYPE_CHECKING:
    from pgnn.inference.continuous.variational import Variational

_ELBO = Elbo()
_REST, _STEEP = 1e-7, 1e-3
"""Derivatives in nats: tolerance at which an ascent ends, and threshold of its warning."""
_STARTS, _AGREEING = 5, 3
"""Largest number of ascents of a row, and number that must have reached its best maximum."""
_SAME = 1e-3
"""Nats by which the log densities of one maximum may differ, found from two starts."""


def most_probable_reals(settings: Variational, question: Question) -> AssignmentWithReals:
    r"""Return :math:`\arg\max_r p(r, e)`.

    Unobserved discrete variables are summed out if the targets are real, and the density
    :math:`p(r, e) = \sum_z p(z, r, e)` may then have several maxima. Variables without children
    whose parents are known are set to the modes of their distributions; the others are found by
    gradient ascent, the best of several starts. The answer's diagnostics say how many ``starts``
    each row has had, and by how many its maximum was ``reached_by``.

    Args:
        settings: Settings of the ascent.
        question: Question whose targets are real.

    Raises:
        Unsupported: If a target is discrete, a distribution does not define its mode, or
            a target was observed in part and depends on unknown reals.
    """
    unknown, summed = unknown_reals(question), not question.complete
    if summed and (question.names is None or not {*listed(question.names)} <= {*unknown}):
        raise Unsupported(
            "joint maximisation over states and real values is not supported for this model",
            "give the states as evidence, or pass only real variables as targets=, for which the "
            "states are summed out; query() gives the probabilities of states",
        )
    leaves = [] if summed else [n for n in unknown if _is_leaf(question, n, unknown)]
    # missing cells of a partially observed vector are integrated out if its parents are unknown
    rest = [n for n in unknown if n not in leaves and n not in question.observed.names]
    names = [*leaves, *rest]
    queried = names if question.names is None else listed(question.names)
    _check_found([n for n in queried if n in unknown and n not in names])
    if rest and leaves:
        raise Unsupported(
            f"joint maximisation over {leaves[0]!r} and {rest[0]!r}, on which it depends, is not "
            "supported",
            "give one of them as evidence, or draw both by sample()",
        )
    with torch.no_grad():
        values = {n: _mode(question, n) for n in leaves}
    diagnostics: dict[str, Any] = {}
    if rest:
        values, diagnostics = _ascended(settings, question)
    wanted = [n for n in names if n in queried]
    rows = question.observed
    known = replace(rows, reals={**rows.reals, **values}, names=(*rows.names, *values))
    log_prob = JunctionTree().answer_log_prob(
        Question(question.model, None, known, question.inputs)
    )
    return AssignmentWithReals(
        {n: values[n] for n in wanted},
        [],
        torch.zeros(question.num_rows, 0, dtype=torch.int64),
        log_prob.detach(),
        batched=rows.batched,
        index=rows.index,
        engine=type(settings).__name__,
        diagnostics=diagnostics,
    )


def _check_found(integrated_out: list[Hashable]) -> None:
    """Refuse targets of which a part was observed, while their parents are unknown."""
    if integrated_out:
        raise Unsupported(
            f"{integrated_out[0]!r} was observed in part, and the rest of it is integrated out "
            "where what it depends on is unknown",
            "impute() gives expectations of the rest, query() its distribution, sample() draws",
        )


class _Maxima(NamedTuple):
    """Where ascents ended, for each row.

    Attributes:
        values: ``(B, *shape)`` values of the variables.
        log_densities: ``(B,)`` log densities.
        gradient: ``(B,)`` largest derivatives.
        ran_out: ``(B,)`` whether the limit on iterations was reached.
    """

    values: dict[Hashable, Tensor]
    log_densities: Tensor
    gradient: Tensor
    ran_out: Tensor

    def take(self, other: _Maxima, rows: Tensor, chosen: Tensor) -> None:
        """Take over the chosen ones among maxima of some rows, in place."""
        at = rows[chosen]
        for mine, new in [(self.values[n], x) for n, x in other.values.items()] + [
            *zip(self[1:], other[1:], strict=True)
        ]:
            mine[at] = new[chosen]


def _ascended(
    settings: Variational, question: Question
) -> tuple[dict[Hashable, Tensor], dict[str, Any]]:
    """Return ``(B, *shape)`` maxima of the density, the best of several starts, and diagnostics.

    Rows start at zero in unconstrained coordinates, where exchangeable variables are equal and
    stay so, then at random points, until several starts of a row have reached its best maximum.

    Raises:
        PgnnError: If the density becomes non-finite; the message names the variable.

    Warns:
        NotConverged: If the iteration limit is reached.
    """
    question.observed.check_rows()
    density = SummedDensity(question.model, question.observed, question.inputs)
    best = _ascent(settings, density, None)
    same = max(_SAME, _rounded(question.model, best))
    starts = torch.ones(len(best.log_densities), dtype=torch.int64)
    reached_by, generator = starts.clone(), make_generator(settings.seed)
    for _ in range(1, _STARTS):
        rows = (reached_by < _AGREEING).nonzero()[:, 0]
        if not len(rows):
            break
        starts[rows] += 1
        try:
            found = _ascent(settings, density.take(rows), generator)
        except PgnnError:  # of random points, some have no density
            continue
        gain = found.log_densities - best.log_densities[rows]
        reached_by[rows] += (gain.abs() <= same).long()
        reached_by[rows[gain > same]] = 1
        best.take(found, rows, gain > same)
    verdict = Convergence(type(settings).__name__)
    late, gradient = best.ran_out & (best.gradient > _STEEP), float(best.gradient.max())
    if bool(late.any()):
        verdict.stopped(
            settings.max_iterations,
            "raise max_iterations",
            f"at a derivative of {float(best.gradient[late].max()):.2g}",
        )
    elif gradient > max(_STEEP, _rounded(question.model, best)):
        verdict.no_progress(
            gradient, "ask about fewer rows at once, or convert the model by model.double()"
        )
    verdict.warn()
    return best.values, {"starts": starts, "reached_by": reached_by}


def _ascent(
    settings: Variational, density: SummedDensity, generator: torch.Generator | None
) -> _Maxima:
    """Return maxima of the density by L-BFGS over all rows at once.

    Args:
        settings: Settings of the ascent.
        density: Of all rows.
        generator: Of the start, a point as in Stan; zero in all coordinates if not given.
    """
    problem, unused = ModelAndGuide.of(density, Delta(), ()), torch.Generator()
    parameters, most = [*problem.parts.parameters()], max(1, settings.max_iterations)
    if generator is not None:
        with torch.no_grad():
            for p in parameters:
                p.uniform_(-SPREAD, SPREAD, generator=generator)
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=most, max_eval=2 * most, tolerance_grad=_REST,
        tolerance_change=1e-12, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            draws = problem.weighted(_ELBO, unused)
            total = problem.total(draws, _ELBO).neg()
        if not bool(total.isfinite()):
            raise PgnnError(
                f"the most probable values were not found: the log density is {-float(total)}, "
                f"{problem.blame(draws, None)}"
            )
        total.backward(inputs=parameters)  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    gradients = [p.grad.abs().amax(1) for p in parameters if p.grad is not None]
    with torch.no_grad():
        draws = problem.weighted(_ELBO, unused)
    state = optimizer.state[parameters[0]]
    ran_out = state["n_iter"] >= most or state["func_evals"] >= 2 * most
    assert draws.local is not None
    return _Maxima(
        {n: x[0].clone() for n, x in draws.local.values.items()},
        draws.log_weights[0].clone(),
        torch.stack(gradients).amax(0),
        torch.full((problem.num_rows,), bool(ran_out)),
    )


def _rounded(model: Any, at: _Maxima) -> float:
    r"""The derivative at which rounding hides what is left to gain in a row.

    At curvature one a derivative :math:`g` gains :math:`g^2 / 2`, which a line search does not see
    below the precision :math:`\epsilon |f|` of the log density, that of the numbers of a network or
    of a program.
    """
    numbers = [x for x in [*model.parameters(), *at.values.values()] if x.is_floating_point()]
    precision = max(torch.finfo(x.dtype).eps for x in numbers)
    return math.sqrt(2.0 * precision * float(at.log_densities.abs().max()))


def _is_leaf(question: Question, name: Hashable, unknown: list[Hashable]) -> bool:
    """Whether a variable has no children and all of its parents are known."""
    model = question.model
    if not isinstance(model, DirectedModel):
        return False
    parents = [v.name for v in model.conditionals[name].parents]
    children = [n for n, c in model.conditionals.items() if name in (v.name for v in c.parents)]
    return not children and not any(n in unknown for n in parents)


def _mode(question: Question, name: Hashable) -> Tensor:
    """Return the mode ``(B, *shape)`` of a variable given its parents and observed components."""
    model: Any = question.model
    conditional, rows = model.conditionals[name], question.observed
    values = known_values(model, rows)
    parents = {v.name: values[v.name] for v in conditional.parents}
    inputs = {n: x for n, x in (question.inputs or {}).items() if n in conditional.inputs}
    distribution = conditional.distribution(parents, inputs or None)
    try:
        mode: Tensor = distribution.mode
    except NotImplementedError:
        raise Unsupported(
            f"the distribution of {name!r} does not define its mode",
            "use query() for its mean, or sample()",
        ) from None
    mode = mode.expand(rows.num_rows, *conditional.child.shape)
    known = rows.reals.get(name)
    return mode if known is None else torch.where(known.isnan(), mode, known.to(mode))
