"""What engines and learners look like to a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.factor_group import FactorGroup
from pgnn.factors.variable import Variable

if TYPE_CHECKING:
    from pgnn.inference.assignment import Assignment, KBest
    from pgnn.inference.exact.compiled_query import CompiledQuery
    from pgnn.inference.explanation import Explanation
    from pgnn.inference.posterior import Posterior
    from pgnn.inference.samples import Samples

Inputs = Mapping[Hashable, Tensor]
Names = Hashable | Iterable[Hashable]


class FactorModel(Protocol):
    """What an engine sees of a model."""

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """Variables by name."""

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Log tables over what is not observed."""

    @property
    def elements(self) -> Elements:
        """The elements of the discrete variables, numbered."""

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """The same tables, gathered by shape."""

    @property
    def in_groups(self) -> bool:
        """Whether the tables are made in arrays, and :meth:`factors` only spreads these."""

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """A result that depends on structure alone."""

    def cached_numbers(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """A result that depends on the parameters."""


class Engine(ABC):
    """Frozen settings of a way to answer questions; state lives in the call.

    The verbs are those of :class:`pgnn.models.base.Model`, with the model as first argument.
    """

    @abstractmethod
    def query(
        self,
        model: FactorModel,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """Answer :meth:`Model.query`."""

    @abstractmethod
    def most_probable(
        self,
        model: FactorModel,
        evidence: Any,
        targets: Names | None = None,
        *,
        inputs: Inputs | None = None,
        k: int = 1,
        errors: str = "raise",
    ) -> Assignment | KBest:
        """Answer :meth:`Model.most_probable`."""

    @abstractmethod
    def sample(
        self,
        model: FactorModel,
        n: int,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> Samples:
        """Answer :meth:`Model.sample`."""

    @abstractmethod
    def log_prob(self, model: FactorModel, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """Answer :meth:`Model.log_prob`."""

    @abstractmethod
    def explain(self, model: FactorModel, targets: Names | None, evidence: Any) -> Explanation:
        """Answer :meth:`Model.explain`."""

    @abstractmethod
    def compile(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Answer :meth:`Model.compile`."""


class Learner(ABC):
    """Frozen settings of a way to fit a model."""

    @abstractmethod
    def fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        """Answer :meth:`Model.fit`: change the parameters only if all went well."""
