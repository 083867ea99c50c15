"""The base class of learners."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pgnn.abilities import Inputs
from pgnn.errors import ChecksArguments, Unsupported
from pgnn.inference.settings_html import ShowsSettings


class Learner(ShowsSettings, metaclass=ChecksArguments):
    """Immutable settings of a method that fits models.

    Attributes:
        checkpoints: Where it writes down how far it is; None for nowhere.
    """

    checkpoints: Any = None

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
        """Fit a model, see :meth:`Model.fit`; the parameters change only on success."""

    def partial_fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> None:
        """Update a model with one more batch, see :meth:`Model.partial_fit`.

        Raises:
            Unsupported: If this learner needs all data at once.
        """
        raise Unsupported(
            f"{type(self).__name__} needs all data at once",
            "partial_fit() is supported by MaximumLikelihood(), EM() and ContrastiveDivergence()",
        )
