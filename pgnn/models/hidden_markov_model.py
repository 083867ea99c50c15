"""Hidden Markov models."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import EmittingModel, Inputs
from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.piece import Settings
from pgnn.factors.time_steps import lagged, lagged_name
from pgnn.factors.variable import Variable
from pgnn.models.repeated_slice import RepeatedSlice

if TYPE_CHECKING:
    from pgnn.evidence.sequences import Sequences
    from pgnn.inference.chains.chain import Chain
    from pgnn.inference.chains.segment_chain import SegmentChain
    from pgnn.inference.engine import Learner


class HiddenMarkovModel(RepeatedSlice, EmittingModel):
    r"""A chain of hidden states, each of which emits what is observed at its step.

    .. math:: p(x, z) = p(z_1) \prod_{t=2}^T p(z_t \mid z_{t-1})
        \prod_{t=1}^T \prod_i p(x_{t,i} \mid z_t)

    Args:
        states: Number or labels of the hidden states.
        emissions: For each observed variable a conditional of one step given the state; a table
            ``(K, S)``; a number or labels of symbols (a learnable table); or a callable
            ``(child, parents) -> Conditional`` such as the class :class:`Gaussian`.
        initial: ``(K,)`` probabilities of the first state, a conditional or callable; learnable
            if not given.
        transitions: ``(K, K)`` probabilities from row to column, a conditional of the state given
            the one before, named ``(name, -1)``, or a callable; learnable if not given.
        mask: ``(K, K)`` which transitions there are, of a learnable table: an upper triangle makes
            a model that goes from left to right.
        shapes: Event shapes of real variables whose emission is a callable.
        name: Of the state.

    Tables that are given are constants in :meth:`fit`; ``model.requires_grad_()`` makes them where
    learning begins. An emission may depend on covariates (``inputs``), and on its own value at the
    step before, the parent ``(name, -1)``: then the first value is what the rest is given.

    Raises:
        ModelError: If a table does not fit or a parent is unknown.

    References:
        Rabiner (1989), A tutorial on hidden Markov models and selected applications in speech
        recognition.

    Example:
        >>> casino = HiddenMarkovModel(
        ...     ["fair", "loaded"],
        ...     {"roll": [[1 / 6] * 6, [0.1, 0.1, 0.1, 0.1, 0.1, 0.5]]},
        ...     initial=[0.5, 0.5],
        ...     transitions=[[0.95, 0.05], [0.1, 0.9]],
        ... )
        >>> rolls = [0, 2, 5, 5, 5, 5]
        >>> casino.smooth({"roll": rolls})["state"].probs[:, 1]
        tensor([0.7282, 0.7815, 0.9013, 0.9396, 0.9435, 0.9175], dtype=torch.float64)
        >>> casino.decode({"roll": rolls})["state"].tolist()
        ['loaded', 'loaded', 'loaded', 'loaded', 'loaded', 'loaded']
    """

    def __init__(
        self,
        states: int | Iterable[Hashable],
        emissions: Mapping[Hashable, Any],
        initial: Any = None,
        transitions: Any = None,
        *,
        mask: Any = None,
        shapes: Mapping[Hashable, tuple[int, ...]] | None = None,
        name: Hashable = "state",
    ) -> None:
        state = Variable(name, states)
        moves = _masked(state, transitions, mask)
        chain = _conditional(state, [lagged(state)], moves, f"transitions of {name!r}")
        first = _conditional(state, [], initial, f"initial probabilities of {name!r}")
        conditionals: dict[Hashable, Conditional] = {name: chain}
        for child, declared in emissions.items():
            if child == name:
                raise ModelError(f"{name!r} is the state: name the emission otherwise")
            conditionals[child] = _emission(child, state, declared, (shapes or {}).get(child, ()))
        super().__init__(conditionals, {name: first})
        self._name = name
        for child in emissions:
            extra = {v.name for v in conditionals[child].parents} - {name, lagged_name(child)}
            if extra:
                raise ModelError(
                    f"the emission {child!r} may depend on the state and its own past, not on "
                    f"{min(map(str, extra))}; use DynamicBayesianNetwork"
                )
        if {v.name for v in chain.parents} - {lagged_name(name)} or first.parents:
            raise ModelError("the state may depend on the state before, and on inputs, alone")

    def settings(self) -> Settings:
        """Return the states and the conditionals."""
        return {
            "states": self.state.states,
            "emissions": self.emissions,
            "initial": self._initial[self._name],
            "transitions": self.transitions,
            "name": self._name,
        }

    @property
    def state(self) -> Variable:
        """The hidden state, an array over time."""
        return self._variables[self._name]

    @property
    def emissions(self) -> dict[Hashable, Conditional]:
        """What is observed at each step given the state, by name."""
        return {n: c for n, c in self._conditionals.items() if n != self._name}

    @property
    def transitions(self) -> Conditional:
        """The state given the one before."""
        return self._conditionals[self._name]

    @property
    def hidden(self) -> list[Hashable]:
        """The state's name."""
        return [self._name]

    def chain(
        self, seen: Sequences, inputs: Inputs | None = None, *, best: bool = False
    ) -> Chain | SegmentChain:
        """Return the chain given what was observed (tensors in, tensors out).

        Args:
            seen: Evidence.
            inputs: Covariates by name, ``(B, T, ...)``.
            best: Emissions that were not seen take their best states, instead of being summed out.
        """
        from pgnn.inference.time.emission_chain import emission_chain

        return emission_chain(self, seen, inputs, best=best)

    def default_learner(self, data: Any) -> Learner:
        """Return ``EM()``: the states are hidden."""
        from pgnn.inference.learning.em import EM

        return EM()

    def __repr__(self) -> str:
        seen = ", ".join(repr(n) for n in self.emissions)
        return f"HiddenMarkovModel({self.state.num_states} states, emits {seen})"


