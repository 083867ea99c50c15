"""What models over time share: a slice that repeats, and verbs named as the field names them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import networkx as nx
import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs, SlicedModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.renamed import Renamed
from pgnn.factors.factor import Factor
from pgnn.factors.given import Given
from pgnn.factors.variable import Variable
from pgnn.models.base import Model
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.two_slices import check_first_slice, is_lagged, two_slices, unrolled

if TYPE_CHECKING:
    from pgnn.evidence.sequences import Sequences
    from pgnn.inference.assignment import Assignment, KBest
    from pgnn.inference.engine import Engine, Learner
    from pgnn.inference.posterior import Posterior
    from pgnn.inference.time.sequence_engine import SequenceEngine
    from pgnn.programs.sequence_program import SequenceProgram

AXIS = "T"
"""Name of the axis of time."""


class SequenceModel(Model, SlicedModel):
    r"""A directed slice that repeats along time.

    .. math:: p(x_{1:T}) = \prod_i p_1(x_{1,i} \mid \mathrm{pa})
        \prod_{t=2}^T \prod_i p(x_{t,i} \mid \mathrm{pa}(x_{t,i}))

    where a parent stands in the same slice or, named ``(name, -1)``, in the one before. The
    variables of the model are arrays over the axis ``"T"``, whose length the data tells.

    Args:
        conditionals: Of each variable of a slice; the children are variables of one step.
        initial: Of the first slice, for variables with parents in the slice before.

    Raises:
        ModelError: If the slice has a cycle, or a parent is no variable of it.
    """

    graph: nx.DiGraph

    def __init__(
        self,
        conditionals: Mapping[Hashable, Conditional],
        initial: Mapping[Hashable, Conditional],
    ) -> None:
        super().__init__()
        self.graph = two_slices(conditionals)
        check_first_slice(initial, conditionals)
        self._conditionals = dict(conditionals)
        self._initial = dict(initial)
        self._modules_in_order = nn.ModuleList([*conditionals.values(), *initial.values()])
        self._variables = {
            n: Variable(n, c.child.states, (AXIS, *c.child.shape)) for n, c in conditionals.items()
        }

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The variables by name, arrays over time."""
        return MappingProxyType(self._variables)

    @property
    def conditionals(self) -> Mapping[Hashable, Conditional]:
        """The conditional of each variable, given its own slice and the one before."""
        return MappingProxyType(self._conditionals)

    @property
    def initial(self) -> Mapping[Hashable, Conditional]:
        """Conditionals of the first slice, where they differ."""
        return MappingProxyType(self._initial)

    @property
    def num_free_parameters(self) -> int:
        """How many numbers may be chosen freely; those that are shared count once."""
        owners = {}
        for part in (*self._conditionals.values(), *self._initial.values()):
            while isinstance(part, Renamed):
                part = part.conditional
            owners[id(part)] = part.num_free_parameters
        return sum(owners.values())

    @property
    def interface(self) -> list[Hashable]:
        """The discrete variables on which the next slice depends."""
        late = {v.name for c in self._conditionals.values() for v in c.parents}
        return [n for n, c in self._conditionals.items() if (n, -1) in late and c.child.is_discrete]

    @cached_property
    def order(self) -> tuple[Hashable, ...]:
        """The variables of a slice, parents before children."""
        every = nx.topological_sort(self.graph)
        return tuple(n for n in every if n in self._conditionals)

    def unroll(self, steps: int) -> BayesianNetwork:
        """Return the ordinary network of so many steps, with a node ``(name, t)`` for each cell.

        It shares the parameters. Inputs are named ``(name, t)`` too. A variable that depends on
        the slice before, and has no conditional for the first one, must be observed there.
        """
        first = {n: self.first(n) for n in self._conditionals}
        return BayesianNetwork(*unrolled(self._conditionals, first, steps))

    def first(self, name: Hashable) -> Conditional:
        """Return the conditional of a variable at the first step."""
        conditional = self._conditionals[name]
        if name not in self._initial and is_lagged(conditional):
            return Given(conditional.child)
        return self._initial.get(name, conditional)

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Refused: without a length there are no tables (see :meth:`unroll`).

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            f"a {type(self).__name__} has no tables before its length is known; use unroll(steps)"
        )

    def program(
        self, inputs: Inputs | None = None, *, lengths: int | Iterable[int] | None = None
    ) -> SequenceProgram:
        """Return the Pyro program of given ``lengths``; see :class:`SequenceProgram`."""
        from pgnn.programs.sequence_program import sequence_program

        return sequence_program(self, lengths, inputs)

    def covariates(self, inputs: Inputs | None, seen: Sequences) -> dict[Hashable, Tensor]:
        """Return covariates as ``(B, T, ...)``; a lone sequence's may come without the first axis.

        Raises:
            EvidenceError: If there is not a value for each step.
        """
        found = {}
        for name, value in (inputs or {}).items():
            x = torch.as_tensor(value)
            if not seen.batched and x.shape[:2] != (1, seen.steps):
                x = x[None]
            if x.shape[:2] != (seen.num_rows, seen.steps):
                raise EvidenceError(
                    f"the input {name!r} must be ({seen.num_rows}, {seen.steps}, ...), a value "
                    f"for each step, got {tuple(x.shape)}"
                )
            found[name] = x
        return found

    # --- the field's own names ----------------------------------------------------------------

    def filter(
        self,
        evidence: Any = None,
        targets: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        errors: str = "raise",
    ) -> Posterior:
        r"""Return :math:`p(z_t \mid x_{1:t})` of every step: what was known then.

        Args:
            evidence: See :class:`~pgnn.evidence.sequences.Sequences`.
            targets: The hidden variables if not given.
            inputs: Covariates by name, ``(B, T, ...)``.
            engine: How to compute; exactly if not given.
            errors: ``"raise"`` or ``"nan"``, see :meth:`Model.query`.
        """
        asked = self.hidden if targets is None else targets
        own = self._engine(engine)
        return own.filter(self, asked, evidence, inputs=inputs, errors=errors)

    def smooth(
        self,
        evidence: Any = None,
        targets: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        errors: str = "raise",
    ) -> Posterior:
        r"""Return :math:`p(z_t \mid x_{1:T})` of every step: :meth:`query` about the hidden states.

        Args:
            evidence: See :class:`~pgnn.evidence.sequences.Sequences`.
            targets: The hidden variables if not given.
            inputs: Covariates by name, ``(B, T, ...)``.
            engine: How to compute; exactly if not given.
            errors: ``"raise"`` or ``"nan"``, see :meth:`Model.query`.
        """
        asked = self.hidden if targets is None else targets
        return self.query(asked, evidence, inputs=inputs, engine=engine, errors=errors)

    def predict(
        self,
        evidence: Any = None,
        steps: int = 1,
        targets: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
    ) -> Posterior:
        """Return the marginals of discrete variables at the next steps.

        Args:
            evidence: What was seen so far.
            steps: How many.
            targets: All discrete variables if not given.
            inputs: Covariates, ``(B, T + steps, ...)``.
            engine: How to compute; exactly if not given.

        Returns:
            Variables with ``steps`` in the place of ``T``.
        """
        return self._engine(engine).predict(self, targets, evidence, steps, inputs=inputs)

    def decode(
        self,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        k: int = 1,
        errors: str = "raise",
    ) -> Assignment | KBest:
        r"""Return the most probable paths :math:`\arg\max_z p(z, x_{1:T})` of the hidden states.

        Args:
            evidence: See :class:`~pgnn.evidence.sequences.Sequences`.
            inputs: Covariates by name, ``(B, T, ...)``.
            engine: How to compute; exactly if not given.
            k: How many of the best paths.
            errors: ``"raise"`` or ``"nan"``, see :meth:`Model.query`.
        """
        return self.most_probable(
            evidence, self.hidden, inputs=inputs, engine=engine, k=k, errors=errors
        )

    def fit(
        self,
        data: Any,
        *,
        learner: Learner | None = None,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> Self:
        """Fit to sequences, see :meth:`Model.fit`; :attr:`history` tells how it went.

        Args:
            data: See :class:`~pgnn.evidence.sequences.Sequences`.
            learner: If not given ``EM()``; of a dynamic Bayesian network of which everything was
                seen ``MaximumLikelihood()``, which counts.
            weights: ``(B,)`` what each sequence counts.
            inputs: Covariates by name, ``(B, T, ...)``.
            seed: Of whatever is random.
            progress: Show a progress bar.
        """
        from pgnn.inference.learning.complete_sequences import fit_slices
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        own = self._default_learner(data) if learner is None else learner
        if isinstance(own, MaximumLikelihood):
            fit_slices(self, own, data, weights=weights, inputs=inputs)
        else:
            rest: dict[str, Any] = {"inputs": inputs, "seed": seed, "progress": progress}
            super().fit(data, learner=own, weights=weights, **rest)
        return self

    @abstractmethod
    def _default_learner(self, data: Any) -> Learner:
        """What learns from sequences if no learner is named."""

    @property
    @abstractmethod
    def hidden(self) -> list[Hashable]:
        """Names of the variables that are states rather than observations."""

    def _engine(self, engine: Engine | None) -> SequenceEngine:
        """What knows about time; any other engine works on the unrolled network."""
        from pgnn.inference.time.engine_over_time import engine_over_time

        return engine_over_time(self, None if engine is None else super()._engine(engine))
