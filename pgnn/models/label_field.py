"""Base class of fields over sequences of labels: labels and transition scores."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn

from pgnn.abilities import AttributeChainModel, ChainModel
from pgnn.errors import ModelError
from pgnn.factors.piece import Settings
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number
from pgnn.models.labels_from_data import check_allowed, runs_of
from pgnn.models.scores.history_scores import HistoryScores, histories_of
from pgnn.models.scores.label_automaton import LabelAutomaton
from pgnn.models.scores.label_pairs import read_mask, read_pairs
from pgnn.models.sequence_model import SequenceModel


class LabelField(SequenceModel, ChainModel, AttributeChainModel):
    """An undirected chain of labels; this class holds the part that does not depend on inputs.

    Args:
        given: ``labels``, ``transitions`` and ``mask`` as passed by the caller.
        ends: Whether the first and the last label of a sequence have additional scores.
        observed_transitions: Whether transitions that do not occur in the training data have a
            constant score of zero.
        order: Number of previous labels that a label depends on.
        name: Name of the label.

    Raises:
        ModelError: If a table has another shape.
    """

    is_normalized = False
    barred: Tensor
    unlearned: Tensor

    def __init__(
        self,
        given: Mapping[str, Any],
        ends: bool,
        observed_transitions: bool,
        order: int,
        name: Hashable,
    ) -> None:
        super().__init__()
        self.order = self.chain_order = whole_number("order", order, 1, ModelError)
        self.name, self.ends, self.observed_transitions = name, ends, observed_transitions
        self._given = dict(given)
        self.graph = nx.freeze(nx.Graph([((name, -1), name)]))
        self._label: Variable | None = None
        self.histories: HistoryScores | None = None
        if given["labels"] is not None:
            self._declare(Variable(name, given["labels"], (AXIS,)))

    def _declare(self, label: Variable) -> None:
        """Create the parameters and buffers, whose shapes depend on the number of labels."""
        k, transitions, mask = label.num_states, self._given["transitions"], self._given["mask"]
        table = torch.zeros(k, k, dtype=torch.float64)
        if transitions is not None:
            table = read_pairs("transitions", transitions, label)
        everything = mask is None or isinstance(mask, LabelAutomaton)
        allowed = torch.ones(k, k, dtype=torch.bool) if everything else read_mask(mask, label)
        self._label = label
        self.histories = histories_of(label, self.order, mask)
        self.register_buffer("barred", ~allowed)
        self.register_buffer("unlearned", torch.zeros(k, k, dtype=torch.bool))
        self.transitions = nn.Parameter(table, requires_grad=transitions is None)
        if self.ends:
            self.first = nn.Parameter(torch.zeros(k, dtype=torch.float64))
            self.last = nn.Parameter(torch.zeros(k, dtype=torch.float64))

    def _begin(self, codes: Tensor, lengths: Tensor) -> None:
        """Reset the parameters before a fit to ``(B, T)`` labels, -1 where not observed.

        Raises:
            DataError: If the mask forbids a sequence of observed labels.
        """
        check_allowed(self.state, codes, self.forbidden())
        if self.histories is not None:
            observed = self.observed_transitions
            self.histories = self.histories.begun(codes, lengths, self.barred, observed)
        if self.observed_transitions:
            self.register_buffer("unlearned", ~runs_of(codes, 2, self.state.num_states))
        if self.transitions.requires_grad:
            self.transitions = nn.Parameter(torch.zeros_like(self.transitions))
        if self.ends:
            self.first = nn.Parameter(torch.zeros_like(self.first))
            self.last = nn.Parameter(torch.zeros_like(self.last))

    @property
    def learns_transitions(self) -> bool:
        """Whether the scores of transitions are learnable."""
        return self._given["transitions"] is None

    def settings(self) -> Settings:
        """Return the labels and the settings of transitions."""
        return {
            "labels": None if self._label is None else self._label.states,
            "transitions": None if self.learns_transitions else self.transitions.detach(),
            "ends": self.ends,
            "observed_transitions": self.observed_transitions,
            "mask": self._automaton,
            "order": self.order,
            "name": self.name,
        }

    @property
    def _automaton(self) -> LabelAutomaton | None:
        """The mask if it is an automaton; a mask that is a table is stored with the parameters."""
        mask = self._given["mask"]
        return mask if isinstance(mask, LabelAutomaton) else None

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The label, a variable with a value at each step.

        Raises:
            ModelError: If the labels were neither declared nor read from data.
        """
        return {self.name: self.state}

    @property
    def state(self) -> Variable:
        """The label, see :attr:`variables`."""
        if self._label is None:
            raise ModelError(
                "the labels are not known yet",
                "declare them, as in ConditionalRandomField(['B', 'I', 'O']), or fit the field to "
                "labelled data",
            )
        return self._label

    @property
    def num_transitions(self) -> int:
        """Number of transitions between states of the chain, see the base class."""
        if self.histories is None:
            return super().num_transitions
        return len(self.histories.states(self.barred).edges)

    @property
    def hidden(self) -> list[Hashable]:
        """The name of the label."""
        return [self.name]

    @property
    def learned_transitions(self) -> Tensor:
        """``(K, K)`` whether a transition is learnable, see the base class."""
        return ~(self.barred | self.unlearned) & self.learns_transitions

    @property
    def learns_ends(self) -> bool:
        """Whether first and last labels have learnable scores, see the base class."""
        return self.ends

    def _end_scores(self) -> tuple[Tensor, Tensor]:
        """``(K,)`` scores of the first label and ``(K,)`` scores of the last label."""
        if self.ends:
            return self.first, self.last
        none = self.transitions.new_zeros(self.state.num_states)
        return none, none

    def forbidden(self) -> Tensor:
        """Return ``(K, K)`` whether a transition is forbidden."""
        return self.barred

    def moves(self) -> Tensor:
        """Return ``(K, K)`` scores of transitions, ``-inf`` if forbidden."""
        kept = self.transitions.masked_fill(self.unlearned, 0.0)
        return kept.masked_fill(self.barred, -torch.inf)

    def extra_repr(self) -> str:
        """Return the contents of the parentheses of ``repr``."""
        labels = "labels unknown" if self._label is None else f"{self._label.num_states} labels"
        return labels if self.order == 1 else f"{labels}, order {self.order}"
