"""What a model over time can do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor

from pgnn.abilities.core import DirectedModel, FactorModel, Inputs, VariableModel
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.variable import Variable

if TYPE_CHECKING:
    from pgnn.evidence.sequence_evidence import SequenceEvidence
    from pgnn.inference.chains.attribute_chain import AttributeChain
    from pgnn.inference.chains.chain import Chain
    from pgnn.inference.chains.labelled_chain import LabelledChain
    from pgnn.inference.chains.segment_chain import SegmentChain


class UnrollableModel(VariableModel):
    """A model over time: its variables are arrays whose first axis is time.

    It has no tables before a length is known, and is then an ordinary model over ``(name, t)``.
    """

    @property
    def hidden(self) -> Sequence[Hashable]:
        """Names of the variables that are states rather than observations; none if not known."""
        return ()

    @abstractmethod
    def covariates(
        self, inputs: Inputs | None, observed: SequenceEvidence
    ) -> dict[Hashable, Tensor]:
        """Return covariates as ``(B, T, ...)`` each."""

    def input_lengths(self, inputs: Inputs | None, *, alone: bool = False) -> Any:
        """Return the lengths of sequences that inputs tell: ``(B,)``, a number of a lone one.

        None where they do not: then evidence tells.

        Args:
            inputs: Covariates by name.
            alone: Whether evidence tells none, so that arrays tell theirs, padding included.
        """
        return None

    @abstractmethod
    def unroll(self, steps: int) -> FactorModel:
        """Return the model of so many steps, with variables ``(name, t)``."""


class SlicedModel(DirectedModel, UnrollableModel):
    """A directed slice that repeats along time.

    ``conditionals`` are those of a slice; parents in the slice before are named ``(name, -1)``.
    """

    @property
    @abstractmethod
    def initial(self) -> Mapping[Hashable, Conditional]:
        """Conditionals of the first slice, where they differ."""

    @property
    def input_names(self) -> Collection[Hashable]:
        """Those of the first slice as well."""
        own = (name for c in self.initial.values() for name in c.inputs)
        return dict.fromkeys([*super().input_names, *own])

    @property
    @abstractmethod
    def interface(self) -> list[Hashable]:
        """The discrete variables on which the next slice depends."""

    @abstractmethod
    def first(self, name: Hashable) -> Conditional:
        """Return the conditional of a variable at the first step."""


class ChainModel(UnrollableModel):
    """A model over time whose states form a chain, directed or not, and that makes it itself."""

    is_normalized: bool = False
    """Whether the chain given nothing has ``Z = 1``; if not, ``log_prob`` divides by it."""

    @property
    @abstractmethod
    def state(self) -> Variable:
        """The variable that forms the chain, an array over time."""

    @abstractmethod
    def chain(
        self, observed: SequenceEvidence, inputs: Inputs | None = None, *, best: bool = False
    ) -> Chain | LabelledChain | SegmentChain:
        """Return the chain given the observations; one of segments where states last.

        Args:
            observed: Evidence.
            inputs: Covariates by name, ``(B, T, ...)``.
            best: What was not observed takes its best states, instead of being summed out.
        """


class LikelihoodModel(VariableModel):
    """A model of sequences that prepares rows once, to be scored again and again as it learns."""

    @abstractmethod
    def log_likelihood(self, rows: Any) -> Callable[[], Tensor]:
        """Return a function of the parameters alone that returns ``(B,)`` log probabilities.

        Args:
            rows: Evidence, with covariates as its ``inputs``.
        """


class PairedModel(LikelihoodModel):
    """A model of sequences that reads them itself: their inputs may have steps of their own."""

    @abstractmethod
    def read(self, evidence: Any, inputs: Inputs | None = None) -> SequenceEvidence:
        """Read evidence and inputs; what was read before is returned.

        Raises:
            EvidenceError: If they do not fit.
        """


class AlignmentModel(PairedModel):
    """A model of labels that steps of an input say: a symbol each, or nothing (a blank).

    Steps are independent given the input; equal symbols side by side say one label.
    """

    @property
    @abstractmethod
    def label(self) -> Variable:
        """The labels, an array over an axis of their own."""

    @property
    @abstractmethod
    def alignment(self) -> Variable:
        """The symbols of the steps, the blank first."""

    @abstractmethod
    def log_probs(self, observed: Any) -> Tensor:
        """Return ``(B, T, K + 1)`` log probabilities of the symbols, ``-inf`` beyond the end.

        Args:
            observed: What :meth:`read` returned.
        """


class AttributeChainModel(LikelihoodModel):
    """A chain of labels whose scores are sums over attributes, at least with some inputs."""

    @abstractmethod
    def attribute_chain(self, rows: SequenceEvidence) -> AttributeChain | None:
        """Return the chain of rows whose labels are all known; None if it is none of attributes.

        Args:
            rows: Evidence, with covariates as its ``inputs``.
        """

    @abstractmethod
    def attribute_scores(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return weights, scores of first and last labels, and of transitions."""

    @abstractmethod
    def assign_attribute_scores(self, *scores: Tensor) -> None:
        """Write what :meth:`attribute_scores` returns into the parameters that are learned."""

    @property
    @abstractmethod
    def learned_transitions(self) -> Tensor:
        """``(K, K)`` which transitions have scores that are learned."""

    @property
    @abstractmethod
    def learns_ends(self) -> bool:
        """Whether first and last labels have scores that are learned."""


class StepwiseModel(PairedModel):
    """A model of sequences that are made step by step, each given all steps before it.

    A state is nested tuples of tensors, rows first: engines take rows of it.
    """

    @property
    @abstractmethod
    def ends(self) -> bool:
        """Whether the model says where a sequence ends; if not, lengths are given."""

    @abstractmethod
    def start(self, observed: Any) -> Any:
        """Return the state before the first step of all rows.

        Args:
            observed: What :meth:`read` returned.
        """

    @abstractmethod
    def advance(self, state: Any, values: Mapping[Hashable, Tensor]) -> Any:
        """Return the state after one step more, with values ``(B, *event)`` by name."""

    @abstractmethod
    def end_log_probs(self, state: Any) -> tuple[Tensor, Tensor]:
        """Return ``(B,)`` log probabilities of going on, and of having ended."""

    @abstractmethod
    def next_log_probs(self, state: Any) -> Tensor:
        """Return ``(B, K)`` log probabilities of the next value of the only discrete variable.

        Raises:
            Unsupported: If there are other variables.
        """

    @abstractmethod
    def draw(self, state: Any, rng: Generator) -> dict[Hashable, Tensor]:
        """Return ``(B, *event)`` next values by name, drawn at random."""

    @abstractmethod
    def step_log_probs(
        self, state: Any, values: Mapping[Hashable, Tensor]
    ) -> dict[Hashable, Tensor]:
        """Return ``(B,)`` log probabilities of next values ``(B, *event)``, of each variable."""


class EmittingModel(ChainModel, SlicedModel):
    """A directed chain of hidden states, each of which emits what is observed at its step."""

    is_normalized: bool = True

    @property
    @abstractmethod
    def transitions(self) -> Conditional:
        """The state given the one before."""

    @property
    @abstractmethod
    def emissions(self) -> Mapping[Hashable, Conditional]:
        """What is observed at each step, given the state."""

    @property
    def durations(self) -> Conditional | None:
        """The duration of a segment given its state; None where a state lasts one step."""
        return None


class GaussianChainModel(SlicedModel):
    """A chain of one real state (``hidden``) and what is observed of it, all linear Gaussian."""
