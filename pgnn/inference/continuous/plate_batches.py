"""Batches of rows of a program's plates, for the steps of a fit."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.inference.continuous.guide_draws import ProgramDraws
from pgnn.inference.continuous.latent_density import LatentDensity


class PlateBatches:
    """The densities of batches stand for that of all rows: on average they are it.

    Args:
        whole: With all rows.
        model: The program as it sees some of them.

    Attributes:
        model: That program.
    """

    def __init__(self, whole: LatentDensity, model: Any) -> None:
        self.whole, self.model = whole, model
        if whole.seen.soft is not None or whole.seen.soft_tensors:
            raise Unsupported(
                "soft evidence about a program whose plates are seen in part cannot be taken in "
                "batches; leave subsample_size out"
            )

    @classmethod
    def of(cls, whole: LatentDensity) -> PlateBatches | None:
        """Return the batches of a model's plates; None if it always sees all rows."""
        make = getattr(whole.model, "batch", None)
        model = None if make is None else make()
        return None if model is None else cls(whole, model)

    @property
    def changes(self) -> bool:
        """Whether there is a choice of rows."""
        return bool(self.model.changes)

    @cached_property
    def guide(self) -> ProgramDraws:
        """The program's own guide, which sees the same rows."""
        return ProgramDraws(self.model)

    def redrawn(self, generator: torch.Generator) -> LatentDensity:
        """Return the density of other rows; that of the batch before is no longer right."""
        self.model.redraw(generator)
        return self.density()

    def density(self) -> LatentDensity:
        """Return the density of the present rows."""
        seen = self.whole.seen
        reals = {n: self.model.of_rows(n, x, 1) for n, x in seen.reals.items()}
        codes = np.ascontiguousarray(seen.codes[:, self._elements()])
        return LatentDensity(self.model, replace(seen, codes=codes, reals=reals), self.whole.inputs)

    def values(self, values: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Return what belongs to the present rows of draws ``(S, R, *shape)``."""
        return {n: self.model.of_rows(n, x, 2) for n, x in values.items()}

    def _elements(self) -> Any:
        """The element of the whole program that each element of the batch is."""
        elements = self.whole.model.elements
        found = [np.zeros(0, np.int64)]
        for v in self.model.elements.variables:
            own = torch.from_numpy(np.asarray(elements.numbers(v.name), np.int64))
            shape = self.whole.model.variables[v.name].shape
            found.append(self.model.of_rows(v.name, own.reshape(shape)).reshape(-1).numpy())
        return np.concatenate(found)
