"""Inference in mixtures of models: the answers of the components, weighted."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import Inputs, MixtureModel, UnrollableModel
from pgnn.errors import ImpossibleEvidence, Unsupported
from pgnn.evidence.component_sequences import ComponentSequences
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.variable import MISSING
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.beliefs import Beliefs, Best
from pgnn.inference.engine import Engine
from pgnn.inference.exact.component_rows import component_rows, joint_log_probs
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question, names_of
from pgnn.inference.samples import Samples
from pgnn.limits import check_seed, check_size, whole_number


@dataclass(frozen=True)
class ByComponent(Engine):
    r"""Queries each component of a mixture and weights the answers by the responsibilities.

    .. math:: p(x_i \mid e) = \sum_k p(k \mid e)\, p_k(x_i \mid e), \qquad
        p(k \mid e) \propto \pi_k\, p_k(e)

    Each component is queried by its default engine; the answer is exact if all of theirs are. For
    models over time, supported are the posterior of the component of a sequence, the most probable
    component with its states, log probabilities, and samples.

    Example:
        >>> from pgnn.models import BayesianNetwork, ModelMixture
        >>> a = BayesianNetwork([], {"x": [0.9, 0.1]})
        >>> b = BayesianNetwork([], {"x": [0.2, 0.8]})
        >>> model = ModelMixture([a, b], [0.5, 0.5])
        >>> model.query("component", {"x": 1}, engine=ByComponent())["component"].probs
        tensor([0.1111, 0.8889], dtype=torch.float64)
    """

    # --- rows ---------------------------------------------------------------------------------

    def infer(self, question: Question) -> Beliefs:
        """Return marginals and log evidence."""
        model = _mixture(question.model)
        known, classes = component_rows(model, question.observed)
        answers = [
            c.query(None, known, inputs=_inputs_of(c, question.inputs), errors="nan")
            for c in model.components
        ]
        pairs = zip(model.components, answers, strict=True)
        logs = [_log_evidence(c, a, known, question.inputs) for c, a in pairs]
        joint = joint_log_probs(model, logs, classes)
        log_z = joint.logsumexp(dim=1)
        share = (joint - log_z.unsqueeze(1)).exp()
        total: Tensor | float = 0.0
        for k, answer in enumerate(answers):
            columns = [
                answer.probs(v.name).reshape(known.num_rows, v.num_elements * v.num_states)
                for v in answer.variables
            ]
            marginals = torch.cat([share[:, :0], *columns], dim=1)
            weight = share[:, k : k + 1]
            total = total + torch.where(weight > 0, weight * marginals, weight)
        kinds = {a.kind for a in answers}
        return Beliefs(
            torch.cat([share, total], dim=1),  # type: ignore[list-item]
            log_z,
            kinds.pop() if len(kinds) == 1 else "estimate",
            {"components": sorted({a.engine for a in answers})},
        )

    def maximize(self, question: Question, maximized: NDArray[np.bool_]) -> Best:
        """Return the best states; for a subset of the variables it must include the component."""
        model = _mixture(question.model)
        if not maximized[0] and bool((question.observed.codes[:, 0] < 0).any()):
            raise Unsupported(
                "the most probable states with the component summed out do not decompose by "
                "component",
                "add the component to the targets, or use engine=JunctionTree()",
            )
        known, classes = component_rows(model, question.observed)
        first = model.components[0].elements
        names = [first.name(int(e)) for e in np.flatnonzero(maximized[1:])]
        logs, states = [], []
        for c in model.components:
            inputs = _inputs_of(c, question.inputs)
            if names:
                best = c.most_probable(known, names, inputs=inputs, errors="nan")
                score = best.log_prob.reshape(-1)
                logs.append(score.masked_fill(score.isnan(), -torch.inf))
                states.append(best.codes.reshape(known.num_rows, -1))
            else:
                logs.append(c.log_prob(known, inputs=inputs).reshape(-1))
                states.append(torch.zeros(known.num_rows, 0, dtype=torch.int64))
        joint = joint_log_probs(model, logs, classes)
        log_prob, which = joint.max(dim=1)
        states_of_rows = torch.from_numpy(question.observed.codes).long()
        rows = torch.arange(len(states_of_rows))
        states_of_rows[:, 0] = torch.where(states_of_rows[:, 0] < 0, which, states_of_rows[:, 0])
        place = torch.from_numpy(np.flatnonzero(maximized[1:])) + 1
        states_of_rows[:, place] = torch.stack(states)[which, rows]
        return Best(states_of_rows.clamp_min(0), log_prob)

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """Sample a component for each sample of each row, and the other variables from it."""
        model = _mixture(question.model)
        known, _ = component_rows(model, question.observed)
        joint = self._joint(model, question.observed, question.inputs)
        self.check_possible(question, joint.logsumexp(dim=1))
        which = _chosen(joint.detach(), n, seed)  # (n, B)
        codes = torch.zeros(n, known.num_rows, len(question.model.elements), dtype=torch.int64)
        codes[..., 0] = which
        reals: dict[Any, Tensor] = {}
        for k, c in enumerate(model.components):
            rows = (which == k).any(dim=0).nonzero()[:, 0]
            if not len(rows):
                continue
            inputs = {m: x[rows] for m, x in (_inputs_of(c, question.inputs) or {}).items()}
            drawn = c.sample(n, known.take(rows.numpy()), inputs=inputs, seed=_seed(seed, k))
            chosen = which[:, rows] == k
            codes[:, rows, 1:] = torch.where(chosen[..., None], drawn.codes, codes[:, rows, 1:])
            for v in (v for v in drawn.variables if not v.is_discrete):
                x = reals.setdefault(v.name, drawn[v.name].new_zeros(n, known.num_rows, *v.shape))
                where = chosen.reshape(*chosen.shape, *[1] * len(v.shape))
                x[:, rows] = torch.where(where, drawn[v.name], x[:, rows])
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

    # --- sequences ----------------------------------------------------------------------------

    def query(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """Answer :meth:`Model.query`; for models over time only about the component."""
        mixture = _mixture(model)
        if not _over_time(mixture):
            return super().query(model, targets, evidence, inputs=inputs, errors=errors)
        name = mixture.class_name
        if targets is None or names_of(targets, {**model.variables}) != [name]:
            raise Unsupported(
                f"the targets of a mixture of models over time include {name!r}",
                "query steps of a component instead: model.components[0].query(...)",
            )
        observed = _sequences(mixture, evidence)
        with torch.set_grad_enabled(_wants_gradients(mixture, observed)):
            joint = self._joint(mixture, observed, inputs)
            log_z = joint.logsumexp(dim=1)
            share = (joint - log_z.unsqueeze(1)).exp()
        return Posterior(
            (mixture.weights.child,),
            share,
            log_z,
            batched=observed.batched,
            kind="exact",
            engine=type(self).__name__,
            index=observed.index,
        )

    def most_probable(
        self,
        model: Any,
        evidence: Any,
        targets: Names | None = None,
        *,
        inputs: Inputs | None = None,
        k: int = 1,
        errors: str = "raise",
    ) -> Assignment | KBest:
        """Answer :meth:`Model.most_probable`; for models over time about all hidden variables."""
        mixture = _mixture(model)
        if not _over_time(mixture):
            return super().most_probable(
                model, evidence, targets, inputs=inputs, k=k, errors=errors
            )
        asked = None if targets is None else {*names_of(targets, {**model.variables})}
        if k != 1 or (asked is not None and mixture.class_name not in asked):
            raise Unsupported(
                "a mixture of models over time has one most probable assignment, of "
                f"{mixture.class_name!r} and the hidden variables",
                "ask a component for others: model.components[0].decode(...)",
            )
        observed = _sequences(mixture, evidence)
        names = None if asked is None else asked - {mixture.class_name}
        if names is not None and not names:
            with torch.no_grad():
                joint = self._joint(mixture, observed, inputs)
            return _most_probable_class(mixture, observed, joint, errors)
        return _best_component(mixture, observed, names, inputs, errors)

    def log_prob(self, model: Any, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """Answer :meth:`Model.log_prob`."""
        mixture = _mixture(model)
        if not _over_time(mixture):
            return super().log_prob(model, data, inputs=inputs)
        observed = _sequences(mixture, data)
        with torch.set_grad_enabled(_wants_gradients(mixture, observed)):
            total = self._joint(mixture, observed, inputs).logsumexp(dim=1)
        return total if observed.batched else total[0]

    def sample(
        self,
        model: Any,
        n: int,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> Samples:
        """Answer :meth:`Model.sample`; for models over time without the component."""
        mixture = _mixture(model)
        if not _over_time(mixture):
            return super().sample(model, n, evidence, inputs=inputs, seed=seed)
        n, seed = whole_number("the number of samples", n), check_seed(seed)
        observed = _sequences(mixture, evidence)
        cells = n * observed.num_rows * max(1, observed.steps) * len(mixture.components)
        check_size(f"{n:,} draws", cells, self.max_answer_bytes, "Draw fewer at a time")
        which = _chosen(self._joint(mixture, observed, inputs).detach(), n, seed)
        which = which if observed.batched else which[:, 0]
        parts = [
            c.sample(n, observed, inputs=_inputs_of(c, inputs), seed=_seed(seed, k))
            for k, c in enumerate(mixture.components)
        ]
        first = parts[0]
        reals = {}
        for v in (v for v in first.variables if not v.is_discrete):
            reals[v.name] = _of_rows([p[v.name] for p in parts], which)
        codes = _of_rows([p.codes for p in parts], which)
        return Samples(first.variables, codes, reals, batched=first.batched)

    # --- helpers ------------------------------------------------------------------------------

    def _joint(self, model: MixtureModel, observed: Any, inputs: Inputs | None) -> Tensor:
        """``(B, K)`` joint log probabilities of rows, or sequences, and each component."""
        known, classes = component_rows(model, observed)
        logs = [
            c.log_prob(known, inputs=_inputs_of(c, inputs)).reshape(-1) for c in model.components
        ]
        return joint_log_probs(model, logs, classes)

    def reason(self) -> str:
        """Return the explanation."""
        return "each component is queried, and the answers are weighted"

    @property
    def kind_of_evidence(self) -> str:
        """Exact if the components' answers are."""
        return "exact"

    def prepare(self, model: Any, targets: Any, observed: Any) -> Any:
        """Answer ``compile``, for all components at once."""
        return JunctionTree().prepare(model, targets, observed)


