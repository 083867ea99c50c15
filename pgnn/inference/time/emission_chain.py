"""Hidden Markov models as chains: tables of observed emissions, draws of unobserved ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor

from pgnn.abilities import EmittingModel, Inputs
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.logspace import logsumexp
from pgnn.factors.randomness import private_randomness
from pgnn.factors.time_steps import lagged_name
from pgnn.factors.variable import MISSING
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.segment_chain import SegmentChain


def emission_chain(
    model: EmittingModel,
    observed: SequenceEvidence,
    inputs: Inputs | None = None,
    *,
    best: bool = False,
) -> Chain | SegmentChain:
    """Return the chain of states given evidence, or of segments if the model has durations.

    Args:
        model: A hidden Markov model.
        observed: Evidence.
        inputs: Covariates by name, ``(B, T, ...)``.
        best: Whether unobserved emissions take their best states instead of being summed out.
    """
    covariates, k = model.covariates(inputs, observed), model.state.num_states
    moves, first = model.transitions, model.initial[model.state.name]
    transition = moves.factor(None, own_inputs(moves, covariates, slice(1, None))).log_values
    if moves.inputs:
        transition = transition.reshape(observed.num_rows, max(observed.steps - 1, 0), k, k)
    starts = own_inputs(first, covariates, slice(0, 1)) if observed.steps else None
    if first.inputs and not observed.steps:
        initial = transition.new_zeros(k)
    else:
        initial = first.factor(None, starts).log_values
    field = log_field(model, observed, covariates, best=best).to(transition.device)
    if model.durations is not None:
        lasts = model.durations.factor().log_values
        return SegmentChain(initial, transition, lasts, field, observed.lengths, censored=True)
    kind = torch.promote_types(torch.promote_types(initial.dtype, transition.dtype), field.dtype)
    initial, transition, field = (x.to(kind) for x in (initial, transition, field))
    return Chain(initial, transition, field, observed.lengths, per_step=bool(moves.inputs))


def log_field(
    model: EmittingModel,
    observed: SequenceEvidence,
    inputs: Mapping[Hashable, Tensor],
    *,
    best: bool = False,
) -> Tensor:
    """Return ``(B, T, K)`` log likelihoods of the states, summed over the emissions.

    Args:
        model: A chain of states.
        observed: Evidence, including that on the states.
        inputs: Covariates, ``(B, T, ...)``.
        best: Whether unobserved discrete emissions contribute their largest log probability.
    """
    state, k = model.state, model.state.num_states
    parts: list[Tensor] = []
    for name, emission in model.emissions.items():
        if name in observed.soft:
            parts.append(_soft(model, name, observed, inputs, best))
        elif name in observed.codes or name in observed.reals:
            parts.append(_hard(emission, observed, inputs, k))
        if best and model.variables[name].is_discrete and name not in observed.soft:
            unobserved = (
                observed.inside
                if name not in observed.codes
                else observed.inside & (observed.codes[name] < 0)
            )
            if bool(unobserved.any()):
                top = emission_tables(model, name, observed, inputs).amax(-1)
                parts.append(torch.where(unobserved.unsqueeze(-1), top, torch.zeros_like(top)))
    if state.name in observed.soft:
        parts.append(observed.soft[state.name].double().log())
    total = parts[0] if parts else torch.zeros(1, dtype=torch.float64)
    for part in parts[1:]:
        total = total + part.to(total.device)
    total = total.expand(observed.num_rows, observed.steps, k)
    if state.name in observed.codes:
        codes = observed.codes[state.name]
        other = torch.arange(k) != codes.unsqueeze(-1)
        total = total.masked_fill(other & (codes >= 0).unsqueeze(-1), -torch.inf)
    return total


def observed_values(
    emission: Conditional, observed: SequenceEvidence
) -> tuple[Tensor, dict[Hashable, Tensor]]:
    """Return a ``(B, T)`` mask of an emission's observed steps, and the values there ``(N, ...)``.

    Includes values of the previous step if the emission depends on them; the first value of a row
    is then given rather than emitted.
    """
    name = emission.child.name
    values = observed.codes[name] if name in observed.codes else observed.reals[name]
    present = observed.inside & _present(values)
    lag = lagged_name(name)
    if all(v.name != lag for v in emission.parents):
        everywhere = bool(present.all())  # then nothing is copied
        return present, {name: values.flatten(0, 1) if everywhere else values[present]}
    before = torch.zeros_like(present)
    before[:, 1:] = present[:, :-1]
    both = present & before
    earlier = torch.zeros_like(values)
    earlier[:, 1:] = values[:, :-1]
    return both, {name: values[both], lag: earlier[both]}


def emission_tables(
    model: EmittingModel, name: Hashable, observed: SequenceEvidence, inputs: Inputs | None = None
) -> Tensor:
    """Return log probabilities of a discrete emission, broadcastable to ``(B, T, K, S)``.

    Raises:
        Unsupported: If the emission is autoregressive.
    """
    emission = model.emissions[name]
    if any(v.name != model.state.name for v in emission.parents):
        raise Unsupported(
            f"{name!r} has missing values and depends on its own past, so {model.state.name!r} "
            "is not a chain",
            "use DynamicBayesianNetwork, or name an engine",
        )
    covariates = own_inputs(emission, model.covariates(inputs, observed), slice(None))
    table = emission.factor(None, covariates).log_values
    rows = (observed.num_rows, observed.steps) if emission.inputs else (1, 1)
    k = model.state.num_states if emission.parents else 1
    return table.reshape(*rows, k, model.variables[name].num_states)


def own_inputs(
    conditional: Conditional, covariates: Mapping[Hashable, Tensor], steps: slice
) -> dict[Hashable, Tensor] | None:
    """Return a conditional's covariates at some steps, one row each; None without covariates."""
    selected = {
        n: covariates[n][:, steps].flatten(0, 1) for n in conditional.inputs if n in covariates
    }
    return selected or None


