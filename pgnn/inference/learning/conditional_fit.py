"""Maximum likelihood of conditionals without a closed form, by L-BFGS and Newton's method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from pgnn.factors.conditionals.curved import Curved
from pgnn.factors.conditionals.parameter_prior import ParameterPrior
from pgnn.inference.learning.mean_ascent import Ascended, MeanProblem, ascend
from pgnn.inference.learning.newton import newton
from pgnn.inference.learning.term import MeanOfTerms, Term, evaluating

_NEAR = 1e-3
"""Largest derivative of the mean at which Newton's method starts."""
_GRADIENT = 1e-9
"""Largest derivative at which L-BFGS before Newton's method stops."""
_ROUNDED = 1e-6
"""Largest derivative that counts as zero if rounding ends Newton's method."""
_NEWTON = 400
"""Largest number of parameters for Newton's method."""


def fit_terms(terms: Sequence[Term], prior: ParameterPrior | None, max_iterations: int) -> Ascended:
    r"""Increase the weighted log-likelihood and the log prior of conditionals, in place.

    .. math:: \sum_n w_n \log p(x_n \mid \theta) + \log p(\theta)

    By L-BFGS, with exact zeros under a :class:`LaplacePrior`; with a prior, then by Newton's method
    on the non-zero parameters (for generalised linear models iteratively reweighted least squares).

    Args:
        terms: The terms; several if conditionals share parameters.
        prior: On the parameters of the first one.
        max_iterations: Largest number of L-BFGS iterations.

    Returns:
        What was reached.

    Raises:
        DataError: If the initial value or gradient is not finite.

    References:
        Nocedal and Wright (2006), Numerical Optimization, sections 3.3 and 7.2. McCullagh and
        Nelder (1989), Generalized Linear Models, section 2.5.
    """
    pieces = [t.conditional for t in terms]
    weight = sum(float(t.weights.sum()) for t in terms)
    if weight <= 0 or not any(p.requires_grad for c in pieces for p in c.parameters()):
        return Ascended()
    for t in terms:
        t.start(alone=len(terms) == 1)
    name = "the conditional of " + ", ".join(repr(c.child.name) for c in pieces)
    module = pieces[0] if len(pieces) == 1 else nn.ModuleList(pieces)
    with evaluating(pieces), _standardised(terms, prior) as near:
        mean = MeanOfTerms(near)
        if prior is None:
            return ascend(MeanProblem.of(module, mean, name), max_iterations)
        return _fit_penalised(module, mean, name, prior, max_iterations)


@contextmanager
def _standardised(terms: Sequence[Term], prior: ParameterPrior | None) -> Iterator[Sequence[Term]]:
    """Yield terms with standardised features, if the log prior is the same for these."""
    term, conditional = terms[0], terms[0].conditional
    first = term.earlier is None or term.earlier.are_none
    flat = (0.0, 0.0)
    on_bias, on_weight = (prior.rates(n) if prior else flat for n in ("bias", "weight"))
    if len(terms) > 1 or not (first and on_bias == flat and isinstance(conditional, Curved)):
        yield terms
        return
    scaled = on_weight == flat
    with conditional.standardised(term.values, term.inputs, scaled=scaled) as moved:
        yield [replace(term, values=moved[0], inputs=moved[1])]


def _fit_penalised(
    module: nn.Module, mean: MeanOfTerms, name: str, prior: ParameterPrior, max_iterations: int
) -> Ascended:
    """Fit terms with a prior; with few parameters, L-BFGS is followed by Newton's method."""
    first = mean.terms[0].conditional
    rates = {p: prior.rates(n) for n, p in first.named_parameters()}
    learned = [rates.get(p, (0.0, 0.0)) for p in module.parameters() if p.requires_grad]
    l1, l2 = ([r[k] / mean.total for r in learned] for k in (0, 1))
    names = [v.name for v in first.scope if not v.is_discrete]

    def finish(problem: MeanProblem, at_rest: bool) -> bool:
        return newton(problem, _ROUNDED, names) or (at_rest and problem.tolerance == _GRADIENT)

    result = Ascended()
    few = sum(p.numel() for p in module.parameters()) <= _NEWTON
    for tolerance in (_GRADIENT,) if any(l1) else (_NEAR, _GRADIENT):
        problem = MeanProblem.of(module, mean, name, tolerance if few else None, (l1, l2))
        result = ascend(problem, max_iterations, finish if few else None)
        if result.converged:
            break
    return result
