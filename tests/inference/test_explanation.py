"""Explanations in units that people read."""

import dataclasses

import pytest

from pgnn.inference.explanation import Explanation, human_bytes, human_count

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


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0 thousand"),
        (999_949, "999.9 thousand"),
        (999_950, "1.0 million"),
        (2_500_000_000, "2.5 billion"),
        (7 * 10**12, "7.0 trillion"),
        (999_999_999_999_999, "1.0e+15"),
        (10**15, "1.0e+15"),
        (10**400, "1.0e+400"),
        (150.0, "150"),
        (1.5e300, "1.5e+300"),
        (float("inf"), "more than 1.8e+308"),
    ],
)
def test_counts(count: float, text: str) -> None:
    assert human_count(count) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**60, "1.2e+18 B"),
    ],
)
def test_bytes(size: int, text: str) -> None:
    assert human_bytes(size) == text