def at_steps(
    inputs: Mapping[Hashable, Tensor], names: object, where: Tensor
) -> dict[Hashable, Tensor]:
    """Return covariates ``(N, ...)`` at some steps."""
    return {n: x[where.to(x.device)] for n, x in inputs.items() if n in names}  # type: ignore[operator]


def _present(values: Tensor) -> Tensor:
    """Return a ``(B, T)`` mask of steps with observations."""
    if not values.is_floating_point():
        return values >= 0
    known = ~values.isnan()
    return known.flatten(start_dim=2).any(-1) if values.dim() > 2 else known


def _hard(
    emission: Conditional, observed: SequenceEvidence, inputs: Mapping[Hashable, Tensor], k: int
) -> Tensor:
    lag = lagged_name(emission.child.name)
    if isinstance(emission, Tabular) and [v.name != lag for v in emission.parents] == [True]:
        return _looked_up(emission, observed)
    where, values = observed_values(emission, observed)
    if emission.child.is_discrete and len(emission.parents) > 1:
        _check_no_gaps(emission, observed)
    covariates = at_steps(inputs, emission.inputs, where)
    table = emission.factor(values, covariates or None).log_values
    table = table if table.dim() == 2 else table.unsqueeze(-1)  # the state is no parent
    table = table.expand(int(where.sum()), k)
    _check_numbers(emission, where, values[emission.child.name], table.detach())
    if len(table) == where.numel():
        return table.reshape(*where.shape, k)
    field = table.new_zeros((*where.shape, k))
    return field.index_put((where.to(table.device),), table)


def _check_numbers(emission: Conditional, where: Tensor, values: Tensor, numbers: Tensor) -> None:
    """Check likelihoods ``(N, K)`` of the values at some steps.

    Raises:
        EvidenceError: If a likelihood is NaN, or is zero because a part of the value is missing.
    """
    least = numbers.min() if numbers.numel() else numbers.new_zeros(())  # NaN if any is
    if bool(least > -torch.inf):
        return
    wrong = numbers.isnan().any(-1)
    if values.is_floating_point() and values.dim() > 1:
        wrong |= values.isnan().flatten(start_dim=1).any(-1) & numbers.isneginf().all(-1)
    if bool(wrong.any()):
        row, step = where.nonzero()[int(wrong.nonzero()[0, 0])].tolist()
        raise EvidenceError(
            f"the likelihood of {emission.child.name!r} is NaN at row {row}, step {step}",
            "partially missing values need an emission that integrates them out, such as Gaussian",
        )


def _looked_up(emission: Tabular, observed: SequenceEvidence) -> Tensor:
    """Return columns of a table given the state; zeros where not observed."""
    columns = emission.log_probs.t()
    columns = torch.cat([columns, columns.new_zeros(1, columns.shape[1])])
    codes = observed.codes[emission.child.name].to(columns.device)
    codes = codes.masked_fill((codes < 0) | ~observed.inside.to(codes.device), len(columns) - 1)
    return columns.index_select(0, codes.flatten()).reshape(*codes.shape, columns.shape[1])


def _check_no_gaps(emission: Conditional, observed: SequenceEvidence) -> None:
    """Raise an error if an unobserved discrete value must be summed out with the states."""
    known = observed.codes[emission.child.name] >= 0
    later = known.flip(1).cummax(dim=1).values.flip(1)
    started = known.cummax(dim=1).values
    if bool((started & later & ~known).any()):
        raise Unsupported(
            f"{emission.child.name!r} depends on its own past and has gaps",
            "use DynamicBayesianNetwork, which sums them out",
        )


def _soft(
    model: EmittingModel,
    name: Hashable,
    observed: SequenceEvidence,
    inputs: Mapping[Hashable, Tensor],
    best: bool,
) -> Tensor:
    """Return the log of likelihoods weighted by the emission's probabilities."""
    tables = emission_tables(model, name, observed, inputs)
    scores = tables + observed.soft[name].to(tables).log().unsqueeze(2)
    return scores.amax(-1) if best else logsumexp(scores, [-1])


