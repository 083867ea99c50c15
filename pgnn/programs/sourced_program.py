"""Executions of a program and of its guide."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pgnn.abilities import ExecutableModel
from pgnn.errors import EvidenceError, closest
from pgnn.factors.support import Support
from pgnn.models.model import Model

if TYPE_CHECKING:
    from pgnn.programs.execution import Execution
    from pgnn.programs.guide import GuideExecutions
    from pgnn.programs.source import ProgramSource


class SourcedProgram(Model, ExecutableModel):
    """A model whose executions are those of an analysed source."""

    _source: ProgramSource

    @property
    def constants(self) -> Mapping[Hashable, Tensor]:
        """See :class:`VariableModel`."""
        return self._source.constants

    def start_guide(self, seed: int) -> None:
        """See :class:`ExecutableModel`."""
        self._source.start_guide(seed)

    def support(self, name: str) -> Any:
        """Return the support of a site, as a constraint of torch.

        If it depends on other sites, the support in one execution is returned.

        Raises:
            EvidenceError: If no execution has a site of that name.
        """
        site = self._source.execute({}, 0).sites.get(name, self._source.sites.get(name))
        if site is None:
            raise EvidenceError(
                f"the program has no site {name!r}{closest(name, self._source.sites)}"
            )
        return site.constraint

    @property
    def event_axes(self) -> dict[Hashable, int]:
        """See :class:`ExecutableModel`; cells of plates are observed separately."""
        return {n: len(self._source.sites[s].event) for n, s in self._source.site_names.items()}

    def real_supports(
        self, names: Iterable[Hashable], held: Mapping[Hashable, Tensor] | None = None
    ) -> Mapping[Hashable, Support]:
        """See :class:`ExecutableModel`."""
        return self._source.real_supports(names, held or {})

    def guide_executions(self, observed: Collection[Hashable] = ()) -> GuideExecutions:
        """See :class:`ExecutableModel`."""
        from pgnn.programs.guide import GuideExecutions

        return GuideExecutions(self._source, observed)

    def execute(self, held: Mapping[Hashable, Tensor], seed: int) -> Execution:
        """See :class:`ExecutableModel`."""
        return self._source.execute(held, seed)

    def execute_together(self, held: Mapping[Hashable, Tensor], *args: Any, **named: Any) -> Any:
        """See :class:`ExecutableModel`."""
        return self._source.execute_together(held, *args, **named)
