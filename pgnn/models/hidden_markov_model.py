"""Hidden Markov models."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Categorical

from pgnn.abilities import EmittingModel, Inputs
from pgnn.errors import ModelError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.evidence.wrappers import with_lengths
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.piece import Settings
from pgnn.factors.time_steps import lagged, lagged_name
from pgnn.factors.variable import Variable
from pgnn.models.chain_declaration import ChainDeclaration, masked
from pgnn.models.directed_declaration import by_name
from pgnn.models.model import Names
from pgnn.models.repeated_slice import RepeatedSlice

if TYPE_CHECKING:
    from pgnn.inference.chains.chain import Chain
    from pgnn.inference.chains.segment_chain import SegmentChain
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner
    from pgnn.inference.posterior import Posterior


class HiddenMarkovModel(RepeatedSlice, EmittingModel):
    r"""Hidden Markov model: a chain of hidden states with observations at each step.

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
            the previous one, named ``(name, -1)``, or a callable; learnable if not given.
        mask: ``(K, K)`` allowed transitions of a learnable table: an upper triangle gives a
            left-to-right model.
        shapes: Event shapes of real variables whose emission is a callable; :meth:`fit` takes
            undeclared shapes from the data.
        name: Name of the state.
        normalise: Whether rows of the tables are weights (rounded numbers, percentages, counts),
            each to be divided by its sum.

    Given tables are constants in :meth:`fit`; ``model.requires_grad_()`` makes them learnable
    initial values. An emission may depend on covariates (``inputs``), and on its own previous
    value, the parent ``(name, -1)``: the model then conditions on the first value.

    Sequences are continued by evidence with unobserved steps at its end,
    ``sample(n, {"x": [0.3, 0.1, None, None]})``, and sampled from a given state by
    ``sample(n, {"T": 5, ("state", 0): "loaded"})``.

    Raises:
        ModelError: If a table has a wrong shape or a parent is unknown.

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
        normalise: bool = False,
    ) -> None:
        state = Variable(name, states)
        moves = masked(state, transitions, mask)
        declared = ChainDeclaration(normalise)
        chain = declared.conditional(state, [lagged(state)], moves, f"transitions of {name!r}")
        first = declared.conditional(state, [], initial, f"initial probabilities of {name!r}")
        conditionals: dict[Hashable, Conditional] = {name: chain}
        if not isinstance(emissions, Mapping):
            raise ModelError(
                "emissions must be a mapping from observed variables to their emissions, such as "
                f"{{'x': pgnn.Gaussian}}, got {emissions!r}"
            )
        shapes = by_name(shapes, "shapes")
        for child, emission in emissions.items():
            if child == name:
                raise ModelError(f"{name!r} is the state", "name the emission otherwise")
            conditionals[child] = declared.emission(child, state, emission, shapes.get(child, ()))
        super().__init__(conditionals, {name: first})
        self._name = name
        self._shapeless = {
            n: emission
            for n, emission in emissions.items()
            if callable(emission)
            and not isinstance(emission, Conditional)
            and n not in shapes
            and any(p.requires_grad for p in conditionals[n].parameters())
        }
        for child in emissions:
            extra = {v.name for v in conditionals[child].parents} - {name, lagged_name(child)}
            if extra:
                raise ModelError(
                    f"the emission {child!r} may depend on the state and its own previous value, "
                    f"not on {min(map(str, extra))}",
                    "use DynamicBayesianNetwork",
                )
        if {v.name for v in chain.parents} - {lagged_name(name)} or first.parents:
            raise ModelError("the state may only depend on the previous state and on inputs")

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
        """The conditionals of the observations given the state, by name."""
        return {n: c for n, c in self._conditionals.items() if n != self._name}

    @property
    def transitions(self) -> Conditional:
        """The conditional of the state given the previous one."""
        return self._conditionals[self._name]

    def stationary(self) -> Categorical:
        r"""Return the stationary distribution :math:`\pi = \pi A`.

        For reducible or periodic chains it is the long-run fraction of time in each state, started
        from the initial probabilities.

        Raises:
            Unsupported: If transitions depend on inputs.

        Cost:
            Cubic in the number of states.

        References:
            Kemeny and Snell (1976), Finite Markov Chains, chapters 4 and 5.

        Example:
            >>> weather = HiddenMarkovModel(2, {"x": 2}, [0.5, 0.5], [[0.9, 0.1], [0.3, 0.7]])
            >>> weather.stationary().probs
            tensor([0.7500, 0.2500], dtype=torch.float64)
        """
        moves, first = self.transitions, self._initial[self._name]
        if moves.inputs or first.inputs:
            raise Unsupported(
                f"inputs affect the transitions of {self._name!r}: there is no stationary "
                "distribution"
            )
        with torch.no_grad():
            transition = moves.factor().log_values.double().exp()
            begin = first.factor().log_values.double().exp()
        if len(moves.parents) < 1:  # states that follow from nothing
            return Categorical(probs=transition)
        return Categorical(probs=long_run(begin, transition))

    @property
    def hidden(self) -> list[Hashable]:
        """The state's name."""
        return [self._name]

    def chain(
        self, observed: SequenceEvidence, inputs: Inputs | None = None, *, best: bool = False
    ) -> Chain | SegmentChain:
        """Return the chain given the observations (tensors in, tensors out).

        Args:
            observed: Evidence.
            inputs: Covariates by name, ``(B, T, ...)``.
            best: Whether unobserved emissions are maximised over instead of summed out.
        """
        from pgnn.inference.time.emission_chain import emission_chain

        return emission_chain(self, observed, inputs, best=best)

    def query(
        self,
        targets: Names | None = None,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        errors: str = "raise",
        lengths: Any = None,
    ) -> Posterior:
        """Return posterior marginals; for real emissions means and variances.

        See :meth:`Model.query`. For an unobserved real emission, ``posterior["x"].mean`` and
        ``.std`` are those of its mixture over the states.
        """
        from pgnn.inference.time import emitted_reals

        evidence = with_lengths(evidence, lengths)
        rest: dict[str, Any] = {"inputs": inputs, "engine": engine, "errors": errors}
        if targets is None or not emitted_reals.real_names(self, targets):
            return super().query(targets, evidence, **rest)
        observed, ask = SequenceEvidence.of(self, evidence), super().query
        return emitted_reals.with_emitted(
            self, targets, lambda n: ask(n, observed, **rest), observed, inputs
        )

    def predict(
        self,
        evidence: Any = None,
        steps: int = 1,
        targets: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        lengths: Any = None,
    ) -> Posterior:
        """Return marginals at the next steps; for real emissions means and variances.

        See :meth:`SequenceModel.predict`.
        """
        from pgnn.inference.time import emitted_reals

        evidence = with_lengths(evidence, lengths)
        if targets is None and engine is None:
            targets = [*self.variables]
        rest: dict[str, Any] = {"inputs": inputs, "engine": engine}
        if targets is None or not emitted_reals.real_names(self, targets):
            return super().predict(evidence, steps, targets, **rest)
        observed, ahead = SequenceEvidence.of(self, evidence), super().predict
        return emitted_reals.with_emitted(
            self, targets, lambda n: ahead(observed, steps, n, **rest), observed, inputs, steps
        )

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`LearningVerbs`; shapes are taken from the data.

        Raises:
            EvidenceError: If the data is ambiguous.
        """
        undeclared, before = self._shapeless, dict(self._conditionals)
        shapes = SequenceEvidence.event_shapes(undeclared, data) if undeclared else {}
        try:
            for name, shape in shapes.items():
                if shape != before[name].child.shape:
                    child, declared = Variable(name, None, shape), undeclared[name]
                    what, state = f"emission of {name!r}", self.transitions.child
                    self._replace(ChainDeclaration().conditional(child, [state], declared, what))
            self._shapeless = {n: x for n, x in undeclared.items() if n not in shapes}
            yield data, inputs
        except BaseException:
            self._shapeless = undeclared
            for name in shapes:
                if self._conditionals[name] is not before[name]:
                    self._replace(before[name])
            raise

    def __getstate__(self) -> dict[str, Any]:
        classes = {n: x for n, x in self._shapeless.items() if isinstance(x, type)}
        return {**super().__getstate__(), "_shapeless": classes}

    def default_learner(self, data: Any) -> Learner:
        """Return ``EM()``."""
        from pgnn.inference.learning.em import EM

        return EM()

    def __repr__(self) -> str:
        observed = ", ".join(repr(n) for n in self.emissions)
        return f"HiddenMarkovModel({self.state.num_states} states, emits {observed})"


def long_run(initial: Tensor, transition: Tensor) -> Tensor:
    r"""Return the long-run fraction of time that a chain spends in each state, :math:`(K,)`.

    The limit of the averages :math:`\frac{1}{n} \sum_{t<n} \pi_0 A^t`, by repeated squaring: the
    average over ``2n`` steps follows from that over ``n`` steps and the ``n``-step transition
    matrix.

    Args:
        initial: ``(K,)`` probabilities of the first state.
        transition: ``(K, K)`` probabilities from row to column.
    """
    average, power = torch.eye(len(initial), dtype=transition.dtype), transition
    for _ in range(_DOUBLINGS):
        average = (average + average @ power) / 2
        power = power @ power
        power = power / power.sum(dim=1, keepdim=True)
    share = initial @ average
    return share / share.sum()


_DOUBLINGS = 60
"""Number of doublings: a long run has more than :math:`10^{18}` steps."""
