"""Variables at single steps as targets of queries."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pgnn.abilities import UnrollableModel
from pgnn.errors import EvidenceError
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import Variable
from pgnn.inference.base_question import Names
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import listed
from pgnn.inference.real_elements import element_of


@dataclass(frozen=True, eq=False)
class StepTargets:
    """Targets some of which are variables at single steps, such as ``("rain", 3)``.

    Engines answer about all steps, and the answer is restricted to the targets. Steps count from
    zero, as in evidence and answers.

    Attributes:
        names: The targets, with variables over time in place of their steps.
        targets: The targets as they were asked for.
        steps: Those of them that are single steps.

    Example:
        >>> import pgnn
        >>> step = [[0.7, 0.3], [0.3, 0.7]]
        >>> model = pgnn.HiddenMarkovModel(
        ...     2, {"x": [[0.8, 0.2], [0.1, 0.9]]}, initial=[0.5, 0.5], transitions=step
        ... )
        >>> model.query(("state", 1), {"x": [1, 1, 0]})["state", 1].probs
        tensor([0.2008, 0.7992], dtype=torch.float64)
    """

    names: list[Hashable]
    targets: list[Hashable]
    steps: list[tuple[Any, ...]]

    @classmethod
    def of(cls, model: Any, names: Names | None) -> StepTargets | None:
        """Read the names of targets; None if no step of a variable is among them.

        Raises:
            EvidenceError: If a step is named twice, or besides its variable.
        """
        if not isinstance(model, UnrollableModel) or isinstance(names, str | Iterator | None):
            return None
        moving = {n: v for n, v in model.variables.items() if v.shape[:1] == (AXIS,)}
        one = _is_known(model, names) or _is_step(moving, names)
        targets: list[Any] = [names] if one else listed(names)
        steps = [n for n in targets if not _is_known(model, n) and _is_step(moving, n)]
        if not steps:
            return None
        for name in steps:
            if targets.count(name) > 1 or name[0] in targets:
                raise EvidenceError(f"{name!r} is named twice")
        whole = [n[0] if n in steps else n for n in targets]
        return cls([n for k, n in enumerate(whole) if n not in whole[:k]], targets, steps)

    @classmethod
    def names_of(cls, model: Any, names: Names | None) -> Names | None:
        """Return names of targets, with variables over time in place of their steps."""
        at = cls.of(model, names)
        return names if at is None else at.names

    @classmethod
    def check_ahead(cls, model: Any, names: Names | None) -> None:
        """Check that no target is a step of the evidence, before a prediction of later steps.

        Raises:
            EvidenceError: If one is.
        """
        at = cls.of(model, names)
        if at is not None:
            raise EvidenceError(
                f"{at.steps[0]!r} is a step of the evidence; predict() answers about later ones",
                f"name {at.steps[0][0]!r}; step 0 of the answer is the first after the evidence",
            )

    def check(self, steps: int) -> None:
        """Check that all steps are those of the evidence.

        Raises:
            EvidenceError: If one is not.
        """
        for name, step, *_ in self.steps:
            if step >= steps:
                raise EvidenceError(
                    f"step {step} of {name!r} is not within the {steps} steps of the evidence",
                    "predict() answers about later steps",
                )

    def restricted(self, answer: Posterior) -> Posterior:
        """Return the answer about the steps in place of their variables."""
        return answer.about(self.targets)


def _is_known(model: UnrollableModel, name: object) -> bool:
    try:
        return name in model.variables
    except TypeError:  # not hashable
        return False


def _is_step(moving: Mapping[Hashable, Variable], name: object) -> bool:
    try:
        return element_of(moving, name) is not None
    except TypeError:  # not hashable
        return False
