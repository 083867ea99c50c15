"""A program that sees some rows of its plates, others at each step."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.models.base import Model
from pgnn.programs.program import Program


class ProgramBatch(Program):
    r"""A program whose plates see some of their rows, which stand for all.

    Of a plate of ``N`` rows that sees ``B``, each counts ``N / B`` times, so that on average over
    the choice of rows the log density is right. Discrete sites in the plate are summed out first:

    .. math:: \log p(r) + \frac{N}{B} \sum_{b} \log \sum_{z_b} p(z_b, x_b, r_b \mid r)

    Args:
        whole: The program, whose parameters and arguments are shared.

    Attributes:
        power: What the logarithm of the sum over discrete sites is multiplied by; their tables
            are without it.

    Raises:
        Unsupported: If the rows are not independent given the real sites outside of the plate.

    References:
        Hoffman et al. (2013), Stochastic variational inference.
    """

    def __init__(self, whole: Program) -> None:
        Model.__init__(self)
        self.own, self._programs = whole.own, whole._programs
        self.args, self.kwargs = whole.args, whole.kwargs
        chosen = whole._source.rows
        self._drawn = {n: s for n, s in chosen.sizes.items() if n not in chosen.rows}
        self._rows = dict(chosen.rows)
        self._rows |= {n: torch.arange(number) for n, (_, number) in self._drawn.items()}
        self._collect()
        self._read()
        if self.obstacle is not None:
            names = ", ".join(repr(n) for n in self._drawn) or "its plates"
            raise Unsupported(f"{self.obstacle}: no batches of rows of {names}")
        self._source.layout.check_independent()

    @property
    def power(self) -> float:
        """See the class."""
        return self._source.layout.power

    @property
    def changes(self) -> bool:
        """Whether there is a choice of rows, which the program leaves to others."""
        return bool(self._drawn)

    def redraw(self, generator: torch.Generator) -> None:
        """Choose other rows, without replacement."""
        for name, (size, number) in self._drawn.items():
            self._source.rows.rows[name].copy_(torch.randperm(size, generator=generator)[:number])

    def of_rows(self, name: Hashable, values: Tensor, lead: int = 0) -> Tensor:
        """Return what belongs to the rows that are seen.

        Args:
            name: A variable.
            values: ``(*lead, *shape)``, of the shape that it has in the whole program.
            lead: Axes that come first.
        """
        site = self._source.sites[self._source.site_names[name]]
        for k, axis in enumerate(site.axes):
            if axis.name is not None and axis.name in self._drawn:
                values = values.index_select(lead + k, self._source.rows.rows[axis.name])
        return values
