"""Layers learnt one pair after the other, from below."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError
from pgnn.factors.randomness import generator
from pgnn.factors.units.recognised_layers import PairedLayers
from pgnn.inference.history import History
from pgnn.inference.learner import Learner
from pgnn.inference.learning.contrastive_divergence import ContrastiveDivergence
from pgnn.inference.learning.layered_rows import read_layered_rows
from pgnn.inference.learning.restored_on_failure import restored_on_failure


@dataclass(frozen=True)
class GreedyLayerwise(Learner):
    """Learns a deep belief network from below, each pair of layers as a restricted machine.

    Each machine learns the hidden units that the one below expects of the data.

    Args:
        learner: Of each machine. With ``probabilities=True`` the data, too, may lie between 0
            and 1.

    References:
        Hinton, Osindero and Teh (2006), A fast learning algorithm for deep belief nets.

    Example:
        >>> import pgnn
        >>> rows = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]] * 50)
        >>> learner = GreedyLayerwise(ContrastiveDivergence(epochs=5))
        >>> model = pgnn.DeepBeliefNetwork([4, 3, 2]).fit(rows, learner=learner, seed=0)
        >>> len(model.history["trace"]["reconstruction_error"])
        10
    """

    learner: ContrastiveDivergence = field(default_factory=ContrastiveDivergence)

    def __post_init__(self) -> None:
        if not isinstance(self.learner, ContrastiveDivergence):
            raise ModelError(f"learner must be ContrastiveDivergence(...), got {self.learner!r}")
        if self.learner.checkpoints is not None:
            raise ModelError("checkpoints are of one fit, and each machine is one: leave them out")

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
        """Fit pair by pair; see :meth:`Model.fit`.

        Args:
            model: A ``DeepBeliefNetwork``.
            data: Complete rows of the visible units.
            weights: ``(N,)`` what each row counts.
            inputs: None.
            seed: Of the first machine; the others count up.
            progress: Show a progress bar.

        Raises:
            DataError: If the data is wrong. Whatever is raised, the model stays as it was.
            ModelError: If the model is not made of such pairs.
        """
        if not isinstance(model, PairedLayers):
            raise ModelError(
                "GreedyLayerwise() learns a DeepBeliefNetwork; a "
                f"{type(model).__name__} is not made of restricted machines"
            )
        if inputs is not None:
            raise DataError("layers of units have no covariates: leave inputs out")
        rows = read_layered_rows(model, data, probabilities=self.learner.probabilities)
        trace: dict[str, list[float]] = {}
        passes, seconds = 0, 0.0
        learner = replace(self.learner, probabilities=True)
        first = int(generator(seed).initial_seed() % 2**31) if seed is None else seed
        with restored_on_failure(model):
            for k in range(model.num_pairs):
                machine = model.machine(k)
                machine.fit(rows, learner=learner, weights=weights, seed=first + k,
                            progress=progress)  # fmt: skip
                model.put_machine(k, machine)
                for name, values in machine.history["trace"].items():
                    trace.setdefault(name, []).extend(values)
                passes += machine.history["iterations"]
                seconds += machine.history["seconds"]
                with torch.no_grad():
                    rows = machine.hidden_means(rows)
            model.history = History(  # type: ignore[attr-defined]
                {
                    "learner": repr(self),
                    "rows": len(rows),
                    "iterations": passes,
                    "converged": False,
                    "seconds": seconds,
                    "trace": trace,
                }
            )
