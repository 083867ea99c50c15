"""Posteriors of deterministic values that a program computes, from samples of its variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.errors import EvidenceError
from pgnn.factors.variable import Variable
from pgnn.inference.engine import Engine
from pgnn.inference.particles.weighted_posterior import WeightedPosterior
from pgnn.inference.question import names_of, targets_of
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
) -> Any:  # a posterior with reals
    r"""Return the posterior of computed values :math:`f(x)`, and of variables, from samples.

    .. math:: x^i \sim p(x \mid e), \qquad f^i = f(x^i)

    The program is executed again with each draw of all variables fixed, and returns its computed
    values, which are ``NaN`` in executions that do not reach the site. The draws are those behind
    the engine's answer, such as its chains, whose settings and diagnostics hold; an engine without
    draws samples all variables.

    Args:
        model: A program.
        computed: Names of values that it computes.
        others: Names of variables that are targets as well.
        evidence: As in :meth:`pgnn.models.model.Model.query`.
        engine: Engine that draws the samples.

    Raises:
        EvidenceError: If the shape of a computed value differs between samples.

    Cost:
        An execution for each draw of the engine, batched where possible; an engine without draws
        takes 4,000 samples, or 1,000 if executions cannot be batched.
    """
    question: Any = engine.read(model, evidence, None, names=[*others])
    with torch.no_grad():
        answer = engine.answer_with_draws(question)
    if answer is None:
        drawn = engine.sample(model, _MANY if model.obstacle is None else _SOME, evidence)
        return _of_samples(model, drawn, _computed(model, drawn, computed), others, engine)
    posterior, drawn = answer
    values = _computed(model, drawn, computed)
    variables = [Variable(k, None, tuple(x.shape[2:])) for k, x in values.items()]
    return engine.with_findings(question, posterior.with_computed(variables, values))


def _computed(model: Any, drawn: Samples, computed: Sequence[Hashable]) -> dict[Hashable, Tensor]:
    """``(n, B, *shape)`` computed values given draws of all variables."""
    n = drawn.num_samples
    rows = drawn.codes.shape[1] if drawn.batched else 1
    held = {k: x.reshape(n * rows, *model.variables[k].shape) for k, x in drawn.items()}
    runs = executed(model, held, n * rows, seed=0)
    return {k: _in_draws(k, [r.computed.get(k) for r in runs], n, rows) for k in computed}


def _of_samples(
    model: Any,
    drawn: Samples,
    values: dict[Hashable, Tensor],
    others: Sequence[Hashable],
    engine: Engine,
) -> WeightedPosterior:
    """Return the posterior of computed values and of variables as averages over samples."""
    n, batched = drawn.num_samples, drawn.batched
    rows = drawn.codes.shape[1] if batched else 1
    computed = [*values]
    queried = names_of(others, model.variables, model.elements)
    reals = [model.variables[k] for k in queried if _is_real(model, k)]
    values |= {v.name: drawn[v.name].reshape(n, rows, *v.shape) for v in reals}
    logs = drawn.log_weights
    log_weights = torch.zeros(n, rows).double() if logs is None else logs.reshape(n, rows).double()
    log_evidence = log_weights.logsumexp(0) - float(np.log(max(n, 1)))
    discrete = targets_of(model, [k for k in queried if not _is_real(model, k)])
    codes = drawn.codes.reshape(n, rows, -1)[..., torch.from_numpy(discrete.numbers)]
    sizes = model.elements.card[discrete.numbers].tolist()
    shares = log_weights.softmax(0)
    parts = [_shares(codes[..., k], size, shares) for k, size in enumerate(sizes)]
    return WeightedPosterior(
        discrete.variables,
        torch.cat([torch.zeros(rows, 0).double(), *parts], dim=1),
        torch.full((rows,), torch.nan).double() if logs is None else log_evidence,
        [*(Variable(k, None, tuple(values[k].shape[2:])) for k in computed), *reals],
        values,
        log_weights,
        batched=batched,
        kind="estimate",
        engine=type(engine).__name__,
        diagnostics={"num_samples": n},
    )


def _shares(codes: Tensor, size: int, shares: Tensor) -> Tensor:
    """``(B, K)`` relative frequencies of states ``(n, B)``."""
    hot = one_hot(codes.clamp_min(0), size).double() * (codes >= 0).unsqueeze(-1)
    total: Tensor = torch.einsum("nb,nbk->bk", shares, hot)
    return total / total.sum(1, keepdim=True)


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
    whole = torch.stack([blank if x is None else x.double() for x in values])
    return whole.reshape(n, rows, *blank.shape)


def _is_real(model: Any, name: Hashable) -> bool:
    variables: Mapping[Hashable, Variable] = model.variables
    return name in variables and not variables[name].is_discrete
