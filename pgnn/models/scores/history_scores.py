"""Scores of a label given several previous labels, and masks over more than two labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pgnn.errors import DataError
from pgnn.factors.piece import MAX_LEARNABLE
from pgnn.factors.variable import Variable
from pgnn.limits import check_size
from pgnn.models.labels_from_data import runs_of
from pgnn.models.scores.label_automaton import LabelAutomaton

if TYPE_CHECKING:
    from pgnn.inference.chains.label_states import LabelStates
    from pgnn.inference.chains.labelled_chain import LabelledChain


class HistoryScores(nn.Module):
    r"""Scores of more than two adjacent labels, :math:`\sum_n A_n(z_{t-n+1}, \dots, z_t)`.

    Args:
        label: The label of the chain.
        order: Number of previous labels that a label depends on; there are tables of
            ``3, ..., order + 1`` labels.
        automaton: Automaton that accepts the allowed sequences; None if all are allowed.

    Attributes:
        tables: Learnable scores ``(K, K, K)``, ``(K, K, K, K)`` and so on.

    Raises:
        Intractable: If the tables would be too large.
        ModelError: If the automaton has other labels.
    """

    def __init__(self, label: Variable, order: int, automaton: LabelAutomaton | None) -> None:
        super().__init__()
        k = label.num_states
        self.label, self.order, self.automaton = label, order, automaton
        sizes = [(k,) * n for n in range(3, order + 2)]
        check_size(f"scores of {order + 1} labels side by side", float(k) ** (order + 1),
                   MAX_LEARNABLE, "Give a smaller order")  # fmt: skip
        self.tables = nn.ParameterList(torch.zeros(s, dtype=torch.float64) for s in sizes)
        for n, size in enumerate(sizes):
            self.register_buffer(f"unlearned_{n}", torch.zeros(size, dtype=torch.bool))
        self._numbered = None if automaton is None else automaton.numbered(label)
        self._states: tuple[bytes, LabelStates] | None = None

    def begun(
        self, codes: Tensor, lengths: Tensor, barred: Tensor, observed: bool
    ) -> HistoryScores:
        """Return zero-initialised scores to be learned.

        Args:
            codes: ``(B, T)`` labels, -1 where not observed.
            lengths: ``(B,)`` lengths of the sequences.
            barred: ``(K, K)`` whether a transition is forbidden.
            observed: Whether runs of labels that do not occur have a score of zero.

        Raises:
            DataError: If the mask forbids an observed label.
        """
        self._check(codes, lengths, barred)
        begun = HistoryScores(self.label, self.order, self.automaton).to(barred.device)
        for n, table in enumerate(begun.tables if observed else ()):
            occurring = runs_of(codes, table.dim(), self.label.num_states)
            begun.register_buffer(f"unlearned_{n}", ~occurring.to(table.device))
        return begun

    def _check(self, codes: Tensor, lengths: Tensor, barred: Tensor) -> None:
        lost = self.states(barred).lost_at(codes, lengths)
        if lost is None:
            return
        row, step = lost
        if step == int(lengths[row]):
            raise DataError(f"the labels of row {row} end after {step} steps, where the mask "
                            "allows no end")  # fmt: skip
        code = int(codes[row, step])
        what = "any label" if code < 0 else f"label {self.label.decode([code])[0]!r}"
        where = "must not be the first" if step == 0 else "must not follow the previous labels"
        raise DataError(f"{what} at step {step} of row {row} {where}: the mask forbids it")

    def states(self, barred: Tensor) -> LabelStates:
        """Return the states of the chain, cached until the mask changes.

        Args:
            barred: ``(K, K)`` whether a transition is forbidden.
        """
        from pgnn.inference.chains.label_states import LabelMoves, LabelStates

        mask = barred.numpy(force=True)
        if self._states is None or self._states[0] != mask.tobytes():
            numbered = None if self._numbered is None else LabelMoves(*self._numbered)
            self._states = mask.tobytes(), LabelStates(~mask, self.order, numbered)
        return self._states[1]

    def all_tables(self, pairs: Tensor) -> list[Tensor]:
        """Return the ``(K, K)`` scores of pairs and the scores of longer runs."""
        unlearned = (self.get_buffer(f"unlearned_{n}") for n in range(len(self.tables)))
        longer = zip(self.tables, unlearned, strict=True)
        return [pairs, *(table.to(pairs).masked_fill(none, 0.0) for table, none in longer)]

    def chain(
        self, begins: Tensor, pairs: Tensor, barred: Tensor, field: Tensor, lengths: Tensor
    ) -> LabelledChain:
        """Return the chain of a batch of rows.

        Args:
            begins: ``(K,)`` scores of the first label.
            pairs: ``(K, K)`` scores of pairs.
            barred: ``(K, K)`` whether a transition is forbidden.
            field: ``(B, T, K)`` scores of steps.
            lengths: ``(B,)`` lengths of the sequences.
        """
        from pgnn.inference.chains.labelled_chain import LabelledChain

        states = self.states(barred)
        return LabelledChain(states, begins, states.moves(self.all_tables(pairs)), field, lengths)

    def likelihood(
        self, lengths: Tensor, codes: Tensor, barred: Tensor
    ) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """Return a function of ``(B,)`` log probabilities; None if the mask forbids the labels.

        Args:
            lengths: ``(B,)`` lengths of the sequences.
            codes: ``(B, T)`` labels.
            barred: ``(K, K)`` whether a transition is forbidden.
        """
        from pgnn.inference.chains.labelled_chain import LabelledLikelihood

        states = self.states(barred)
        if states.lost_at(codes, lengths) is not None:
            return None
        likelihood = LabelledLikelihood(states, lengths, codes)

        def log_probs(steps: Tensor, begins: Tensor, pairs: Tensor) -> Tensor:
            return likelihood(steps, begins, self.all_tables(pairs))

        return log_probs

    def __repr__(self) -> str:
        kept = "" if self.automaton is None else f", {self.automaton!r}"
        return f"HistoryScores(order {self.order}{kept})"


def histories_of(label: Variable, order: int, mask: Any) -> HistoryScores | None:
    """Return scores of more than two labels; None if the field only has scores of pairs."""
    automaton = mask if isinstance(mask, LabelAutomaton) else None
    if order == 1 and automaton is None:
        return None
    return HistoryScores(label, order, automaton)
