"""The verbs of programs, with scaled log evidence and queries of computed values."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import Unsupported
from pgnn.models.model import Model
from pgnn.models.partition_verbs import over_partitions
from pgnn.programs.sourced_program import SourcedProgram

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine
    from pgnn.inference.posterior import Posterior
    from pgnn.inference.samples import Samples
    from pgnn.programs.program import Program


class ProgramVerbs(SourcedProgram):
    """The verbs that differ between programs and other models.

    :meth:`query` can return values that the program computes and names, by ``pyro.deterministic``
    or as sites of a ``Delta`` distribution: they are averaged over draws of the engine. Log
    probabilities include the factor :attr:`power`.
    """

    def _repr_html_(self) -> str:
        from pgnn.programs.program_html import program_html

        return program_html(cast("Program", self))

    @over_partitions
    def query(
        self,
        targets: Any = None,
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
        engine: Engine | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """See :meth:`Model.query`; targets may be computed values."""
        targets = [*targets] if isinstance(targets, Iterator) else targets
        names = [] if targets is None else self._names(targets)
        unknown = [n for n in names if isinstance(n, str) and n not in self.variables]
        computed = [n for n in unknown if n in self._source.computed_names]
        if computed:
            from pgnn.inference.particles.computed_targets import computed_posterior

            others = [n for n in names if n not in computed]
            settings: dict[str, Any] = {"inputs": inputs, "errors": errors}
            answer = computed_posterior(
                self, computed, others, evidence, self._engine(engine), **settings
            )
            ordered: Posterior = answer.in_order(names)
            return ordered
        posterior = super().query(targets, evidence, inputs=inputs, engine=engine, errors=errors)
        return posterior if self.power == 1.0 else posterior.to_the_power(self.power)

    @over_partitions
    def sample(self, n: int = 1, evidence: Any = None, **settings: Any) -> Samples:
        """See :meth:`Model.sample`; samples of computed values, if they are evidence, are left out.

        They follow from the other samples, with which a posterior is given as evidence.
        """
        from pgnn.inference.samples import Samples

        if isinstance(evidence, Samples):
            evidence = evidence.without(self._source.computed_names)
        samples: Samples = super().sample(n, evidence, **settings)
        return samples

    @over_partitions
    def most_probable(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`Model.most_probable`."""
        assignment: Any = super().most_probable(*args, **kwargs)
        return assignment if self.power == 1.0 else assignment.to_the_power(self.power)

    @over_partitions
    def log_prob(
        self, data: Any, *, inputs: Inputs | None = None, engine: Engine | None = None
    ) -> Tensor:
        """See :meth:`Model.log_prob`."""
        if self.power == 1.0:
            return super().log_prob(data, inputs=inputs, engine=engine)
        return self.query([], data, inputs=inputs, engine=engine, errors="nan").log_evidence

    def do(self, interventions: Any) -> Model:
        """Not supported: Pyro's handler intervenes, ``pgnn.Program(pyro.do(program, values))``.

        Raises:
            Unsupported: Always.
        """
        given = interventions if isinstance(interventions, Mapping) else {"x": 1.0}
        values = ", ".join(f"{n!r}: torch.tensor({x!r})" for n, x in given.items())
        raise Unsupported(
            "do() is for BayesianNetwork; a program is intervened on by Pyro's handler",
            f"use pgnn.Program(pyro.do(program, {{{values}}}))",
        )

    def _names(self, targets: Any) -> list[Hashable]:
        from pgnn.inference.question import listed

        single = isinstance(targets, Hashable) and targets in self.variables
        return [targets] if single else listed(targets)
