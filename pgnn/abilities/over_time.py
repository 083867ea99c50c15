"""Abilities of models over time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor

from pgnn.abilities.core import (
    DirectedModel,
    FactorModel,
    Inputs,
    MixtureModel,
    VariableModel,
)
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.variable import Variable

if TYPE_CHECKING:
    from pgnn.evidence.sequence_evidence import SequenceEvidence
    from pgnn.inference.chains.attribute_chain import AttributeChain
    from pgnn.inference.chains.chain import Chain
    from pgnn.inference.chains.labelled_chain import LabelledChain
    from pgnn.inference.chains.segment_chain import SegmentChain


class UnrollableModel(VariableModel):
    """A model over time, whose variables are arrays with time as the first axis.

    It has no tables until a length is known; then it is an ordinary model over ``(name, t)``.
    """

    @property
    def hidden(self) -> Sequence[Hashable]:
        """Names of the variables that are states rather than observations; empty if unknown."""
        return ()

    @property
    def sequence_label(self) -> Variable | None:
        """The variable that has one value for each sequence; None if all have a value a step."""
        return None

    @abstractmethod
    def covariates(
        self, inputs: Inputs | None, observed: SequenceEvidence
    ) -> dict[Hashable, Tensor]:
        """Return covariates as ``(B, T, ...)`` each."""

    def input_lengths(self, inputs: Inputs | None, *, alone: bool = False) -> Any:
        """Return sequence lengths given by inputs: ``(B,)``, or an integer for a single sequence.

        None if inputs give no lengths; evidence gives them then.

        Args:
            inputs: Covariates by name.
            alone: Whether evidence gives no lengths, so that arrays give theirs, including padding.
        """
        return None

    @abstractmethod
    def unroll(self, steps: int) -> FactorModel:
        """Return the model of a given number of steps, with variables ``(name, t)``."""


class MixtureOverTime(MixtureModel, UnrollableModel):
    """A mixture of models over time; each sequence is from one of the components."""

    @property
    def sequence_label(self) -> Variable:
        """The variable of the component."""
        label: Variable = self.weights.child
        return label


class SlicedModel(DirectedModel, UnrollableModel):
    """A directed slice that repeats along time.

    ``conditionals`` are those of a slice; parents in the previous slice are named ``(name, -1)``.
    """

    is_stepwise: bool = True
    """Whether conditionals apply at every step; those of segments apply where one begins."""

    @property
    @abstractmethod
    def initial(self) -> Mapping[Hashable, Conditional]:
        """Conditionals of the first slice, where they differ."""

    @property
    def input_names(self) -> Collection[Hashable]:
        """Names of the covariates, including those of the first slice."""
        initial_names = (name for c in self.initial.values() for name in c.inputs)
        return dict.fromkeys([*super().input_names, *initial_names])

    @property
    @abstractmethod
    def interface(self) -> list[Hashable]:
        """The discrete variables on which the next slice depends."""

    @abstractmethod
    def first(self, name: Hashable) -> Conditional:
        """Return the conditional of a variable at the first step."""


class ChainModel(UnrollableModel):
    """A model over time that builds the chain of its states, directed or undirected."""

    is_normalized: bool = False
    """Whether the chain without evidence has ``Z = 1``; if not, ``log_prob`` divides by it."""

    chain_order: int = 1
    """Number of previous states that a state depends on."""

    @property
    @abstractmethod
    def state(self) -> Variable:
        """The variable that forms the chain, an array over time."""

    @property
    def num_transitions(self) -> int:
        """Number of possible transitions at each step."""
        return self.state.num_states**2

    @abstractmethod
    def chain(
        self, observed: SequenceEvidence, inputs: Inputs | None = None, *, best: bool = False
    ) -> Chain | LabelledChain | SegmentChain:
        """Return the chain given the observations; a chain of segments if states have durations.

        Args:
            observed: Evidence.
            inputs: Covariates by name, ``(B, T, ...)``.
            best: Whether unobserved variables take their best states instead of being summed out.
        """


class LikelihoodModel(VariableModel):
    """A model of sequences that prepares rows once and scores them repeatedly while learning."""

    @abstractmethod
    def log_likelihood(self, rows: Any) -> Callable[[], Tensor]:
        """Return a function that computes ``(B,)`` log probabilities of a batch of rows.

        Args:
            rows: Evidence, with covariates as its ``inputs``.
        """


class PairedModel(LikelihoodModel):
    """A model of sequences that reads them itself, since inputs may have their own steps."""

    @abstractmethod
    def read(self, evidence: Any, inputs: Inputs | None = None) -> SequenceEvidence:
        """Read evidence and inputs; evidence that was already read is returned unchanged.

        Raises:
            EvidenceError: If they do not match the model.
        """


class AlignmentModel(PairedModel):
    """A model of labels emitted by steps of an input: each step emits a symbol or a blank.

    Steps are independent given the input; adjacent equal symbols emit one label.
    """

    @property
    @abstractmethod
    def label(self) -> Variable:
        """The labels, an array over a separate axis."""

    @property
    @abstractmethod
    def alignment(self) -> Variable:
        """The symbols of the steps, the blank first."""

    @abstractmethod
    def log_probs(self, observed: Any) -> Tensor:
        """Return ``(B, T, K + 1)`` log probabilities of the symbols, ``-inf`` beyond the end.

        Args:
            observed: Result of :meth:`read`.
        """


class AttributeChainModel(LikelihoodModel):
    """A chain of labels whose scores are sums over attributes, at least for some inputs."""

    @abstractmethod
    def attribute_chain(self, rows: SequenceEvidence) -> AttributeChain | None:
        """Return the chain of fully labelled rows; None if its scores are not sums over attributes.

        Args:
            rows: Evidence, with covariates as its ``inputs``.
        """

    @abstractmethod
    def attribute_scores(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return weights, scores of first and last labels, and transition scores."""

    @abstractmethod
    def assign_attribute_scores(self, *scores: Tensor) -> None:
        """Write scores as returned by :meth:`attribute_scores` into the learned parameters."""

    @property
    @abstractmethod
    def learned_transitions(self) -> Tensor:
        """``(K, K)`` mask of transitions whose scores are learned."""

    @property
    @abstractmethod
    def learns_ends(self) -> bool:
        """Whether scores of first and last labels are learned."""