def _mixture(model: Any) -> MixtureModel:
    if not isinstance(model, MixtureModel):
        raise Unsupported(
            f"ByComponent() supports only mixtures of models, and {type(model).__name__} is none",
            "omit engine=",
        )
    checked: Any = model
    checked.cached_numbers("checked", checked.check)
    return model


def _wants_gradients(model: MixtureModel, observed: SequenceEvidence) -> bool:
    return torch.is_grad_enabled() and (model.passes_gradients or observed.requires_grad)


def _sequences(model: MixtureModel, evidence: Any) -> SequenceEvidence:
    return ComponentSequences.of_mixture(model.weights.child, model.components[0], evidence)


def _over_time(model: MixtureModel) -> bool:
    return isinstance(model.components[0], UnrollableModel)


def _inputs_of(component: Any, inputs: Inputs | None) -> Inputs | None:
    """Return the covariates that a component depends on."""
    names = component.input_names
    return {n: x for n, x in (inputs or {}).items() if names is None or n in names} or None


def _log_evidence(
    component: Any, answer: Posterior, known: RowEvidence, inputs: Inputs | None
) -> Tensor:
    """``(B,)`` log evidence; for a field normalised, other than that of its posterior."""
    if component.is_normalized:
        return answer.log_evidence.reshape(-1)
    log_probs: Tensor = component.log_prob(known, inputs=_inputs_of(component, inputs)).reshape(-1)
    return log_probs


