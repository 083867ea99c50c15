"""Automata that define the allowed sequences of labels."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import ModelError, closest
from pgnn.factors.piece import Restorable, Settings
from pgnn.factors.variable import Variable


class LabelAutomaton(Restorable):
    """A deterministic automaton that accepts the allowed sequences of labels.

    Each label leads from a state to exactly one state; labels that a state does not list are
    forbidden in it. Pass it as the ``mask`` of a
    :class:`~pgnn.models.conditional_random_field.ConditionalRandomField` if a table of pairs cannot
    express the constraint, such as a first label, a last label or a maximum count. The empty
    sequence is always allowed.

    Args:
        moves: For each state, a mapping from each allowed label to the next state.
        start: Initial state.
        ends: Accepting states; all states by default.

    Raises:
        ModelError: If a state is not a key of ``moves``, or no state is accepting.

    References:
        Roark, Saraclar and Collins (2007), Discriminative n-gram language modeling, section 2 (a
        chain of labels composed with an automaton); Hopcroft and Ullman (1979), Introduction to
        automata theory, languages, and computation, section 2.2.

    Example:
        >>> from pgnn.models import ConditionalRandomField
        >>> at_most_one = LabelAutomaton(
        ...     {"none": {"O": "none", "X": "one"}, "one": {"O": "one"}}, start="none"
        ... )
        >>> field = ConditionalRandomField(["O", "X"], mask=at_most_one)
        >>> inputs = {"attributes": [[["a"], ["b"], ["a"]]]}
        >>> _ = field.fit([["O", "X", "O"]], inputs=inputs, progress=False)
        >>> field.decode(inputs={"attributes": [["b"], ["a"], ["b"]]})["label"].tolist().count("X")
        1
    """

    def __init__(
        self,
        moves: Mapping[Hashable, Mapping[Hashable, Hashable]],
        start: Hashable,
        ends: Collection[Hashable] | None = None,
    ) -> None:
        if not isinstance(moves, Mapping) or not all(
            isinstance(m, Mapping) for m in moves.values()
        ):
            raise ModelError(
                "moves must map each state to a mapping of labels to states, such as {'out': "
                f"{{'B': 'in', 'O': 'out'}}, 'in': {{'I': 'in', 'O': 'out'}}}}, got {moves!r}"
            )
        self.moves = {state: dict(labels) for state, labels in moves.items()}
        self.start = start
        self.ends = tuple(moves) if ends is None else tuple(ends)
        targets = (target for labels in self.moves.values() for target in labels.values())
        for state in (start, *self.ends, *targets):
            if not isinstance(state, Hashable) or state not in self.moves:
                raise ModelError(
                    f"the automaton has no state {state!r} among its moves"
                    f"{closest(state, self.moves)}",
                    "a state without next labels has the moves {}",
                )
        if not self.ends:
            raise ModelError("ends must name a state in which sequences may end, got none")

    def settings(self) -> Settings:
        """Return the states and the moves."""
        return {"moves": self.moves, "start": self.start, "ends": self.ends}

    def numbered(self, label: Variable) -> tuple[NDArray[np.int64], int, NDArray[np.bool_]]:
        """Return the automaton as arrays.

        Args:
            label: The variable of the labels.

        Returns:
            ``(Q, K)`` next state for each label, -1 where forbidden; the initial state; and
            ``(Q,)`` whether each state is accepting.

        Raises:
            ModelError: If the automaton has a label that the variable does not have.
        """
        number = {state: q for q, state in enumerate(self.moves)}
        labels = label.states if label.states is not None else range(label.num_states)
        code = {name: k for k, name in enumerate(labels)}
        after = np.full((len(number), len(code)), -1, dtype=np.int64)
        for state, moves in self.moves.items():
            for name, target in moves.items():
                if name not in code:
                    raise ModelError(
                        f"the automaton's state {state!r} has a label {name!r}, which is not a "
                        f"label of {label.name!r}{closest(name, code)}"
                    )
                after[number[state], code[name]] = number[target]
        may_end = np.isin(np.arange(len(number)), [number[state] for state in self.ends])
        return after, number[self.start], may_end

    def __repr__(self) -> str:
        return f"LabelAutomaton({len(self.moves)} states, start={self.start!r})"
