"""Greedy layer-wise learning of stacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pgnn.abilities import Inputs, StackedModel
from pgnn.errors import DataError, ModelError
from pgnn.factors.randomness import generator
from pgnn.inference.learner import Learner
from pgnn.inference.learning.restored_on_failure import fitting


@dataclass(frozen=True)
class GreedyLayerwise(Learner):
    """Learns a stack from below, stage by stage, with optional fine-tuning of the whole.

    Each stage learns from the outputs of the stage below: expected hidden units of the machines of
    a deep belief network, codes of the autoencoders of a stack.

    ``model.history["trace"]`` has the concatenated figures of all stages, and
    ``model.history["fine_tuning"]`` the history of the fine-tuning.

    Args:
        learner: Learner of each stage, such as ``ContrastiveDivergence(...)`` for machines or
            ``LowerBound(...)`` for autoencoders; the stage's default if not given. With
            ``ContrastiveDivergence(probabilities=True)`` the data may also be probabilities.
        fine_tuning: Learner of the whole after its stages, such as ``WakeSleep()`` or
            ``LowerBound()``; none if not given.

    Raises:
        ModelError: If a setting is not a learner, or that of the stages has checkpoints.

    References:
        Hinton, Osindero and Teh (2006), A fast learning algorithm for deep belief nets. Bengio,
        Lamblin, Popovici and Larochelle (2007), Greedy layer-wise training of deep networks.

    Example:
        >>> import pgnn
        >>> rows = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]] * 50)
        >>> learner = GreedyLayerwise(pgnn.ContrastiveDivergence(epochs=5))
        >>> model = pgnn.DeepBeliefNetwork([4, 3, 2]).fit(rows, learner=learner, seed=0)
        >>> len(model.history["trace"]["reconstruction_error"])
        10
    """

    learner: Learner | None = None
    fine_tuning: Learner | None = None

    def __post_init__(self) -> None:
        for name in ("learner", "fine_tuning"):
            setting = getattr(self, name)
            if setting is not None and not isinstance(setting, Learner):
                raise ModelError(
                    f"{name} must be a learner such as pgnn.ContrastiveDivergence(), got "
                    f"{setting!r}"
                )
        if self.learner is not None and self.learner.checkpoints is not None:
            raise ModelError(
                "checkpoints need a single fit, but each stage is one", "leave them out"
            )

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
        """Fit stage by stage; see :meth:`Model.fit`.

        Args:
            model: A ``DeepBeliefNetwork`` or a ``StackedAutoencoder``.
            data: Rows of the input of the lowest stage.
            weights: ``(N,)`` weights of the rows.
            inputs: None.
            seed: Random seed of the first stage; the others, and the fine-tuning, use successive
                seeds.
            progress: Whether to show a progress bar.

        Raises:
            DataError: If the data is invalid. After an error the model is unchanged.
            ModelError: If the model is not a stack.
        """
        if not isinstance(model, StackedModel):
            raise ModelError(
                "GreedyLayerwise() learns stacks such as a DeepBeliefNetwork or a "
                f"StackedAutoencoder; a {type(model).__name__} has no stages"
            )
        if inputs is not None:
            raise DataError("stages have no covariates", "leave inputs out")
        whole: Any = model
        first = int(generator(seed).initial_seed() % 2**31) if seed is None else seed
        rows, learner = model.read_stack(data, self.learner)
        trace: dict[str, list[float]] = {}
        passes = 0
        with fitting(model, self) as history:
            for k in range(model.num_stages):
                stage = model.stage(k)
                stage.fit(rows, learner=learner, weights=weights, seed=first + k, progress=progress)
                model.take_stage(k, stage)
                for name, values in stage.history.get("trace", {}).items():
                    trace.setdefault(name, []).extend(values)
                passes += stage.history.get("iterations", 0)
                with torch.no_grad():
                    rows = model.stage_outputs(stage, rows)
            history.update(rows=len(rows), iterations=passes, converged=False, trace=trace)
            if self.fine_tuning is not None:
                self.fine_tuning.fit(model, data, weights=weights, seed=first + model.num_stages,
                                     progress=progress)  # fmt: skip
                history["fine_tuning"] = whole.history