def _most_probable_class(
    model: MixtureModel, observed: SequenceEvidence, joint: Tensor, errors: str
) -> Assignment:
    """Return the component that is most probable with the states summed out."""
    log_prob, which = joint.max(dim=1)
    impossible = log_prob.isneginf()
    _refuse_impossible(impossible, errors)
    return Assignment(
        (model.weights.child,),
        which[:, None].masked_fill(impossible[:, None], MISSING),
        log_prob.masked_fill(impossible, torch.nan),
        batched=observed.batched,
        index=observed.index,
        engine="ByComponent",
    )


def _refuse_impossible(impossible: Tensor, errors: str) -> None:
    if errors == "raise" and bool(impossible.any()):
        raise ImpossibleEvidence(
            f"sequence {int(impossible.nonzero()[0])} has probability zero under every component"
        )


def _best_component(
    model: MixtureModel,
    observed: SequenceEvidence,
    names: Collection[Hashable] | None,
    inputs: Inputs | None,
    errors: str,
) -> Assignment:
    """Return the component and the states of its variables that are most probable together."""
    known, classes = component_rows(model, observed)
    best = []
    for c in model.components:
        hidden = [*c.hidden] if names is None else [n for n in c.variables if n in names]
        rest: Any = {"inputs": _inputs_of(c, inputs), "errors": "nan"}
        best.append(c.most_probable(known, hidden, **rest))
    logs = [b.log_prob.reshape(-1).detach() for b in best]
    logs = [x.masked_fill(x.isnan(), -torch.inf) for x in logs]
    log_prob, which = joint_log_probs(model, logs, classes).max(dim=1)
    impossible = log_prob.isneginf()
    _refuse_impossible(impossible, errors)
    exact = all(b.upper_bound is not None and b.upper_bound.equal(b.log_prob) for b in best)
    codes = torch.stack([b.codes.reshape(observed.num_rows, -1) for b in best])
    states = codes[which, torch.arange(observed.num_rows)]
    return Assignment(
        (model.weights.child, *best[0].variables),
        torch.cat([which[:, None], states], dim=1).masked_fill(impossible[:, None], MISSING),
        log_prob.masked_fill(impossible, torch.nan),
        batched=observed.batched,
        index=observed.index,
        upper_bound=log_prob if exact else None,
        engine="ByComponent",
    )


def _chosen(joint: Tensor, n: int, seed: int | None) -> Tensor:
    """``(n, B)`` components sampled by their responsibilities."""
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    share = joint.softmax(dim=1).nan_to_num(1.0 / joint.shape[1])
    if not len(share) or not n:
        return torch.zeros(n, len(share), dtype=torch.int64)
    return torch.multinomial(share, n, replacement=True, generator=generator).t()


def _of_rows(parts: Sequence[Tensor], which: Tensor) -> Tensor:
    """Return the values of the component chosen for each sample."""
    index = which.reshape(1, *which.shape, *[1] * (parts[0].dim() - which.dim()))
    stacked = torch.stack(list(parts))
    return stacked.gather(0, index.expand(1, *stacked.shape[1:]))[0]


def _seed(seed: int | None, k: int) -> int | None:
    """Return a different seed for each component."""
    return None if seed is None else int(np.random.default_rng([seed, k]).integers(2**31))
