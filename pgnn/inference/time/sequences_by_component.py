"""Inference in mixtures of models over time: the answers of the components, weighted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import ChainModel, Inputs, MixtureOverTime
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.component_rows import (
    chosen_components,
    chosen_draws,
    explained_by_component,
    joint_log_probs,
    label_logs,
    seed_of,
)
from pgnn.inference.engine import Engine
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.mixture_paths import merged_paths
from pgnn.inference.time.mixture_question import MixtureQuestion
from pgnn.inference.time.sequence_engine import SequenceEngine, first_impossible_steps
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.steps_ahead import StepsAhead


@dataclass(frozen=True)
class SequencesByComponent(SequenceEngine):
    r"""Queries each component of a mixture of models over time, and weights the answers.

    .. math:: p(z_t \mid e) = \sum_k p(k \mid e)\, p_k(z_t \mid e), \qquad
        p(k \mid e) \propto \pi_k\, p_k(e)

    Filtered answers are weighted by the responsibilities given the evidence so far. The answer is
    exact if those of the components are; of real variables it has means and standard deviations.

    Args:
        engine: The engine of the components, ``model.query(..., engine=engine)``; the default of
            each if not given.

    Cost:
        The sum of the costs of the components.

    Example:
        >>> from pgnn.models import HiddenMarkovModel, SequenceMixture
        >>> def chain(stay):
        ...     moves = [[stay, 1 - stay], [1 - stay, stay]]
        ...     return HiddenMarkovModel(2, {"x": [[0.9, 0.1], [0.1, 0.9]]}, [0.5, 0.5], moves)
        >>> model = SequenceMixture([chain(0.9), chain(0.1)], [0.5, 0.5])
        >>> answer = model.filter({"x": [0, 1, 0]}, "component", engine=SequencesByComponent())
        >>> answer["component"].probs[:, 1]
        tensor([0.5000, 0.7560, 0.8632], dtype=torch.float64)
    """

    engine: Engine | None = None

    answers_about = MixtureOverTime
    subject = "mixtures of models over time"

    def ask(
        self, model: Any, evidence: Any, inputs: Inputs | None, names: Names | None, errors: str
    ) -> MixtureQuestion:
        """Read evidence as sequences and labels of them, see the base class."""
        observed = SequenceEvidence.of(model, evidence, inputs)
        return self._about(model, observed, inputs, names, errors)

    def smooth_steps(self, question: Any) -> Posterior:
        """Return marginals given all evidence; see the base class."""
        names, answers = question.inner_names, []
        if names or not self._is_exact(question):
            answers = self._each(question, "query", names, question.observed, errors="nan")
        log_z, share = self._responsibilities(question, answers)
        self.check_possible(question, log_z)
        answer: Posterior = question.weighted(share, answers, log_z, _engines(answers))
        return answer

    def filter_steps(self, question: Any) -> Posterior:
        """Return marginals of each step given the evidence so far; see the base class."""
        names = question.inner_names or None
        answers = self._each(question, "filter", question.observed, names, errors="nan")
        log_z, _ = self._responsibilities(question, answers)
        self.check_possible(question, log_z)
        parts = [
            self._until_excluded(question, c, a, names)
            for c, a in zip(question.model.components, answers, strict=True)
        ]
        answers, logs = [a for a, _ in parts], [x for _, x in parts]
        joint = self._joint_so_far(question, logs)
        so_far = joint.logsumexp(dim=2)
        share = (joint - so_far.nan_to_num(neginf=0.0).unsqueeze(-1)).exp()
        question.of_each_step = True
        before = torch.cat([torch.zeros_like(so_far[:, :1]), so_far[:, :-1]], dim=1)
        increments = question.alone(so_far - before)
        diagnostics = {**_engines(answers), "log_increments": increments}
        answer: Posterior = question.weighted(share, answers, log_z, diagnostics)
        return answer

    def predict_steps(self, ahead: StepsAhead) -> Posterior:
        """Return marginals of the next steps, weighted by the responsibilities at the end."""
        model, label = ahead.model, ahead.model.sequence_label.name
        whole = self._about(model, ahead.observed, ahead.inputs, [], "raise")
        names = (
            [n for n in model.variables if n != label] if ahead.targets is None else ahead.targets
        )
        question = self._about(model, ahead.after, None, names, "raise")
        if question.asks_label:
            raise Unsupported(
                f"{label!r} is the same at every step", f"use query({label!r}, evidence)"
            )
        with whole.gradient_mode():
            log_z, share = self._responsibilities(whole, [])
            self.check_possible(whole, log_z)
            answers = [
                c.predict(
                    _unobserved(ahead.observed, (share[:, k] == 0).cpu()),  # they have no weight
                    ahead.steps,
                    question.inner_names,
                    inputs=c.own_inputs(whole.inputs),
                    engine=self.engine,
                )
                for k, c in enumerate(model.components)
            ]
            return question.weighted(share, answers, log_z, _engines(answers))

    def best_paths(self, question: Any, k: int) -> Assignment | KBest:
        """Return the components and paths that are most probable together; see the base class."""
        label = question.label.name
        labels = question.observed.labels
        known = labels is not None and bool((labels >= 0).all())
        if not question.asks_label and not known:
            raise Unsupported(
                "the most probable paths with the component summed out do not decompose by "
                "component",
                f"add {label!r} to the targets, or ask a component: "
                "model.components[0].decode(...)",
            )
        best: list[Any] = []
        names = [v.name for v in question.queried if v.name != label]
        if names:
            best = self._each(
                question, "most_probable", question.observed, names, k=k, errors="nan"
            )
        paths = merged_paths(question, best, self._log_scores(question, best), k)
        self.check_possible(question, paths.scores[:, 0])
        return paths.answer(question)

    def draw_paths(self, question: Any, n: int, seed: int | None) -> Samples:
        """Return draws of the component and, from it, of all other variables."""
        log_z, share = self._responsibilities(question, [])
        self.check_possible(question, log_z)
        which = chosen_components(share.detach(), n, seed)  # (n, B)
        label, observed = question.label, question.observed
        drawn: dict[Any, Tensor] = {label.name: which.unsqueeze(-1)}
        for draws in chosen_draws(which, len(question.model.components)):
            k, rows = draws.component, draws.rows
            c = question.model.components[k]
            part = c.sample(
                n,
                observed.take(rows, observed.steps),
                inputs=_rows_of(c.own_inputs(question.inputs), rows, observed),
                engine=self.engine,
                seed=seed_of(seed, k),
            )
            for v in part.variables:
                x = part[v.name] if observed.batched else part[v.name].unsqueeze(1)
                whole = drawn.setdefault(v.name, x.new_zeros(n, observed.num_rows, *x.shape[2:]))
                draws.write(x, whole)
        samples: Samples = question.samples(drawn, n)
        return samples

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return log probabilities of the evidence; see the base class."""
        return self._responsibilities(question, [])[0]

    def describe(self, question: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        parts = self._each(question, "explain", question.inner_names, question.observed)
        name = type(self).__name__
        return explained_by_component(name, parts, hidden=question.num_rows)

    # --- helpers ------------------------------------------------------------------------------

    def _about(
        self, model: Any, observed: SequenceEvidence, inputs: Inputs | None, names: Any, errors: str
    ) -> MixtureQuestion:
        """Return a question; of real variables only if they are named."""
        settings: dict[str, Any] = {"engine": type(self).__name__, "takes_reals": names is not None}
        return MixtureQuestion(model, observed, inputs, names=names, errors=errors, **settings)

    def _is_exact(self, question: SequenceQuestion) -> bool:
        """Whether log probabilities of the components are known to be exact."""
        chains = all(isinstance(c, ChainModel) for c in question.model.components)
        return chains and self.engine is None

    def _each(
        self, question: SequenceQuestion, verb: str, *arguments: Any, **settings: Any
    ) -> list[Any]:
        """Call a verb of every component."""
        return [
            getattr(c, verb)(
                *arguments, inputs=c.own_inputs(question.inputs), engine=self.engine, **settings
            )
            for c in question.model.components
        ]

    def _responsibilities(
        self, question: SequenceQuestion, answers: Sequence[Posterior]
    ) -> tuple[Tensor, Tensor]:
        """Return ``(B,)`` log evidence and ``(B, K)`` responsibilities.

        Args:
            question: The query.
            answers: Those of the components, if known, whose log evidence is that of the models if
                these are normalised.
        """
        observed, components = question.observed, question.model.components
        if answers and all(c.is_normalized for c in components):
            logs = [a.log_evidence.reshape(-1) for a in answers]
        else:
            logs = [x.reshape(-1) for x in self._each(question, "log_prob", observed)]
        if any(bool(x.isnan().any()) for x in logs):
            raise Unsupported(
                f"{self.engine!r} finds no log evidence, by which the components are weighted",
                "use engine=ImportanceSampling(), or omit engine=",
            )
        joint = joint_log_probs(question.model, logs, label_logs(observed.labels, len(logs)))
        log_z = joint.logsumexp(dim=1)
        return log_z, (joint - log_z.nan_to_num(neginf=0.0).unsqueeze(1)).exp()

    def _until_excluded(
        self, question: MixtureQuestion, component: Any, answer: Posterior, names: Names | None
    ) -> tuple[Posterior, Tensor]:
        """Return the filtered answer of a component, and log probabilities of the beginnings.

        Where the evidence excludes the component, the answer is about the steps before it does,
        and the ``(B, T)`` log probabilities are minus infinity from there on.
        """
        observed, lost = question.observed, answer.log_evidence.detach().isneginf().reshape(-1)
        if not bool(lost.any()):
            return answer, self._log_prob_so_far(question, component, answer)
        inputs, rows = component.own_inputs(question.inputs), lost.cpu().nonzero()[:, 0]
        known = {n: x[rows] for n, x in component.covariates(inputs, observed).items()}

        def log_prob(begun: SequenceEvidence, covariates: Inputs) -> Tensor:
            settings: dict[str, Any] = {"inputs": covariates or None, "engine": self.engine}
            log_probs: Tensor = component.log_prob(begun, **settings)
            return log_probs.reshape(-1)

        lengths = observed.lengths.clone()
        lengths[rows] = first_impossible_steps(observed.take(rows), known, log_prob)
        begun = observed.shortened(lengths, observed.steps)
        answer = component.filter(begun, names, inputs=inputs, engine=self.engine, errors="nan")
        logs = self._log_prob_so_far(question, component, answer)
        after = lost[:, None] & ~begun.inside.to(lost.device)
        return answer, logs.masked_fill(after, -torch.inf)

    def _log_prob_so_far(
        self, question: MixtureQuestion, component: Any, answer: Posterior
    ) -> Tensor:
        """``(B, T)`` log probabilities of the evidence up to each step under a component."""
        observed, increments = question.observed, answer.diagnostics.get("log_increments")
        if increments is not None and component.is_normalized:
            by_row: Tensor = increments.reshape(observed.num_rows, observed.steps)
            lost = by_row.isnan() & observed.inside
            return by_row.masked_fill(~observed.inside, 0.0).masked_fill(lost, -torch.inf).cumsum(1)
        rows, inputs = torch.arange(observed.num_rows), component.own_inputs(question.inputs)
        known = component.covariates(inputs, observed)
        logs = []
        for t in range(observed.steps):
            cut = {n: x[:, : t + 1] for n, x in known.items()} or None
            begun = observed.take(rows, t + 1)
            logs.append(component.log_prob(begun, inputs=cut, engine=self.engine).reshape(-1))
        return torch.stack(logs, dim=1) if logs else torch.zeros(observed.num_rows, 0)

    def _joint_so_far(self, question: MixtureQuestion, logs: Sequence[Tensor]) -> Tensor:
        """``(B, T, K)`` joint log probabilities of each beginning and each component."""
        known, (rows, steps) = label_logs(question.observed.labels, len(logs)), logs[0].shape
        each = None if known is None else known.repeat_interleave(steps, dim=0)
        joint = joint_log_probs(question.model, [x.reshape(-1) for x in logs], each)
        return joint.reshape(rows, steps, len(logs))

    def _log_scores(self, question: MixtureQuestion, best: Sequence[Any]) -> list[Tensor]:
        """``(B, k)`` log probabilities of the best paths of each component, or of its evidence."""
        observed = question.observed
        if not best:
            return [x.detach().reshape(-1, 1) for x in self._each(question, "log_prob", observed)]
        scores = [b.log_prob.detach().reshape(observed.num_rows, -1) for b in best]
        scores = [x.masked_fill(x.isnan(), -torch.inf) for x in scores]
        if all(c.is_normalized for c in question.model.components):
            return scores
        nothing = SequenceEvidence(observed.lengths, observed.steps, batched=observed.batched)
        log_z = [a.log_evidence.detach() for a in self._each(question, "query", [], nothing)]
        return [
            x if c.is_normalized else x - z.reshape(-1, 1)
            for c, x, z in zip(question.model.components, scores, log_z, strict=True)
        ]


def _unobserved(observed: SequenceEvidence, rows: Tensor) -> SequenceEvidence:
    """Return sequences of the same lengths, without the values of a ``(B,)`` mask of rows."""
    kept = observed.shortened(observed.lengths.masked_fill(rows, 0), observed.steps)
    return replace(kept, lengths=observed.lengths)


def _engines(answers: Sequence[Posterior]) -> dict[str, Any]:
    """Return the diagnostics that name the engines of the components."""
    return {"components": sorted({a.engine for a in answers})} if answers else {}


def _rows_of(inputs: Inputs | None, rows: Tensor, observed: SequenceEvidence) -> Inputs | None:
    """Return the covariates of some rows."""
    if inputs is None or not observed.batched:
        return inputs
    return {n: _taken(x, rows) for n, x in inputs.items()}


def _taken(values: Any, rows: Tensor) -> Any:
    """Return some rows of an array, or of a list such as one of attributes."""
    if isinstance(values, list | tuple):
        return [values[k] for k in rows.tolist()]
    return torch.as_tensor(values)[rows]
