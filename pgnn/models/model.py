"""The base class of models: variables, two lowerings, and the methods of all models."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TextIO, overload

import networkx as nx
from torch import Tensor

from pgnn.abilities import DirectedModel, FactorModel, Inputs
from pgnn.errors import ModelError, Unsupported
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.groups.grouping import Grouping, grouped
from pgnn.factors.piece import Restorable, Settings
from pgnn.models.learning_verbs import LearningVerbs
from pgnn.models.partition_verbs import over_partitions

if TYPE_CHECKING:
    from pathlib import Path

    from pgnn.inference.assignment import Assignment, KBest
    from pgnn.inference.engine import Engine
    from pgnn.inference.exact.compiled_query import CompiledQuery
    from pgnn.inference.explanation import Explanation
    from pgnn.inference.posterior import Posterior
    from pgnn.inference.samples import Samples

Names = Hashable | Iterable[Hashable]


@cache
def _automatic() -> Engine:
    """Return the default engine, imported at its first use."""
    from pgnn.inference.automatic import AUTOMATIC

    return AUTOMATIC


class Model(LearningVerbs, FactorModel, Restorable):
    """A probabilistic model over named variables.

    A subclass defines its :attr:`variables` and its lowering to :meth:`factors`; then all other
    methods work. Evidence is about the model's variables; ``inputs`` are covariates, which are
    never modelled.

    Attributes:
        graph: The networkx graph of the model.
        history: Record of the last :meth:`fit`.
    """

    graph: nx.Graph

    def __init__(self) -> None:
        from pgnn.inference.history import History

        super().__init__()
        self.history = History()

    @abstractmethod
    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Lower the model to log tables over unobserved variables.

        Args:
            observed: ``(B,)`` state indices or ``(B, *event)`` reals of some variables.
            inputs: Covariates by name, ``(B, ...)``.

        Raises:
            Unsupported: If an unobserved variable is real.
        """

    @property
    def elements(self) -> Elements:
        """The elements of the discrete variables; each cell of an array is one."""
        elements: Elements = self.cached("elements", lambda: Elements(self.variables.values()))
        return elements

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """Lower the model to the tables of :meth:`factors`, grouped by shape into arrays.

        Models over arrays define these, and expand them to :meth:`factors`.
        """
        known: deque[Grouping] = self.cached("groupings", lambda: deque(maxlen=4))
        return grouped(self.factors(observed, inputs), self.elements, known)

    def settings(self) -> Settings:
        """Return the constructor's arguments, see :class:`~pgnn.factors.piece.Restorable`.

        Raises:
            Unsupported: If the class does not define them.
        """
        raise Unsupported(
            f"checkpoints need the settings() of a model, and a {type(self).__name__} has none",
            "save its state_dict() with torch",
        )

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters."""
        return sum(p.numel() for p in self.parameters())

    def num_free(self, parameter: Tensor) -> int:
        """Return the number of free entries of a parameter that belongs to no part."""
        return parameter.numel()

    @property
    def num_redundant(self) -> int:
        """Number of redundant parameters, besides those of conditionals and potentials."""
        return 0

    def _repr_html_(self) -> str:
        from pgnn.models.model_html import model_html

        return model_html(self)

    # --- queries --------------------------------------------------------------------------------

    @over_partitions
    def query(
        self,
        targets: Names | None = None,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        errors: str = "raise",
    ) -> Posterior:
        r"""Return the posterior marginals :math:`p(x \mid e)` of some or all variables.

        Args:
            targets: Name or names of targets. If not given all discrete variables, and the real
                ones that are missing in some row, if they have exact posteriors.
            evidence: Mapping of names to a state (label or index), ``(B,)`` states, or a
                likelihood ``(K,)`` or ``(B, K)``; or a DataFrame whose columns are variables.
                For an array of variables ``(*shape)`` or ``(B, *shape)``; an element is named as in
                ``("pixel", 3, 4)``. Rows may observe different variables: ``None``, ``NaN`` and
                ``-1`` mean "not observed". For a Dask frame the answer is a Dask frame, with a
                column ``"variable=state"`` for each probability; likewise for :meth:`most_probable`
                and :meth:`log_prob`.
            inputs: Covariates by name, ``(B, ...)``.
            engine: The inference engine; if not given exact if that is affordable, otherwise belief
                propagation. The answer has a ``kind`` and an ``engine``.
            errors: Treatment of rows of probability zero: ``"raise"`` or ``"nan"``.

        Returns:
            A posterior with batch shape ``()`` or ``(B,)``.

        Raises:
            EvidenceError: If a name or state is unknown or a shape is wrong.
            ImpossibleEvidence: If a row has probability zero.
            Intractable: If the answer exceeds the budget of a named engine.
        """
        chosen = self._engine(engine, inputs)
        return chosen.query(self, targets, evidence, inputs=inputs, errors=errors)

    @overload
    def most_probable(
        self,
        evidence: Any = None,
        targets: Names | None = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        k: Literal[1] = 1,
        errors: str = "raise",
    ) -> Assignment: ...

    @overload
    def most_probable(
        self,
        evidence: Any = None,
        targets: Names | None = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        k: int,
        errors: str = "raise",
    ) -> Assignment | KBest: ...

    @over_partitions
    def most_probable(
        self,
        evidence: Any = None,
        targets: Names | None = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        k: int = 1,
        errors: str = "raise",
    ) -> Assignment | KBest:
        r"""Return the most probable states :math:`\arg\max_x p(x, e)`.

        Args:
            evidence: As in :meth:`query`.
            targets: Variables to maximise over, with all others summed out (marginal MAP); all if
                not given (most probable explanation), including linear Gaussian real variables: a
                density is then maximised, which is dominated by narrow peaks.
            inputs: Covariates by name.
            engine: The inference engine; if not given exact if that is affordable, otherwise dual
                decomposition, which also bounds the score of any assignment.
            k: Number of best assignments to return.
            errors: ``"raise"`` or ``"nan"``, see :meth:`query`.

        Returns:
            A mapping from variables to states (labels for one row, ``(B,)`` indices for a batch) or
            values, with ``log_prob``; for ``k > 1`` a sequence of these, best first.
        """
        return self._engine(engine, inputs).most_probable(
            self, evidence, targets, inputs=inputs, k=k, errors=errors
        )

    def max_marginals(
        self,
        targets: Names | None = None,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
    ) -> dict[Hashable, Tensor]:
        r"""Return :math:`\max_{x : x_i = s} \log p(x, e)`, ``(*shape, K)`` by name of a variable.

        Args:
            targets: As in :meth:`query`.
            evidence: One row of evidence.
            inputs: Covariates of one row.
            engine: The inference engine, as in :meth:`most_probable`.
        """
        from pgnn.inference.max_marginals import max_marginals

        return max_marginals(self, self._engine(engine, inputs), targets, evidence, inputs)

    def sample(
        self,
        n: int = 1,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        seed: int | None = None,
    ) -> Samples:
        """Draw samples from the model, or from its posterior given evidence.

        Args:
            n: Number of samples (for each row of evidence).
            evidence: As in :meth:`query`.
            inputs: Covariates by name.
            engine: The inference engine; if not given exact if that is affordable, otherwise Markov
                chains (``Gibbs()``).
            seed: Random seed; the same seed gives the same samples. Global random state is not
                changed.
        """
        return self._engine(engine, inputs).sample(self, n, evidence, inputs=inputs, seed=seed)

    @over_partitions
    def log_prob(
        self, data: Any, *, inputs: Inputs | None = None, engine: Engine | None = None
    ) -> Tensor:
        """Return ``(N,)`` log probabilities of rows; missing and latent variables are summed out.

        Args:
            data: As evidence in :meth:`query`; a row of probability zero has ``-inf``.
            inputs: Covariates by name.
            engine: The inference engine; exact if not given.

        Raises:
            Intractable: If no engine is named and the exact sum is too expensive.
        """
        return self._engine(engine, inputs).log_prob(self, data, inputs=inputs)

    def impute(
        self,
        data: Any,
        *,
        draws: int | None = None,
        to: str | Path | TextIO | None = None,
        ignore: Collection[Hashable] = (),
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        seed: int | None = None,
    ) -> Any:
        """Impute the missing cells of a table.

        Args:
            data: A data frame, a mapping of columns, or the path or open stream of a CSV file; one
                row of evidence as in :meth:`query`, which is a table of one row; for a model of an
                array also rows ``(N, *shape)``, with ``NaN`` for missing values.
            draws: Number of tables that are sampled from the posterior of missing cells (multiple
                imputation); if not given, one table with the most probable states and, given these,
                the means of real variables.
            to: Path of a CSV file to write, or a stream; several tables have a column ``draw``.
            ignore: Columns that are not variables; they are copied.
            inputs: Covariates by name, ``(N, ...)``.
            engine: The inference engine.
            seed: Random seed of the samples.

        Returns:
            A data frame with the columns and index of the data; for rows an array or tensor of
            their shape; with ``draws`` a list of these.

        Raises:
            DataError: If the data is not a table.
            EvidenceError: If a column is not a variable, or a value not a state.
            Unsupported: For models over time.

        References:
            Rubin (1987), Multiple Imputation for Nonresponse in Surveys.
        """
        from pgnn.inference.imputation import impute

        settings: dict[str, Any] = {"draws": draws, "to": to, "ignore": ignore}
        return impute(self, data, inputs=inputs, engine=engine, seed=seed, **settings)

    def explain(
        self,
        targets: Names | None = None,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
    ) -> Explanation:
        """Return how a query would be answered and its cost, without answering it."""
        return self._engine(engine).explain(self, targets, evidence, inputs)

    def compile(  # type: ignore[override]
        self,
        targets: Names | None = None,
        observed: Iterable[Hashable] | None = None,
        *,
        engine: Engine | None = None,
    ) -> CompiledQuery:
        """Prepare a query for repeated use, from state indices to tensors.

        Args:
            targets: As in :meth:`query`.
            observed: Variables that every row observes (their states are sliced out of the
                tables); if not given, each row may observe any variables.
            engine: The inference engine; the exact engine if not given.
        """
        return self._engine(engine).compile(self, targets, observed)

    def save(self, path: str | Path) -> None:
        """Save to one file that loads without executing code, see :func:`pgnn.load`."""
        from pgnn.io.checkpoint import save

        save(self, path)

    def program(self, inputs: Inputs | None = None) -> Callable[..., Any]:
        """Lower the model to a Pyro program (directed models only)."""
        if isinstance(self, DirectedModel):
            from pgnn.programs.graph_program import GraphProgram

            return GraphProgram(self, inputs)
        raise Unsupported(
            f"{type(self).__name__} has no Pyro program, since it is not directed", "use factors()"
        )

    def do(self, interventions: Any) -> Model:
        """Return the model after an intervention (directed models only).

        Raises:
            Unsupported: If the model does not support interventions.
        """
        raise Unsupported(
            f"{type(self).__name__} does not support interventions: do() is for BayesianNetwork",
            "a model over time has one in unroll(steps)",
        )

    def _looked_up(self, data: Any, inputs: Inputs | None) -> Tensor | None:
        """Return log scores of complete rows without an engine; None if values are missing."""
        from pgnn.inference.log_score import looked_up

        self._check_learnable()
        return looked_up(self, data, inputs)

    def default_engine(self) -> Engine:
        """Return the engine if none is given."""
        return _automatic()

    def _engine(self, engine: Engine | None, inputs: Inputs | None = None) -> Engine:
        """Return the engine to use, after checks of the parameters and the inputs."""
        self.check_inputs(inputs)
        self._warn_unset()
        self.refresh_parameters()
        self._check_learnable()
        if engine is None:
            return self.default_engine()
        from pgnn.inference.engine import Engine

        if not isinstance(engine, Engine):
            raise ModelError(f"engine must be one such as pgnn.JunctionTree(), got {engine!r}")
        return engine
