"""Sampling from implicit models, which have no density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Never

import torch
from torch import Tensor

from pgnn.abilities import FactorModel, ImplicitModel
from pgnn.errors import ModelError
from pgnn.factors.randomness import private_randomness
from pgnn.inference.engine import Engine
from pgnn.inference.samples import Samples
from pgnn.limits import check_settings


@dataclass(frozen=True)
class Simulation(Engine):
    """Sampling from an implicit model, which supports no other query.

    Args:
        batch_size: Number of samples that are generated at once.

    Example:
        >>> import pgnn
        >>> from torch import nn
        >>> model = pgnn.GAN(nn.Linear(1, 3), nn.Linear(3, 1), noise=1)
        >>> model.sample(5, engine=Simulation(batch_size=2), seed=0)["data"].shape
        torch.Size([5, 3])
    """

    batch_size: int = 1024

    def __post_init__(self) -> None:
        check_settings(self, batch_size=1)

    def answer_sample(self, question: Any, n: int, seed: int | None) -> Samples:
        """Answer ``sample`` by simulations of the model."""
        model, rows = self._implicit(question.model), question.num_rows
        model.check()
        observed = dict(question.observed.reals)
        values = {**observed, **(question.inputs or {})}
        with private_randomness(seed), torch.no_grad():
            parts = [
                self._drawn(model, len(chosen), {k: x[chosen] for k, x in values.items()}, observed)
                for chosen in (torch.arange(n * rows) % max(rows, 1)).split(self.batch_size)
            ]
        batched = question.observed.batched
        lead = (n, rows) if batched else (n,)
        reals = {
            v.name: torch.cat([part[v.name] for part in parts]).reshape(*lead, *v.shape)
            for v in model.variables.values()
        }
        codes = torch.zeros(*lead, 0, dtype=torch.int64)
        return Samples(
            [*model.variables.values()],
            codes,
            reals,
            batched=batched,
            index=question.observed.index,
        )

    def query(self, model: FactorModel, *question: Any, **rest: Any) -> Never:
        """Not supported."""
        raise self._implicit(model).without_density()

    def most_probable(self, model: FactorModel, *question: Any, **rest: Any) -> Never:
        """Not supported."""
        raise self._implicit(model).without_density()

    def log_prob(self, model: FactorModel, *question: Any, **rest: Any) -> Never:
        """Not supported."""
        raise self._implicit(model).without_density()

    def explain(self, model: FactorModel, *question: Any) -> Never:
        """Not supported."""
        raise self._implicit(model).without_density()

    def compile(self, model: FactorModel, *question: Any) -> Never:
        """Not supported."""
        raise self._implicit(model).without_density()

    def _implicit(self, model: FactorModel) -> ImplicitModel:
        if not isinstance(model, ImplicitModel):
            raise self._cannot(
                f"is for models without a density; {type(model).__name__} has one", "Automatic()"
            )
        return model

    @staticmethod
    def _drawn(
        model: ImplicitModel, rows: int, values: dict[Any, Tensor], observed: dict[Any, Tensor]
    ) -> Any:
        inputs = {k: x for k, x in values.items() if k not in observed}
        drawn = model.simulate(rows, {k: values[k] for k in observed}, inputs)
        for v in model.variables.values():
            expected, came = (rows, *v.shape), tuple(drawn[v.name].shape)
            if came != expected:
                raise ModelError(
                    f"{type(model).__name__} must make {v.name!r} of shape {expected}, got {came}"
                )
        return drawn
