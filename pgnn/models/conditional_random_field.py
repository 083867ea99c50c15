"""Conditional random fields over sequences of labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs
from pgnn.errors import DataError, EvidenceError, ModelError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.piece import Settings
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import MISSING, Variable
from pgnn.models.label_field import LabelField
from pgnn.models.labels_from_data import labels_of
from pgnn.models.markov_random_field import MarkovRandomField
from pgnn.models.scores.score_parts import common_lengths, input_of, read_parts
from pgnn.models.scores.step_scores import StepScores
from pgnn.models.scores.unrolled_scores import UnrolledRuns, UnrolledScores
from pgnn.models.structure_restored_on_failure import structure_restored_on_failure

if TYPE_CHECKING:
    from pgnn.inference.chains.attribute_chain import AttributeChain
    from pgnn.inference.chains.chain import Chain
    from pgnn.inference.chains.labelled_chain import LabelledChain
    from pgnn.inference.chains.segment_chain import SegmentChain
    from pgnn.inference.learner import Learner


class ConditionalRandomField(LabelField):
    r"""A linear-chain conditional random field: a chain of labels given inputs.

    .. math:: p(z \mid x) = \frac{1}{Z(x)} \exp \Big( \sum_{t=1}^T f_t(z_t; x)
        + \sum_{t=2}^T A(z_{t-1}, z_t) \Big)

    It is the discriminative counterpart of a hidden Markov model. The scores :math:`f` are linear
    in named attributes (:class:`AttributeScores`), the output of a network (:class:`NeuralScores`),
    or a sum of both. ``log_prob`` is the conditional log-likelihood of labels given inputs. Missing
    labels are marginalised, so the field can be fitted to partially labelled data.

    Args:
        labels: Number or names of the labels; by default, :meth:`fit` reads them from the data.
        scores: A part of the scores, a list of parts, or the name of an input with attributes.
        transitions: ``(K, K)`` constant scores from row to column; learnable by default.
        mask: ``(K, K)`` whether a transition is allowed, see :func:`bio_mask`; or a
            :class:`LabelAutomaton` that accepts the allowed sequences. By default, all are allowed.
        order: Number of previous labels that a label depends on. With an order of two or more, runs
            of up to ``order + 1`` labels have scores and are the states of the chain.
        ends: Whether the first and the last label of a sequence have additional scores.
        observed_transitions: Whether transitions that do not occur in the training data have a
            constant score of zero.
        name: Name of the label.

    Raises:
        ModelError: If a part is not a :class:`StepScores`, or a table has another shape.

    References:
        Lafferty, McCallum and Pereira (2001), Conditional random fields: probabilistic models for
        segmenting and labeling sequence data; Sutton and McCallum (2012), An introduction to
        conditional random fields.

    Example:
        >>> words = [["the", "dog", "barks"], ["a", "cat", "sleeps"], ["the", "cat", "barks"]]
        >>> inputs = {"attributes": [[{"word": w} for w in sentence] for sentence in words]}
        >>> tags = [["DET", "NOUN", "VERB"]] * 3
        >>> tagger = ConditionalRandomField().fit(tags, inputs=inputs, progress=False)
        >>> sentence = {"attributes": [{"word": "a"}, {"word": "dog"}, {"word": "sleeps"}]}
        >>> tagger.decode(inputs=sentence)["label"].tolist()
        ['DET', 'NOUN', 'VERB']
    """

    def __init__(
        self,
        labels: int | Iterable[Hashable] | None = None,
        scores: Hashable | StepScores | Sequence[StepScores] = "attributes",
        transitions: Any = None,
        *,
        mask: Any = None,
        ends: bool = False,
        observed_transitions: bool = False,
        order: int = 1,
        name: Hashable = "label",
    ) -> None:
        given = {"labels": labels, "transitions": transitions, "mask": mask}
        super().__init__(given, ends, observed_transitions, order, name)
        self.scores = nn.ModuleList(read_parts(scores))

    def settings(self) -> Settings:
        """Return the labels and the parts of the scores."""
        return {"scores": tuple(self.scores), **super().settings()}

    # --- inputs -------------------------------------------------------------------------------

    def input_lengths(self, inputs: Inputs | None, *, alone: bool = False) -> Any:
        """Return the lengths of the inputs, see the base class.

        Raises:
            EvidenceError: If the lengths of two inputs differ.
        """
        return common_lengths(self._parts, inputs or {}, alone)

    def covariates(self, inputs: Inputs | None, rows: SequenceEvidence) -> dict[Hashable, Tensor]:
        """Return the covariates of all parts, ``(B, T, ...)`` each."""
        covariates: dict[Hashable, Tensor] = {}
        for part in self._parts:
            values, shape = input_of(part, inputs), (rows.num_rows, rows.steps)
            covariates |= part.covariates(values, shape, rows.batched)
            for name in (inputs or {}).keys() - covariates.keys():
                if isinstance(name, tuple) and name[0] == part.input_name:  # already read
                    covariates[name] = (inputs or {})[name]
        return covariates

    @property
    def input_names(self) -> Collection[Hashable]:
        """Names of the inputs and of the covariates of all parts."""
        return [name for part in self._parts for name in part.input_names]

    # --- the chain ----------------------------------------------------------------------------

    def chain(
        self, observed: SequenceEvidence, inputs: Inputs | None = None, *, best: bool = False
    ) -> Chain | LabelledChain | SegmentChain:
        """Return the chain of labels given inputs and observed labels.

        Args:
            observed: Evidence.
            inputs: Covariates by name.
            best: Ignored, since all variables are labels.
        """
        from pgnn.inference.chains.chain import Chain

        steps = self.field(self.covariates(inputs, observed), observed.lengths, observed.steps)
        inside = observed.inside.to(steps.device)
        field = steps.new_zeros((*inside.shape, steps.shape[1])).index_put((inside,), steps)
        if self.name in observed.codes:
            codes = observed.codes[self.name].to(field.device).unsqueeze(-1)
            other = torch.arange(self.state.num_states, device=field.device) != codes
            field = field.masked_fill(other & (codes >= 0), -torch.inf)
        if self.name in observed.soft:
            field = field + observed.soft[self.name].to(field).log()
        start, moves = self._end_scores()[0].to(field), self.moves().to(field)
        if self.histories is not None:
            return self.histories.chain(start, moves, self.barred, field, observed.lengths)
        return Chain(start, moves, field, observed.lengths)

    def log_likelihood(self, rows: SequenceEvidence) -> Callable[[], Tensor]:
        """Return a function that computes ``(B,)`` log probabilities of a batch of rows.

        If all labels are observed, rows are not padded to the longest one, which makes a fit
        faster.

        Args:
            rows: Labels, with the result of :meth:`covariates` as ``inputs``.
        """
        if not rows.is_known(self.name):
            return lambda: self.log_prob(rows, inputs=rows.inputs)
        from pgnn.inference.chains.label_likelihood import LabelLikelihood

        chain = self.attribute_chain(rows)
        if chain is not None and chain.sums.is_dense:
            return lambda: chain(*self.attribute_scores())
        inside, codes = rows.inside, rows.codes[self.name]
        likelihood: Any = None
        if self.histories is None:
            likelihood = LabelLikelihood(rows.lengths, codes[inside])
        else:
            likelihood = self.histories.likelihood(rows.lengths, codes, self.barred)
            if likelihood is None:
                return lambda: self.log_prob(rows, inputs=rows.inputs)
        scorers = [part.scorer(rows.inputs, inside) for part in self._parts]

        def log_probs() -> Tensor:
            steps = self._total([scores() for scores in scorers], rows.lengths)
            first, moves = self._end_scores()[0].to(steps), self.moves().to(steps)
            logs: Tensor = likelihood(steps, first, moves)
            return logs

        return log_probs

    def attribute_chain(self, rows: SequenceEvidence) -> AttributeChain | None:
        """Return the chain of fully labelled rows, see the base class."""
        from pgnn.inference.chains.attribute_chain import AttributeChain
        from pgnn.inference.chains.label_likelihood import LabelLikelihood

        if len(self._parts) > 1 or self.histories is not None:
            return None
        inside = rows.inside
        sums = self._parts[0].attribute_sums(rows.inputs, inside)
        if sums is None:
            return None
        codes = rows.codes[self.name][inside]
        return AttributeChain(sums, LabelLikelihood(rows.lengths, codes))

    def attribute_scores(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the weights and the scores of ends and transitions, see the base class."""
        return self._parts[0].attribute_weights, *self._end_scores(), self.moves()

    def assign_attribute_scores(self, *scores: Tensor) -> None:
        """Set the weights and the scores of ends and transitions, see the base class."""
        weights, first, last, moves = scores
        with torch.no_grad():
            self._parts[0].attribute_weights.copy_(weights)
            if self.ends:
                self.first.copy_(first)
                self.last.copy_(last)
            if self.learns_transitions:
                self.transitions.copy_(moves.masked_fill(self.barred, 0.0))

    def field(self, covariates: Mapping[Hashable, Tensor], lengths: Tensor, steps: int) -> Tensor:
        """Return ``(N, K)`` scores of the labels at all steps of all sequences, without padding.

        Args:
            covariates: Result of :meth:`covariates`.
            lengths: ``(B,)`` lengths of the sequences.
            steps: Maximum number of steps ``T``.

        Raises:
            ModelError: If a part has another number of labels.
        """
        inside = torch.arange(steps) < lengths[:, None]
        return self._total([part.scores(covariates, inside) for part in self._parts], lengths)

    def _total(self, scores: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return the ``(N, K)`` sum of the scores of all parts and of last labels."""
        k = self.state.num_states
        for part, score in zip(self._parts, scores, strict=True):
            if score.shape[-1] != k:
                raise ModelError(
                    f"there are {k} labels, but the scores of {part.input_name!r} have "
                    f"{score.shape[-1]}",
                    f"fit the field first, or give the network {k} outputs",
                )
        total = reduce(torch.add, scores)
        if self.ends:
            ends = (lengths.cumsum(0) - 1)[lengths > 0].to(total.device)
            total = total.index_add(0, ends, self.last.to(total).expand(len(ends), -1))
        return total

    def unroll(self, steps: int) -> MarkovRandomField:
        """Return the field over ``steps`` labels, with inputs ``(name, t)`` at each step.

        Raises:
            Unsupported: If the mask is an automaton.
        """
        if self._automaton is not None:
            raise Unsupported(
                "an automaton constrains whole sequences, which cannot be unrolled step by step",
                "leave out engine=",
            )
        longer = () if self.histories is None else range(3, self.order + 2)
        runs = [UnrolledRuns(self, steps, size) for size in longer if size <= steps]
        return MarkovRandomField([UnrolledScores(self, steps), *runs])

    def predict(self, *_: Any, **__: Any) -> Any:
        """Not supported: each label needs the input at its own step.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            "each label needs the input at its own step",
            "pass the inputs of all steps, and the known labels, to smooth() or decode()",
        )

    # --- learning -----------------------------------------------------------------------------

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`LearningVerbs`; attributes and undeclared labels are read from the data.

        Raises:
            DataError: If the data has no labels or no attributes.
        """
        with structure_restored_on_failure(self):
            if self._given["labels"] is None:
                self._declare(Variable(self.name, labels_of(self.name, data), (AXIS,)))
            rows = self._read(data, inputs)
            yield rows, self._prepare(rows, inputs)

    def _read(self, data: Any, inputs: Inputs | None) -> SequenceEvidence:
        try:
            return SequenceEvidence.of(self, data, inputs)
        except EvidenceError as error:
            raise DataError(error.reason, error.advice) from None

    def _prepare(self, rows: SequenceEvidence, inputs: Inputs | None) -> dict[Hashable, Tensor]:
        """Prepare all parts for the data, reset the scores and return the covariates."""
        raw = {p.input_name: p.read(input_of(p, inputs)) for p in self._parts}
        codes = rows.codes.get(self.name, torch.full((rows.num_rows, rows.steps), MISSING))
        known, k = codes[rows.inside], self.state.num_states
        self.scores = nn.ModuleList(p.prepared(raw[p.input_name], known, k) for p in self._parts)
        self._begin(codes, rows.lengths)
        return self.covariates(raw, rows)

    def default_learner(self, data: Any) -> Learner:
        """Return L-BFGS with a normal prior of variance one half on each weight."""
        from pgnn.inference.learning.gradient import Gradient

        rows = data.num_rows if isinstance(data, SequenceEvidence) else 1
        return Gradient(l2=_PRECISION / max(rows, 1))

    @property
    def _parts(self) -> list[StepScores]:
        return list(self.scores)  # type: ignore[arg-type]


_PRECISION = 2.0
"""Variance of the prior, equal to CRFsuite's L2 penalty with the default strength c2 = 1."""