class StepwiseModel(PairedModel):
    """A model of sequences generated step by step, each given all previous steps.

    A state consists of nested tuples of tensors with rows first, which engines index.
    """

    @property
    @abstractmethod
    def ends(self) -> bool:
        """Whether the model decides where a sequence ends; if not, lengths are given."""

    @abstractmethod
    def start(self, observed: Any) -> Any:
        """Return the state before the first step of all rows.

        Args:
            observed: Result of :meth:`read`.
        """

    @abstractmethod
    def advance(self, state: Any, values: Mapping[Hashable, Tensor]) -> Any:
        """Return the state after one more step with values ``(B, *event)`` by name."""

    @abstractmethod
    def end_log_probs(self, state: Any) -> tuple[Tensor, Tensor]:
        """Return ``(B,)`` log probabilities of continuing and of having ended."""

    @abstractmethod
    def next_log_probs(self, state: Any) -> Tensor:
        """Return ``(B, K)`` log probabilities of the next value of the only discrete variable.

        Raises:
            Unsupported: If there are other variables.
        """

    @abstractmethod
    def draw(self, state: Any, rng: Generator) -> dict[Hashable, Tensor]:
        """Return ``(B, *event)`` random next values by name."""

    @abstractmethod
    def step_log_probs(
        self, state: Any, values: Mapping[Hashable, Tensor]
    ) -> dict[Hashable, Tensor]:
        """Return ``(B,)`` log probabilities of next values ``(B, *event)``, of each variable."""


class EmittingModel(ChainModel, SlicedModel):
    """A directed chain of hidden states that each emit the observations of a step."""

    is_normalized: bool = True

    @property
    @abstractmethod
    def transitions(self) -> Conditional:
        """The state given the previous state."""

    @property
    @abstractmethod
    def emissions(self) -> Mapping[Hashable, Conditional]:
        """The observations of each step, given the state."""

    @property
    def durations(self) -> Conditional | None:
        """The duration of a segment given its state; None if each state lasts one step."""
        return None


class GaussianChainModel(SlicedModel):
    """A linear Gaussian chain of one real state (``hidden``) and its observations."""
