"""Refusals of what would take too much memory, made before any is touched."""

from __future__ import annotations

from pgnn.errors import Intractable
from pgnn.inference.exact.plan import Plan
from pgnn.inference.explanation import human_bytes


def plan_over_budget(plan: Plan, needed: int, max_bytes: int) -> Intractable:
    """Make the error that says what a plan would take, and what would work instead."""
    return Intractable(
        f"an exact answer has treewidth {plan.width}: its largest table has {plan.largest:.3g} "
        f"entries, and it takes {human_bytes(needed)} and about {plan.multiply_adds:.2g} "
        f"multiply-adds a row; the budget is {human_bytes(max_bytes)}. Observe more variables, "
        "ask for fewer targets, or raise JunctionTree(max_bytes=...)"
    )


def joint_over_budget(num_vars: int, num_rows: int, needed: int, max_bytes: int) -> Intractable:
    """Make the error that says how large a joint would be."""
    return Intractable(
        f"the joint of {num_vars} variables for {num_rows} rows takes {human_bytes(needed)}; the "
        f"budget is {human_bytes(max_bytes)}. Ask for fewer variables at once, or raise "
        "JunctionTree(max_bytes=...)"
    )
