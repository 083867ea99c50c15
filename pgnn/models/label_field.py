"""What fields over sequences of labels share: the labels, and scores of those side by side."""

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
    """An undirected chain of labels, of which this is the part that inputs have no say in.

    Args:
        given: ``labels``, ``transitions`` and ``mask`` as the caller gave them.
        ends: Whether the first and the last label of a sequence have scores of their own.
        observed_transitions: Whether transitions that do not occur in training score zero.
        order: How many labels before it a label depends on.
        name: Of the label.

    Raises:
        ModelError: If a table does not fit.
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
        """Make what depends on the number of labels."""
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
        """Begin to learn anew from ``(B, T)`` labels, -1 where not known.

        Raises:
            DataError: If some may not follow each other.
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
        """Whether the scores of transitions are learned."""
        return self._given["transitions"] is None

    def settings(self) -> Settings:
        """Return the labels, and what there is of transitions."""
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
        """The mask, if it is no table, which is kept among the numbers."""
        mask = self._given["mask"]
        return mask if isinstance(mask, LabelAutomaton) else None

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The label, an array over time.

        Raises:
            ModelError: If labels were not declared, and no data has told them yet.
        """
        return {self.name: self.state}

    @property
    def state(self) -> Variable:
        """The label, see :attr:`variables`."""
        if self._label is None:
            raise ModelError(
                "the labels are not known yet: give them, as in ConditionalRandomField(['B', 'I', "
                "'O']), or fit the field to data that has them"
            )
        return self._label

    @property
    def num_transitions(self) -> int:
        """Number of transitions between runs of labels and states of a mask, see the base class."""
        if self.histories is None:
            return super().num_transitions
        return len(self.histories.states(self.barred).edges)

    @property
    def hidden(self) -> list[Hashable]:
        """The label's name."""
        return [self.name]

    @property
    def learned_transitions(self) -> Tensor:
        """``(K, K)`` which transitions are learned, see the base class."""
        return ~(self.barred | self.unlearned) & self.learns_transitions

    @property
    def learns_ends(self) -> bool:
        """Whether first and last labels have scores, see the base class."""
        return self.ends

    def _end_scores(self) -> tuple[Tensor, Tensor]:
        """``(K,)`` scores of the first label and of the last one."""
        if self.ends:
            return self.first, self.last
        none = self.transitions.new_zeros(self.state.num_states)
        return none, none

    def forbidden(self) -> Tensor:
        """Return ``(K, K)`` which labels never follow which at the next step."""
        return self.barred

    def moves(self) -> Tensor:
        """Return ``(K, K)`` scores of transitions, ``-inf`` of those that there are not."""
        kept = self.transitions.masked_fill(self.unlearned, 0.0)
        return kept.masked_fill(self.barred, -torch.inf)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        labels = "labels unknown" if self._label is None else f"{self._label.num_states} labels"
        return labels if self.order == 1 else f"{labels}, order {self.order}"
