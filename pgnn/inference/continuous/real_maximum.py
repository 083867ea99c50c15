"""Most probable values of real variables, by gradient ascent or from modes of conditionals."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pgnn.abilities import DirectedModel
from pgnn.errors import PgnnError, Unsupported
from pgnn.inference.assignment_with_reals import AssignmentWithReals
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.guides import Delta
from pgnn.inference.continuous.model_and_guide import ModelAndGuide
from pgnn.inference.continuous.objective import Elbo
from pgnn.inference.convergence import Convergence
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.known_values import known_values, unknown_reals
from pgnn.inference.question import Question, listed

if TYPE_CHECKING:
    from pgnn.inference.continuous.variational import Variational

_ELBO = Elbo()
_REST, _STEEP = 1e-7, 1e-3
"""Derivatives in nats: tolerance at which an ascent ends, and threshold of its warning."""


def most_probable_reals(settings: Variational, question: Question) -> AssignmentWithReals:
    r"""Return :math:`\arg\max_r p(r, e)`.

    Unobserved discrete variables are summed out if the targets are real, and the density
    :math:`p(r, e) = \sum_z p(z, r, e)` may then have several maxima, of which one is found.
    Variables without children whose parents are known are set to the modes of their distributions;
    the others are found by gradient ascent.

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
    if rest:
        values = _ascended(settings, question)
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
    )


def _check_found(integrated_out: list[Hashable]) -> None:
    """Refuse targets of which a part was observed, while their parents are unknown."""
    if integrated_out:
        raise Unsupported(
            f"{integrated_out[0]!r} was observed in part, and the rest of it is integrated out "
            "where what it depends on is unknown",
            "impute() gives expectations of the rest, query() its distribution, sample() draws",
        )


def _ascended(settings: Variational, question: Question) -> dict[Hashable, Tensor]:
    """Return ``(B, *shape)`` maxima of the density, by L-BFGS over all rows at once.

    Raises:
        PgnnError: If the density becomes non-finite; the message names the variable.

    Warns:
        NotConverged: If the iteration limit is reached.
    """
    question.observed.check_rows()
    density = SummedDensity(question.model, question.observed, question.inputs)
    problem, generator = ModelAndGuide.of(density, Delta(), ()), torch.Generator()
    parameters, most = [*problem.parts.parameters()], max(1, settings.max_iterations)
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=most, max_eval=2 * most, tolerance_grad=_REST,
        tolerance_change=1e-12, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            draws = problem.weighted(_ELBO, generator)
            total = problem.total(draws, _ELBO).neg()
        if not bool(total.isfinite()):
            raise PgnnError(
                f"the most probable values were not found: the log density is {-float(total)}, "
                f"{problem.blame(draws, None)}"
            )
        total.backward(inputs=parameters)  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    gradient = max(float(p.grad.abs().max()) for p in parameters if p.grad is not None)
    with torch.no_grad():
        draws = problem.weighted(_ELBO, generator)
    verdict, state = Convergence(type(settings).__name__), optimizer.state[parameters[0]]
    ran_out = state["n_iter"] >= most or state["func_evals"] >= 2 * most
    if ran_out and gradient > _STEEP:
        verdict.stopped(
            settings.max_iterations, "raise max_iterations", f"at a derivative of {gradient:.2g}"
        )
    elif gradient > max(_STEEP, _rounded(question.model, draws.log_weights)):
        verdict.no_progress(
            gradient, "ask about fewer rows at once, or convert the model by model.double()"
        )
    verdict.warn()
    assert draws.local is not None
    return {n: x[0] for n, x in draws.local.values.items()}


def _rounded(model: Any, log_densities: Tensor) -> float:
    r"""The derivative at which rounding hides what is left to gain in a row.

    At curvature one a derivative :math:`g` gains :math:`g^2 / 2`, which a line search does not see
    below the precision :math:`\epsilon |f|` of the log density that a network returns.
    """
    precisions = [torch.finfo(p.dtype).eps for p in model.parameters() if p.is_floating_point()]
    return math.sqrt(2.0 * max(precisions, default=0.0) * float(log_densities.abs().max()))


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