def _emission(
    name: Hashable, state: Variable, declared: Any, shape: tuple[int, ...]
) -> Conditional:
    """The conditional of one observed variable."""
    if isinstance(declared, Conditional):
        if declared.child.name != name:
            raise ModelError(f"the emission of {name!r} is one for {declared.child.name!r}")
        return declared
    if callable(declared):
        return _conditional(Variable(name, None, shape), [state], declared, f"emission of {name!r}")
    if isinstance(declared, int) or _are_labels(declared):
        return Tabular(Variable(name, declared), [state])
    table = (
        declared.detach().numpy(force=True)
        if isinstance(declared, Tensor)
        else np.asarray(declared)
    )
    if table.ndim != 2 or table.dtype.kind not in "fiu":
        raise ModelError(
            f"the emission of {name!r} must be a conditional, a callable that makes one, a table "
            f"({state.num_states}, S), or the symbols; got {declared!r}"
        )
    return Tabular(Variable(name, table.shape[1]), [state], declared)


def _are_labels(declared: Any) -> bool:
    if isinstance(declared, np.ndarray | Tensor):
        return False
    return isinstance(declared, Iterable) and all(isinstance(s, str) for s in declared)


def _conditional(
    child: Variable,
    parents: list[Variable],
    declared: Conditional | Callable[..., Conditional] | Any,
    what: str,
) -> Conditional:
    if isinstance(declared, Conditional):
        if declared.child != child:
            raise ModelError(
                f"the {what} must be a conditional of {child}, got one of {declared.child}"
            )
        return declared
    if callable(declared):
        conditional = declared(child, parents)
        if not isinstance(conditional, Conditional) or conditional.child != child:
            raise ModelError(
                f"the {what}: the callable must return a Conditional of {child.name!r}"
            )
        return conditional
    return Tabular(child, parents, declared)


def _masked(state: Variable, transitions: Any, mask: Any) -> Any:
    """Transitions, or a learnable table with structural zeros."""
    if mask is None:
        return transitions
    if transitions is not None:
        raise ModelError("mask is of a learnable table: a given one says itself what is zero")
    allowed = torch.as_tensor(mask)
    k = state.num_states
    if allowed.shape != (k, k) or not bool((allowed != 0).any(dim=1).all()):
        raise ModelError(f"mask must be ({k}, {k}) with a transition out of every state")
    share = (allowed != 0).double()
    table = Tabular(state, [lagged(state)], share / share.sum(dim=1, keepdim=True))
    table.logits.requires_grad_()
    return table
