"""Posteriors of deterministic values that a program computes, from samples of its variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import EvidenceError
from pgnn.factors.variable import Variable
from pgnn.inference.engine import Engine
from pgnn.inference.particles.weighted_posterior import WeightedPosterior
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import names_of
from pgnn.inference.repeated_executions import executed
from pgnn.inference.samples import Samples

_MANY, _SOME = 4000, 1000
"""Numbers of draws of an answer: with vectorised and with single executions."""


def computed_posterior(
    model: Any,  # an executable model with variables
    computed: Sequence[Hashable],
    others: Sequence[Hashable],
    evidence: Any,
    engine: Engine,
    *,
    inputs: Inputs | None = None,
    errors: str = "raise",
) -> Any:  # a posterior with reals
    r"""Return the posterior of computed values :math:`f(x)`, and of variables, from samples.

    .. math:: x^i \sim p(x \mid e), \qquad f^i = f(x^i)

    The program is executed again with each draw of all variables fixed, and returns its computed
    values, which are ``NaN`` in executions that do not reach the site. The draws are those behind
    the engine's answer, such as its chains, whose settings and diagnostics hold. An engine without
    draws samples all variables; its answer about discrete variables does not depend on the samples.

    Args:
        model: A program.
        computed: Names of values that it computes.
        others: Names of variables that are targets as well.
        evidence: As in :meth:`pgnn.models.model.Model.query`.
        engine: Engine that draws the samples.
        inputs: Covariates.
        errors: Treatment of impossible rows, as in a query.

    Raises:
        EvidenceError: If the shape of a computed value differs between samples.

    Cost:
        An execution for each draw of the engine, batched where possible; an engine without draws
        takes 4,000 samples, or 1,000 if executions cannot be batched.
    """
    question: Any = engine.read(model, evidence, inputs, names=[*others], errors=errors)
    with torch.no_grad():
        answer = engine.answer_with_draws(question)
    if answer is None:
        return question.answered(_by_sampling(question, computed, engine))
    posterior, drawn = answer
    values = _computed(model, drawn, computed)
    variables = [Variable(k, None, tuple(x.shape[2:])) for k, x in values.items()]
    return question.answered(posterior.with_computed(variables, values))


def _computed(model: Any, drawn: Samples, computed: Sequence[Hashable]) -> dict[Hashable, Tensor]:
    """``(n, B, *shape)`` computed values given draws of all variables."""
    n = drawn.num_samples
    rows = drawn.codes.shape[1] if drawn.batched else 1
    held = {k: x.reshape(n * rows, *model.variables[k].shape) for k, x in drawn.items()}
    runs = executed(model, held, n * rows, seed=0)
    return {k: _in_draws(k, [r.computed.get(k) for r in runs], n, rows) for k in computed}


def _by_sampling(question: Any, computed: Sequence[Hashable], engine: Engine) -> WeightedPosterior:
    """Return the engine's posterior of discrete variables, with averages over samples of others."""
    model, observed = question.model, question.observed
    queried = names_of(question.names, model.variables, model.elements)
    reals = [model.variables[k] for k in queried if _is_real(model, k)]
    discrete = [k for k in queried if not _is_real(model, k)]
    answer = model.query(
        discrete, observed, inputs=question.inputs, engine=engine, errors=question.errors
    )
    possible = (answer.log_evidence.reshape(-1) != -torch.inf).nonzero()[:, 0]
    n = _MANY if model.obstacle is None else _SOME
    drawn = engine.sample(model, n, observed.take(possible.numpy()), inputs=question.inputs)
    values = _computed(model, drawn, computed) | {v.name: drawn[v.name] for v in reals}
    weights = torch.zeros(n, len(possible)) if drawn.log_weights is None else drawn.log_weights
    rows = observed.num_rows
    of_computed = [Variable(k, None, tuple(values[k].shape[2:])) for k in computed]
    return WeightedPosterior(
        answer.variables,
        torch.cat(
            [torch.zeros(rows, 0), *(_columns(answer, v, rows) for v in answer.variables)], 1
        ),
        answer.log_evidence.reshape(-1),
        [*of_computed, *reals],
        {k: _in_rows(x, possible, rows, torch.nan) for k, x in values.items()},
        _in_rows(weights.double(), possible, rows, 0.0),
        batched=observed.batched,
        index=observed.index,
        kind=answer.kind,
        engine=answer.engine,
        diagnostics={**answer.diagnostics, "num_samples": n},
    )


def _columns(answer: Posterior, variable: Variable, rows: int) -> Tensor:
    """``(B, S)`` probabilities of the states of a variable."""
    return answer.probs(variable.name).reshape(rows, variable.num_elements * variable.num_states)


def _in_rows(values: Tensor, possible: Tensor, rows: int, missing: float) -> Tensor:
    """``(n, B, ...)`` samples of all rows, from those of the rows that are possible."""
    whole = values.new_full((len(values), rows, *values.shape[2:]), missing)
    whole[:, possible] = values
    return whole


def _in_draws(name: Hashable, values: Sequence[Tensor | None], n: int, rows: int) -> Tensor:
    """``(n, B, *shape)`` samples of a computed value; ``NaN`` if an execution did not reach it."""
    present = [x for x in values if x is not None]
    shapes = {tuple(x.shape) for x in present}
    if len(shapes) > 1:
        raise EvidenceError(
            f"the shape of {name!r} differs between executions ({min(shapes)}, "
            f"{max(shapes)}), so that it has no mean"
        )
    blank = torch.full(shapes.pop() if shapes else (), torch.nan, dtype=torch.float64)
    if not values:  # no row is possible
        return blank.new_zeros(n, rows)
    whole = torch.stack([blank if x is None else x.double() for x in values])
    return whole.reshape(n, rows, *blank.shape)


def _is_real(model: Any, name: Hashable) -> bool:
    variables: Mapping[Hashable, Variable] = model.variables
    return name in variables and not variables[name].is_discrete