def draw_emissions(
    model: EmittingModel,
    states: Tensor,
    observed: SequenceEvidence,
    inputs: Inputs | None,
    seed: int | None,
) -> dict[Hashable, Tensor]:
    """Return ``(n, B, T, ...)`` draws of all variables; observed ones keep their values.

    Args:
        model: A chain of states.
        states: ``(n, B, T)``; -1 beyond a row's end.
        observed: Evidence.
        inputs: Covariates ``(B, T, ...)``.
        seed: Global random state is untouched.
    """
    drawn: dict[Hashable, Tensor] = {model.state.name: states}
    with private_randomness(seed), torch.no_grad():
        for name, emission in model.emissions.items():
            if any(v.name == lagged_name(name) for v in emission.parents):
                drawn[name] = _one_by_one(model, name, states, observed, inputs)
            elif name in observed.soft:
                drawn[name] = _by_likelihood(model, name, states, observed, inputs)
            else:
                drawn[name] = _at_once(model, name, states, observed, inputs)
            _keep(drawn[name], name, observed)
    return drawn


def _at_once(
    model: EmittingModel,
    name: Hashable,
    states: Tensor,
    observed: SequenceEvidence,
    inputs: Inputs | None,
) -> Tensor:
    """Return draws given the states alone."""
    emission, out = model.emissions[name], _empty(model.emissions[name], states)
    inside = states >= 0
    covariates = _covariates(model, emission, observed, inputs)
    rest = {k: x.expand(len(states), *x.shape)[inside] for k, x in covariates.items()}
    if bool(inside.any()):
        out[inside] = _sampled(emission, {model.state.name: states[inside]}, rest).to(out.dtype)
    return out


def _one_by_one(
    model: EmittingModel,
    name: Hashable,
    states: Tensor,
    observed: SequenceEvidence,
    inputs: Inputs | None,
) -> Tensor:
    """Return draws of an emission that depends on the previous one; the first is given."""
    emission, out = model.emissions[name], _empty(model.emissions[name], states)
    covariates = _covariates(model, emission, observed, inputs)
    out[:, :, :1] = _first(observed, name).to(out.dtype)
    for t in range(1, states.shape[2]):
        inside = states[:, :, t] >= 0
        if bool(inside.any()):
            parents = {model.state.name: states[:, :, t][inside]}
            parents[name, -1] = out[:, :, t - 1][inside]
            rest = {
                k: x[:, t].expand(len(states), *x[:, t].shape)[inside]
                for k, x in covariates.items()
            }
            out[:, :, t][inside] = _sampled(emission, parents, rest).to(out.dtype)
            _keep(out[:, :, : t + 1], name, observed)
    return out


def _by_likelihood(
    model: EmittingModel,
    name: Hashable,
    states: Tensor,
    observed: SequenceEvidence,
    inputs: Inputs | None,
) -> Tensor:
    """Return draws of a discrete emission with likelihoods."""
    out, inside = _empty(model.emissions[name], states), states >= 0
    tables = emission_tables(model, name, observed, inputs)
    tables = (tables + observed.soft[name].to(tables).log().unsqueeze(2)).expand(
        *states.shape[1:], model.state.num_states, -1
    )
    index = states.clamp_min(0).permute(1, 2, 0).unsqueeze(-1).expand(-1, -1, -1, tables.shape[3])
    logits = tables.gather(2, index).permute(2, 0, 1, 3)[inside]
    if bool(inside.any()):
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        out[inside] = torch.multinomial(weights, 1)[:, 0]
    return out


def _covariates(
    model: EmittingModel, emission: Conditional, observed: SequenceEvidence, inputs: Inputs | None
) -> dict[Hashable, Tensor]:
    covariates = model.covariates(inputs, observed)
    return {n: x for n, x in covariates.items() if n in emission.inputs}


def _empty(emission: Conditional, states: Tensor) -> Tensor:
    child = emission.child
    missing = MISSING if child.is_discrete else torch.nan
    kind = torch.int64 if child.is_discrete else torch.float64
    return torch.full((*states.shape, *child.shape), missing, dtype=kind)


def _sampled(
    emission: Conditional, parents: dict[Hashable, Tensor], inputs: dict[Hashable, Tensor]
) -> Tensor:
    return emission.draw(parents, inputs or None, len(next(iter(parents.values()))))


def _first(observed: SequenceEvidence, name: Hashable) -> Tensor:
    """Return ``(B, 1, ...)`` first values, on which an autoregressive emission is conditioned."""
    values = observed.codes.get(name, observed.reals.get(name))
    first = None if values is None else values[:, :1]
    missing = first is None or bool((first.isnan() if name in observed.reals else first < 0).any())
    if first is None or missing:
        raise Unsupported(
            f"{name!r} depends on its own past",
            f"give its first value, such as evidence={{{name!r}: [0.0, nan, nan, ...]}}",
        )
    return first


def _keep(out: Tensor, name: Hashable, observed: SequenceEvidence) -> None:
    """Replace draws by observed values."""
    steps = out.shape[2]
    if name in observed.codes:
        codes = observed.codes[name][:, :steps]
        out[:] = torch.where(codes >= 0, codes, out)
    elif name in observed.reals:
        values = observed.reals[name][:, :steps].to(out)
        out[:] = torch.where(values.isnan(), out, values)
