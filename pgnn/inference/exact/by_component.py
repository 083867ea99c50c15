"""Inference in mixtures of models: the answers of the components, weighted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import Inputs, MixtureModel
from pgnn.errors import Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.assignment_with_reals import AssignmentWithReals
from pgnn.inference.beliefs import Beliefs, Best
from pgnn.inference.component_rows import (
    chosen_components,
    chosen_draws,
    component_rows,
    element_order,
    explained_by_component,
    joint_log_probs,
    seed_of,
)
from pgnn.inference.engine import Engine
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.exact.mixed_reals import (
    MixedPosterior,
    chosen_reals,
    mixed_marginals,
    shared_reals,
)
from pgnn.inference.explanation import Explanation
from pgnn.inference.known_values import unknown_reals
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question, names_of
from pgnn.inference.samples import Samples


@dataclass(frozen=True)
class ByComponent(Engine):
    r"""Queries each component of a mixture and weights the answers by the responsibilities.

    .. math:: p(x_i \mid e) = \sum_k p(k \mid e)\, p_k(x_i \mid e), \qquad
        p(k \mid e) \propto \pi_k\, p_k(e)

    Each component is queried by its default engine; the answer is exact if all of theirs are. Any
    other engine of a :class:`ModelMixture` answers about the factors of the whole mixture. For
    sequences see :class:`~pgnn.inference.time.sequences_by_component.SequencesByComponent`, where
    an engine is that of the components.

    Example:
        >>> from pgnn.models import BayesianNetwork, ModelMixture
        >>> a = BayesianNetwork([], {"x": [0.9, 0.1]})
        >>> b = BayesianNetwork([], {"x": [0.2, 0.8]})
        >>> model = ModelMixture([a, b], [0.5, 0.5])
        >>> model.query("component", {"x": 1}, engine=ByComponent())["component"].probs
        tensor([0.1111, 0.8889], dtype=torch.float64)
    """

    def infer(self, question: Question) -> Beliefs:
        """Return marginals and log evidence."""
        model, targets = _mixture(question.model), question.targets
        rows, names = component_rows(model, question.observed), _inner_names(model, question)
        answers = [
            c.query(names, known, inputs=c.own_inputs(question.inputs), errors="nan")
            for c, known in zip(model.components, rows.each, strict=True)
        ]
        triples = zip(model.components, answers, rows.each, strict=True)
        logs = [_log_evidence(c, a, known, question.inputs) for c, a, known in triples]
        joint = joint_log_probs(model, logs, rows.label_logs)
        log_z = joint.logsumexp(dim=1)
        share = (joint - log_z.unsqueeze(1)).exp()
        columns = [
            share if v.name == model.class_name else _mixed(share, answers, v)
            for v in targets.variables
        ]
        marginals = share.new_zeros(rows.num_rows, int(targets.elements.offset[-1]))
        marginals[:, torch.from_numpy(targets.columns)] = torch.cat([share[:, :0], *columns], dim=1)
        kinds = {a.kind for a in answers}
        return Beliefs(
            marginals,
            log_z,
            kinds.pop() if len(kinds) == 1 else "estimate",
            {"components": sorted({a.engine for a in answers})},
        )

    def answer_query(self, question: Question) -> Posterior:
        """Answer ``query``, of real variables by mixtures of the components' normal marginals."""
        discrete, reals = _split(question)
        if reals == []:
            return super().answer_query(question)
        model, variables = _mixture(question.model), question.model.variables
        rows = component_rows(model, question.observed)
        answers = [
            c.query(reals, known, inputs=c.own_inputs(question.inputs), errors="nan")
            for c, known in zip(model.components, rows.each, strict=True)
        ]
        reals = shared_reals(answers) if reals is None else reals
        label = model.class_name
        asked = discrete if discrete is None or label in discrete else [label, *discrete]
        whole = super().answer_query(question.about(asked))
        kept = whole.variables if asked is discrete else whole.variables[1:]
        marginals = mixed_marginals(whole.probs(label), answers, reals)
        return MixedPosterior(whole, kept, [variables[n] for n in reals], marginals)

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """Answer ``most_probable``, real variables included."""
        discrete, reals = _split(question)
        if reals == [] or k > 1:
            return super().answer_most_probable(question, k)
        about, model = question.about(discrete), _mixture(question.model)
        names = None if discrete is None else [*_inner_names(model, about), *(reals or ())]
        best = self._best(about, names, about.targets.mask)
        reals = [dict(a.reals) if isinstance(a, AssignmentWithReals) else {} for a in best.answers]
        if len({frozenset(x) for x in reals}) > 1:
            raise Unsupported(
                "components differ in which real variables they can maximise, so that their "
                "densities cannot be compared",
                "name the targets, for example the discrete variables",
            )
        lost = best.log_prob.isneginf()
        self.check_rows(about, best.log_prob, {}, "")
        observed, bound = question.observed, best.upper_bound
        scale = torch.from_numpy(observed.soft_scale).to(best.log_prob)
        return AssignmentWithReals(
            chosen_reals(reals, best.component, lost),
            about.targets.variables,
            best.states.masked_fill(lost[:, None], -1)[:, torch.from_numpy(about.targets.numbers)],
            best.log_prob + scale,
            batched=observed.batched,
            index=observed.index,
            upper_bound=None if bound is None else bound + scale,
            engine=type(self).__name__,
        )

    def maximize(self, question: Question, maximized: NDArray[np.bool_]) -> Best:
        """Return the best states; for a subset of the variables it must include the component."""
        first = _mixture(question.model).components[0].elements
        names = [first.name(int(e)) for e in np.flatnonzero(maximized[1:])]
        best = self._best(question, names, maximized)
        return Best(best.states.clamp_min(0), best.log_prob, best.upper_bound)

    def _best(
        self, question: Question, names: list[Any] | None, maximized: NDArray[np.bool_]
    ) -> _BestComponents:
        """Return the best component of each row, and its best states.

        Args:
            question: The query.
            names: Targets among the variables of the components; all if not given.
            maximized: ``(E,)`` the elements that are targets.
        """
        model = _mixture(question.model)
        if not maximized[0] and bool((question.observed.codes[:, 0] < 0).any()):
            raise Unsupported(
                "the most probable states with the component summed out do not decompose by "
                "component",
                "add the component to the targets, or use engine=JunctionTree()",
            )
        rows = component_rows(model, question.observed)
        logs, bounds, states, answers = [], [], [], []
        place = np.flatnonzero(maximized[1:])
        for k, (c, known) in enumerate(zip(model.components, rows.each, strict=True)):
            inputs = c.own_inputs(question.inputs)
            if names == []:
                logs.append(c.log_prob(known, inputs=inputs).reshape(-1))
                bounds.append(logs[-1])
                states.append(torch.zeros(known.num_rows, 0, dtype=torch.int64))
                continue
            best = c.most_probable(known, names, inputs=inputs, errors="nan")
            log_z = _log_partition(c, inputs)
            score = best.log_prob.reshape(-1) - log_z
            logs.append(score.masked_fill(score.isnan(), -torch.inf))
            if best.upper_bound is not None:
                bound = best.upper_bound.reshape(-1) - log_z
                bounds.append(torch.where(score.isnan(), -torch.inf, bound))
            codes = best.codes.reshape(known.num_rows, len(place))
            if names is None:  # in the component's order
                codes = codes[:, torch.from_numpy(np.argsort(element_order(model, k)))]
            states.append(codes)
            answers.append(best)
        joint = joint_log_probs(model, logs, rows.label_logs)
        log_prob, which = joint.max(dim=1)
        upper = None
        if len(bounds) == len(logs):
            upper = joint_log_probs(model, bounds, rows.label_logs).amax(dim=1)
        states_of_rows = torch.from_numpy(question.observed.codes).long()
        states_of_rows[:, 0] = torch.where(states_of_rows[:, 0] < 0, which, states_of_rows[:, 0])
        chosen = torch.stack(states)[which, torch.arange(len(which))]
        states_of_rows[:, torch.from_numpy(place) + 1] = chosen
        return _BestComponents(which, states_of_rows, log_prob, upper, answers)

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """Sample a component for each sample of each row, and the other variables from it."""
        model = _mixture(question.model)
        each, size = component_rows(model, question.observed).each, question.observed.num_rows
        joint = self._joint(model, question.observed, question.inputs)
        self.check_possible(question, joint.logsumexp(dim=1))
        share = joint.detach().softmax(dim=1).nan_to_num(1.0 / joint.shape[1])
        which = chosen_components(share, n, seed)  # (n, B)
        codes = torch.zeros(n, size, len(question.model.elements), dtype=torch.int64)
        codes[..., 0] = which
        reals: dict[Any, Tensor] = {}
        for draws in chosen_draws(which, len(model.components)):
            k, rows = draws.component, draws.rows
            c = model.components[k]
            inputs = {m: x[rows] for m, x in (c.own_inputs(question.inputs) or {}).items()}
            drawn = c.sample(n, each[k].take(rows.numpy()), inputs=inputs, seed=seed_of(seed, k))
            draws.write(drawn.codes[..., np.argsort(element_order(model, k))], codes[..., 1:])
            for v in (v for v in drawn.variables if not v.is_discrete):
                x = reals.setdefault(v.name, drawn[v.name].new_zeros(n, size, *v.shape))
                draws.write(drawn[v.name], x)
        alone = not question.observed.batched
        return Samples(
            tuple(question.model.variables.values()),
            codes[:, 0] if alone else codes,
            {m: x[:, 0] if alone else x for m, x in reals.items()},
            batched=not alone,
            index=question.observed.index,
        )

    def answer_log_prob(self, question: Question) -> Tensor:
        """Return ``(B,)`` log probabilities."""
        joint = self._joint(_mixture(question.model), question.observed, question.inputs)
        total = joint.logsumexp(dim=1)
        return total + torch.from_numpy(question.observed.soft_scale).to(total)

    # --- helpers ------------------------------------------------------------------------------

    def _joint(self, model: MixtureModel, observed: Any, inputs: Inputs | None) -> Tensor:
        """``(B, K)`` joint log probabilities of rows, or sequences, and each component."""
        rows = component_rows(model, observed)
        logs = [
            c.log_prob(known, inputs=c.own_inputs(inputs)).reshape(-1)
            for c, known in zip(model.components, rows.each, strict=True)
        ]
        return joint_log_probs(model, logs, rows.label_logs)

    def describe(self, question: Any) -> Explanation:
        """Answer ``explain`` by the costs of the components."""
        model = _mixture(question.model)
        each, names = component_rows(model, question.observed).each, _inner_names(model, question)
        parts = [
            c.explain(names, known, inputs=c.own_inputs(question.inputs))
            for c, known in zip(model.components, each, strict=True)
        ]
        seen = bool((question.observed.codes[:, 0] >= 0).all())
        return explained_by_component(type(self).__name__, parts, hidden=not seen, observed=seen)

    @property
    def kind_of_evidence(self) -> str:
        """Exact if the components' answers are."""
        return "exact"

    def prepare(self, model: Any, targets: Any, observed: Any) -> Any:
        """Answer ``compile``, for all components at once.

        Raises:
            Unsupported: If a component is an unnormalised field.
        """
        if not all(c.is_normalized for c in _mixture(model).components):
            raise Unsupported("a mixture of fields has no factors to compile", "use query()")
        return JunctionTree().prepare(model, targets, observed)


