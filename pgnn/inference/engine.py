"""What engines and learners look like to a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pgnn.abilities import FactorModel, Inputs

if TYPE_CHECKING:
    from pgnn.inference.assignment import Assignment, KBest
    from pgnn.inference.exact.compiled_query import CompiledQuery
    from pgnn.inference.explanation import Explanation
    from pgnn.inference.posterior import Posterior
    from pgnn.inference.samples import Samples

__all__ = ["Engine", "FactorModel", "Inputs", "Learner", "Names"]

Names = Hashable | Iterable[Hashable]


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
