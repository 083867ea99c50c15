"""Explanations in units that people read."""

import dataclasses

import pytest

from pgnn.inference.explanation import Explanation

PLAN = Explanation(
    engine="JunctionTree",
    kind="exact",
    reason="all variables are discrete",
    treewidth=4,
    largest_table=1_536,
    memory_bytes=3_565_158,
    multiply_adds=1_234_567,
    num_variables=37,
    num_eliminated=30,
    num_sliced=5,
    num_pruned=2,
)


def test_printed() -> None:
    assert str(PLAN).splitlines() == [
        "engine         JunctionTree (exact): all variables are discrete",
        "variables      37: 30 in the plan, 5 sliced, 2 pruned",
        "treewidth      4",
        "largest table  1,536 entries",
        "memory         3.4 MiB",
        "work           1.2 million multiply-adds for a row of evidence",
    ]


def test_over_the_budget() -> None:
    over = dataclasses.replace(
        PLAN,
        largest_table=2**2000,
        memory_bytes=2**2003,
        multiply_adds=2**2001,
        fits=False,
        budget_bytes=2**31,
        alternatives=("BeliefPropagation()", "Gibbs()"),
    )
    lines = str(over).splitlines()
    assert lines[3] == "largest table  1.1e+602 entries"
    assert lines[4] == "memory         9.2e+602 B of 2.0 GiB allowed"
    assert lines[6] == "does not fit   over the budget; would do: BeliefPropagation(), Gibbs()"
    assert str(dataclasses.replace(over, alternatives=())).endswith(
        "does not fit   over the budget"
    )


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAN.treewidth = 3  # type: ignore[misc]
    assert PLAN.fits
