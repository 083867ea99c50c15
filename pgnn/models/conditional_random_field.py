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
    r"""A chain of labels given inputs, the undirected counterpart of a hidden Markov model.

    .. math:: p(z \mid x) = \frac{1}{Z(x)} \exp \Big( \sum_{t=1}^T f_t(z_t; x)
        + \sum_{t=2}^T A(z_{t-1}, z_t) \Big)

    The scores :math:`f` are sums of parts: linear in named attributes (:class:`AttributeScores`),
    computed by a network (:class:`NeuralScores`), or both. ``log_prob`` is that of labels given
    inputs; labels that are missing are summed out, so that partly labelled data is learned from.

    Args:
        labels: Number or names of the labels; :meth:`fit` finds them in the data if not given.
        scores: The parts, or one of them, or the name of an input with attributes.
        transitions: ``(K, K)`` scores from row to column, constants; learnable if not given.
        mask: ``(K, K)`` which transitions there are; all if not given, see :func:`bio_mask`. Or a
            :class:`LabelAutomaton`, which says what sequences there are.
        order: How many labels before it a label depends on; two or more add scores of as many
            labels side by side and one. The chain's states are then runs of labels.
        ends: Whether the first and the last label of a sequence have scores of their own.
        observed_transitions: Whether transitions that do not occur in training score zero.
        name: Of the label.

    Raises:
        ModelError: If a part is no :class:`StepScores`, or a table does not fit.

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
        """Return the labels and the parts."""
        return {"scores": tuple(self.scores), **super().settings()}

    # --- inputs -------------------------------------------------------------------------------

    def input_lengths(self, inputs: Inputs | None, *, alone: bool = False) -> Any:
        """Return the lengths that inputs tell, see the base class.

        Raises:
            EvidenceError: If two of them have other lengths.
        """
        return common_lengths(self._parts, inputs or {}, alone)

    def covariates(self, inputs: Inputs | None, rows: SequenceEvidence) -> dict[Hashable, Tensor]:
        """Return what the parts make of the inputs, ``(B, T, ...)`` each."""
        covariates: dict[Hashable, Tensor] = {}
        for part in self._parts:
            values, shape = input_of(part, inputs), (rows.num_rows, rows.steps)
            covariates |= part.covariates(values, shape, rows.batched)
            for name in (inputs or {}).keys() - covariates.keys():
                if isinstance(name, tuple) and name[0] == part.input_name:  # was read before
                    covariates[name] = (inputs or {})[name]
        return covariates

    @property
    def input_names(self) -> Collection[Hashable]:
        """Names of the inputs of the parts, and of what they make of them."""
        return [name for part in self._parts for name in part.input_names]

    # --- the chain ----------------------------------------------------------------------------

    def chain(
        self, observed: SequenceEvidence, inputs: Inputs | None = None, *, best: bool = False
    ) -> Chain | LabelledChain | SegmentChain:
        """Return the chain of labels given inputs, and labels that were observed.

        Args:
            observed: Evidence.
            inputs: Covariates by name.
            best: Makes no difference: there is nothing besides the labels.
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
        """Return a function of the parameters alone: ``(B,)`` log probabilities of some rows.

        Where all labels are known nothing is padded to the longest row, which is what learning
        takes its time with.

        Args:
            rows: Labels, and as ``inputs`` what :meth:`covariates` returned.
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
        """Return the chain of rows whose labels are known, see the base class."""
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
        """Return the weights, and the scores of ends and transitions, see the base class."""
        return self._parts[0].attribute_weights, *self._end_scores(), self.moves()

    def assign_attribute_scores(self, *scores: Tensor) -> None:
        """Write the weights, and the scores of ends and transitions, see the base class."""
        weights, first, last, moves = scores
        with torch.no_grad():
            self._parts[0].attribute_weights.copy_(weights)
            if self.ends:
                self.first.copy_(first)
                self.last.copy_(last)
            if self.learns_transitions:
                self.transitions.copy_(moves.masked_fill(self.barred, 0.0))

    def field(self, covariates: Mapping[Hashable, Tensor], lengths: Tensor, steps: int) -> Tensor:
        """Return ``(N, K)`` scores of the labels at each step, sequence after sequence.

        Args:
            covariates: What :meth:`covariates` returned.
            lengths: ``(B,)`` steps of each sequence.
            steps: Most steps ``T``.

        Raises:
            ModelError: If a part has scores of another number of labels.
        """
        inside = torch.arange(steps) < lengths[:, None]
        return self._total([part.scores(covariates, inside) for part in self._parts], lengths)

    def _total(self, scores: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """The sum of the parts' scores, ``(N, K)``, with those of last labels."""
        k = self.state.num_states
        for part, score in zip(self._parts, scores, strict=True):
            if score.shape[-1] != k:
                raise ModelError(
                    f"there are {k} labels, but the scores of {part.input_name!r} are of "
                    f"{score.shape[-1]}; fit the field first, or give the network {k} outputs"
                )
        total = reduce(torch.add, scores)
        if self.ends:
            ends = (lengths.cumsum(0) - 1)[lengths > 0].to(total.device)
            total = total.index_add(0, ends, self.last.to(total).expand(len(ends), -1))
        return total

    def unroll(self, steps: int) -> MarkovRandomField:
        """Return the field over ``steps`` labels, with inputs ``(name, t)`` of each step.

        Raises:
            Unsupported: If the mask is an automaton.
        """
        if self._automaton is not None:
            raise Unsupported(
                "an automaton looks at whole sequences, which are not written down step by step; "
                "leave engine= out"
            )
        longer = () if self.histories is None else range(3, self.order + 2)
        runs = [UnrolledRuns(self, steps, size) for size in longer if size <= steps]
        return MarkovRandomField([UnrolledScores(self, steps), *runs])

    def predict(self, *_: Any, **__: Any) -> Any:
        """Refused: labels have inputs at their own steps.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            "labels follow from inputs at their own steps: give inputs of all steps, and labels "
            "as far as they are known, to smooth() or decode()"
        )

    # --- learning -----------------------------------------------------------------------------

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`LearningVerbs`: attributes, and labels not declared, are those of the data.

        Raises:
            DataError: If there are no labels, or no attributes, to learn from.
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
            raise DataError(str(error)) from None

    def _prepare(self, rows: SequenceEvidence, inputs: Inputs | None) -> dict[Hashable, Tensor]:
        """Replace parts whose parameters depend on what occurs, begin anew; return covariates."""
        raw = {p.input_name: p.read(input_of(p, inputs)) for p in self._parts}
        codes = rows.codes.get(self.name, torch.full((rows.num_rows, rows.steps), MISSING))
        known, k = codes[rows.inside], self.state.num_states
        self.scores = nn.ModuleList(p.prepared(raw[p.input_name], known, k) for p in self._parts)
        self._begin(codes, rows.lengths)
        return self.covariates(raw, rows)

    def default_learner(self, data: Any) -> Learner:
        """Return L-BFGS with a normal prior of each weight, of the variance one half."""
        from pgnn.inference.learning.gradient import Gradient

        rows = data.num_rows if isinstance(data, SequenceEvidence) else 1
        return Gradient(l2=_PRECISION / max(rows, 1))

    @property
    def _parts(self) -> list[StepScores]:
        return list(self.scores)  # type: ignore[arg-type]


_PRECISION = 2.0
"""Of the prior: CRFsuite's penalty is the squares of the weights, with the strength c2 = 1."""
