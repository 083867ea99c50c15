"""The base class of models over time: filter, smooth, predict, decode."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import torch
from torch import Tensor

from pgnn.abilities import Inputs, UnrollableModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.evidence.wrappers import with_lengths
from pgnn.factors.factor import Factor
from pgnn.models.model import Model

if TYPE_CHECKING:
    from pgnn.inference.assignment import Assignment, KBest
    from pgnn.inference.base_question import Names
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner
    from pgnn.inference.posterior import Posterior
    from pgnn.inference.time.sequence_engine import SequenceEngine


class SequenceModel(Model, UnrollableModel):
    """A model over time: its variables are arrays over the axis ``"T"`` of any length.

    A subclass defines its network for a number of steps (:meth:`unroll`) and its hidden states
    (:attr:`hidden`); then filter, smooth, predict and decode work. For a
    :class:`~pgnn.abilities.ChainModel` the chain answers queries.
    """

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Not supported: without a length there are no tables (see :meth:`unroll`).

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            f"a {type(self).__name__} has no tables before its length is known", "use unroll(steps)"
        )

    def covariates(
        self, inputs: Inputs | None, observed: SequenceEvidence
    ) -> dict[Hashable, Tensor]:
        """Return covariates as ``(B, T, ...)``; for a single sequence the first axis is optional.

        Raises:
            EvidenceError: If there is not a value for each step.
        """
        covariates = {}
        for name, value in (inputs or {}).items():
            x = torch.as_tensor(value)
            if not observed.batched and x.shape[:2] != (1, observed.steps):
                x = x[None]
            if x.shape[:2] != (observed.num_rows, observed.steps):
                raise EvidenceError(
                    f"input {name!r} must be ({observed.num_rows}, {observed.steps}, ...), a value "
                    f"for each step, got {tuple(x.shape)}"
                )
            covariates[name] = x
        return covariates

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
        """See :meth:`Model.query`; ``targets`` and ``lengths`` as in :meth:`smooth`."""
        observed = with_lengths(evidence, lengths)
        return super().query(targets, observed, inputs=inputs, engine=engine, errors=errors)

    def log_prob(
        self,
        data: Any,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        lengths: Any = None,
    ) -> Tensor:
        """See :meth:`Model.log_prob`; ``lengths`` as in :meth:`smooth`."""
        return super().log_prob(with_lengths(data, lengths), inputs=inputs, engine=engine)

    def fit(
        self,
        data: Any,
        *,
        learner: Learner | None = None,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
        lengths: Any = None,
    ) -> Self:
        """See :meth:`Model.fit`; ``lengths`` as in :meth:`smooth`."""
        observed = with_lengths(data, lengths)
        rest: dict[str, Any] = {"inputs": inputs, "seed": seed, "progress": progress}
        return super().fit(observed, learner=learner, weights=weights, **rest)

    def partial_fit(
        self,
        data: Any,
        *,
        learner: Learner | None = None,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        lengths: Any = None,
    ) -> Self:
        """See :meth:`Model.partial_fit`; ``lengths`` as in :meth:`smooth`."""
        rest: dict[str, Any] = {"inputs": inputs, "seed": seed}
        observed = with_lengths(data, lengths)
        return super().partial_fit(observed, learner=learner, weights=weights, **rest)

    # --- methods for sequences ----------------------------------------------------------------

    def filter(
        self,
        evidence: Any = None,
        targets: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        errors: str = "raise",
        lengths: Any = None,
    ) -> Posterior:
        r"""Return the filtered marginals :math:`p(z_t \mid x_{1:t})` of every step.

        Args:
            evidence: See :class:`~pgnn.evidence.sequence_evidence.SequenceEvidence`.
            targets: The hidden variables if not given; also variables at single steps, such as
                ``("rain", 3)``, which count from zero.
            inputs: Covariates by name, ``(B, T, ...)``.
            engine: The inference engine; exact if not given.
            errors: ``"raise"`` or ``"nan"``, see :meth:`Model.query`.
            lengths: ``(B,)`` lengths of sequences that are concatenated in one array.
        """
        evidence, queried = self._evidence_and_targets(with_lengths(evidence, lengths), targets)
        chosen = self._engine(engine, inputs)
        return chosen.filter(self, queried, evidence, inputs=inputs, errors=errors)

    def smooth(
        self,
        evidence: Any = None,
        targets: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        errors: str = "raise",
        lengths: Any = None,
    ) -> Posterior:
        r"""Return the smoothed marginals :math:`p(z_t \mid x_{1:T})` of every step.

        Args:
            evidence: See :class:`~pgnn.evidence.sequence_evidence.SequenceEvidence`.
            targets: The hidden variables if not given; also variables at single steps, such as
                ``("rain", 3)``, which count from zero.
            inputs: Covariates by name, ``(B, T, ...)``.
            engine: The inference engine; exact if not given.
            errors: ``"raise"`` or ``"nan"``, see :meth:`Model.query`.
            lengths: ``(B,)`` lengths of sequences that are concatenated in one array.
        """
        evidence, queried = self._evidence_and_targets(with_lengths(evidence, lengths), targets)
        return self.query(queried, evidence, inputs=inputs, engine=engine, errors=errors)

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
        """Return the marginals at the next steps.

        Args:
            evidence: The observations so far.
            steps: Number of steps.
            targets: All discrete variables if not given.
            inputs: Covariates, ``(B, T + steps, ...)``.
            engine: The inference engine; exact if not given.
            lengths: ``(B,)`` lengths of sequences that are concatenated in one array.

        Returns:
            Marginals with ``steps`` in place of ``T``.
        """
        evidence = with_lengths(evidence, lengths)
        return self._engine(engine, inputs).predict(self, targets, evidence, steps, inputs=inputs)

    @overload
    def decode(
        self,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        k: Literal[1] = 1,
        errors: str = "raise",
        lengths: Any = None,
    ) -> Assignment: ...

    @overload
    def decode(
        self,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        k: int,
        errors: str = "raise",
        lengths: Any = None,
    ) -> Assignment | KBest: ...

    def decode(
        self,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        k: int = 1,
        errors: str = "raise",
        lengths: Any = None,
    ) -> Assignment | KBest:
        r"""Return the most probable paths :math:`\arg\max_z p(z, x_{1:T})` of the hidden states.

        Args:
            evidence: See :class:`~pgnn.evidence.sequence_evidence.SequenceEvidence`.
            inputs: Covariates by name, ``(B, T, ...)``.
            engine: The inference engine; exact if not given.
            k: Number of best paths.
            errors: ``"raise"`` or ``"nan"``, see :meth:`Model.query`.
            lengths: ``(B,)`` lengths of sequences that are concatenated in one array.

        Returns:
            States by name: labels for one sequence, indices ``(B, T)`` for a batch; ``frame()`` has
            labels in both cases.
        """
        evidence, queried = self._evidence_and_targets(with_lengths(evidence, lengths), None)
        return self.most_probable(
            evidence, queried, inputs=inputs, engine=engine, k=k, errors=errors
        )

    @property
    @abstractmethod
    def hidden(self) -> list[Hashable]:
        """Names of the hidden states."""

    @property
    def passes_gradients(self) -> bool:
        """See :class:`~pgnn.abilities.VariableModel`: if some parameter requires a gradient."""
        return not self.detached and any(p.requires_grad for p in self.parameters())

    def _evidence_and_targets(self, evidence: Any, targets: Any) -> tuple[Any, Any]:
        """Return the evidence, and the targets: by default the unobserved states."""
        hidden = self.hidden if targets is None else targets
        if targets is not None or all(self.variables[n].is_discrete for n in hidden):
            return evidence, hidden
        observed = SequenceEvidence.of(self, evidence)
        known = {n for n in self.variables if observed.fully_observes(n)}
        return observed, [n for n in hidden if self.variables[n].is_discrete or n not in known]

    def _engine(self, engine: Engine | None, inputs: Inputs | None = None) -> SequenceEngine:
        """Return the sequence engine; any other engine works on the unrolled network."""
        from pgnn.inference.time.engine_over_time import engine_over_time

        self.check_inputs(inputs)
        self._warn_unset()
        self._check_numbers()
        return engine_over_time(self, None if engine is None else super()._engine(engine))
