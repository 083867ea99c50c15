"""The cost of a query, known before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

from pgnn.limits import human_bytes, human_count


@dataclass(frozen=True)
class Explanation:
    """The engine that will answer a query, why, and its cost.

    Attributes:
        engine: Name of the engine.
        kind: Kind of the answer: ``"exact"``, ``"lower bound"``, ``"upper bound"`` or
            ``"estimate"``.
        reason: Reason for this engine.
        num_variables: Number of variables of the model, counting elements of arrays.
        memory_bytes: Peak memory, in bytes.
        treewidth: Size of the largest clique of an exact plan minus one; an upper bound on the
            treewidth of the graph.
        largest_table: Entries of the largest table of an exact plan.
        multiply_adds: Multiply-adds of an exact plan for one row of evidence.
        num_factors: Number of factors over two or more variables, for approximate engines.
        num_eliminated: Number of variables that are eliminated.
        num_sliced: Number of variables observed in all rows, at which tables are sliced.
        num_pruned: Number of variables that cannot change the answer and are omitted.
        fits: Whether the cost is within the budget.
        budget_bytes: The engine's limit on ``memory_bytes``, if it has one.
        alternatives: Engines or settings to use if the cost exceeds the budget.

    Example:
        >>> print(Explanation(
        ...     "JunctionTree", "exact", "all variables are discrete", treewidth=2,
        ...     largest_table=8, memory_bytes=2048, multiply_adds=150, num_variables=8,
        ...     num_eliminated=6, num_sliced=2,
        ... ))
        engine         JunctionTree (exact): all variables are discrete
        variables      8: 6 in the plan, 2 sliced, 0 pruned
        treewidth      2
        largest table  8 entries
        memory         2.0 KiB
        work           150 multiply-adds for a row of evidence
    """

    engine: str
    kind: str
    reason: str
    num_variables: int
    memory_bytes: float
    treewidth: int | None = None
    largest_table: float | None = None
    multiply_adds: float | None = None
    num_factors: int | None = None
    num_eliminated: int = 0
    num_sliced: int = 0
    num_pruned: int = 0
    fits: bool = True
    budget_bytes: float | None = None
    alternatives: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        from pgnn.inference.answer_html import explanation_html

        return explanation_html(self)

    def __str__(self) -> str:
        limit = "" if self.budget_bytes is None else f" of {human_bytes(self.budget_bytes)} allowed"
        lines = {
            "engine": f"{self.engine} ({self.kind}): {self.reason}",
            "variables": f"{self.num_variables:,}: {self.num_eliminated:,} in the plan, "
            f"{self.num_sliced:,} sliced, {self.num_pruned:,} pruned",
        }
        if self.num_factors is not None:
            lines["factors"] = f"{self.num_factors:,} over two or more variables"
        if self.treewidth is not None:
            lines["treewidth"] = f"{self.treewidth:,}"
        if self.largest_table is not None:
            lines["largest table"] = f"{human_count(self.largest_table)} entries"
        lines["memory"] = human_bytes(self.memory_bytes) + limit
        if self.multiply_adds is not None:
            work = human_count(self.multiply_adds)
            lines["work"] = f"{work} multiply-adds for a row of evidence"
        if not self.fits:
            lines["does not fit"] = "over the budget"
            if self.alternatives:
                lines["does not fit"] += "; would do: " + ", ".join(self.alternatives)
        return "\n".join(f"{name:<13}  {text}" for name, text in lines.items())