@dataclass(frozen=True, eq=False)
class _BestComponents:
    """The best components ``(B,)``, states ``(B, E)``, log probabilities, and all answers.

    ``upper_bound`` is ``(B,)``, or None if a component has none.
    """

    component: Tensor
    states: Tensor
    log_prob: Tensor
    upper_bound: Tensor | None
    answers: Sequence[Assignment]


def _split(question: Question) -> tuple[list[Any] | None, list[Any] | None]:
    """Return the discrete and the real targets; None for all, an empty list for no real ones."""
    variables = question.model.variables
    if question.names is None:
        return None, None if unknown_reals(question) else []
    queried = names_of(question.names, variables, question.model.elements)
    reals = [n for n in queried if n in variables and not variables[n].is_discrete]
    return [n for n in queried if n not in reals], reals


def _mixture(model: Any) -> MixtureModel:
    if not isinstance(model, MixtureModel):
        raise Unsupported(
            f"ByComponent() supports only mixtures of models, and {type(model).__name__} is none",
            "omit engine=",
        )
    checked: Any = model
    checked.cached_numbers("checked", checked.check)
    return model


def _inner_names(model: MixtureModel, question: Question) -> list[Any]:
    """Return the targets that are variables of the components."""
    return [v.name for v in question.targets.variables if v.name != model.class_name]


def _mixed(share: Tensor, answers: Sequence[Posterior], variable: Variable) -> Tensor:
    """``(B, S)`` marginals of a variable, weighted by the components' shares ``(B, K)``."""
    total, size = torch.zeros_like(share[:, :1]), variable.num_elements * variable.num_states
    for k, answer in enumerate(answers):
        probs = answer.probs(variable.name).reshape(len(share), size)
        weight = share[:, k : k + 1]
        total = total + torch.where(weight > 0, weight * probs, weight)
    return total


def _log_evidence(
    component: Any, answer: Posterior, known: RowEvidence, inputs: Inputs | None
) -> Tensor:
    """``(B,)`` log evidence; for a field normalised, other than that of its posterior."""
    if component.is_normalized:
        return answer.log_evidence.reshape(-1)
    log_probs: Tensor = component.log_prob(known, inputs=component.own_inputs(inputs)).reshape(-1)
    return log_probs


def _log_partition(component: Any, inputs: Inputs | None) -> Tensor | float:
    """Return the log partition function of a component, ``()`` or of each row of the inputs."""
    if component.is_normalized:
        return 0.0
    log_z: Tensor = component.query([], inputs=inputs).log_evidence
    return log_z
