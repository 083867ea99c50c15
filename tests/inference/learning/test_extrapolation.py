"""Extrapolation of maps that converge slowly."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pgnn
from pgnn.inference.learning.expected_statistics import ExpectedStatistics
from pgnn.inference.learning.extrapolation import Extrapolation, OverRelaxation, Squarem, Unit
from pgnn.inference.learning.restarts import Start

RATES = torch.tensor([0.99, 0.9, 0.5], dtype=torch.float64)
REST = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
ONE_ROW = SimpleNamespace(num_rows=1)


def run(steps: int, extrapolate: bool, kind: type[Extrapolation] = Squarem) -> float:
    """Distance from the fixed point of a linear map; extrapolations that lead away are rejected."""
    x = torch.zeros(3, dtype=torch.float64)
    squarem, last = kind([x]), float("inf")
    for _ in range(steps):
        away = float((x - REST).norm())
        if squarem.pending:
            if away > last:
                squarem.reject()
                away = float((x - REST).norm())
            else:
                squarem.accept()
        elif squarem.unproven:
            squarem.prove()
        assert away <= last
        last = away
        if extrapolate:
            squarem.before_step()
        x.copy_(REST + RATES * (x - REST))
        if extrapolate:
            squarem.after_step()
    return float((x - REST).norm())


def test_a_slow_map_comes_to_rest_sooner() -> None:
    assert run(60, extrapolate=True) < 1e-6 < 0.1 < run(60, extrapolate=False)


def test_over_relaxed_steps_lead_farther_and_never_back() -> None:
    assert run(60, extrapolate=True, kind=OverRelaxation) < 0.1 * run(60, extrapolate=False)


def test_over_relaxed_steps_grow_until_one_is_rejected() -> None:
    x = torch.zeros(1, dtype=torch.float64)
    own, places = OverRelaxation([x]), []
    for reject in (False, False, True, False):
        own.before_step()
        x += 1.0
        own.after_step()
        places.append(float(x))
        own.reject() if reject else own.accept()
    # lengths 1.1, 1.21 and 1.331, which is taken back; then a plain step
    assert places == pytest.approx([1.1, 2.31, 3.641, 4.31])


@pytest.mark.parametrize("seed", range(3))
def test_over_relaxed_em_ends_where_em_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, 2)) + 2.0 * rng.integers(0, 2, (200, 1))
    told = {}
    for name, kind in (("plain", False), ("squarem", True), ("over-relaxed", OverRelaxation)):
        learner = pgnn.EM(accelerate=kind, tolerance=1e-9, max_iterations=5000)
        model = pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit(x, learner=learner, seed=0)
        trace = np.array(model.history["trace"]["log_likelihood"])
        assert (np.diff(trace) > -1e-9 * abs(trace[-1])).all()
        told[name] = (len(trace), trace[-1])
    assert told["over-relaxed"][0] < told["plain"][0]
    assert told["over-relaxed"][1] == pytest.approx(told["plain"][1], rel=1e-6)


def test_what_is_no_extrapolation() -> None:
    with pytest.raises(pgnn.ModelError, match="accelerate must be True, False or OverRelaxation"):
        pgnn.EM(accelerate="squarem")


def test_what_was_rejected_is_put_back() -> None:
    x = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
    squarem = Squarem([x])
    for value in (1.0, 1.5):
        squarem.before_step()
        x[0] = value
        squarem.after_step()
    assert squarem.pending
    assert float(x[0]) == 2.0  # where steps that shrink by half lead
    assert float(x[1]) == -torch.inf
    squarem.reject()
    assert float(x[0]) == 1.5
    assert not squarem.pending


def test_units_do_not_matter() -> None:
    found = []
    for unit in (1.0, 1e4):
        x, y = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        squarem = Squarem([x, y])
        for _ in range(2):
            squarem.before_step()
            x.copy_(unit + 0.9 * (x - unit))
            y.copy_(2.0 + 0.5 * (y - 2.0))
            squarem.after_step()
        found.append((float(x) / unit, float(y), squarem.length))
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(found[1]))


class ScriptedStep:
    """An E-step of one number, whose values and maps are written down."""

    noisy = learns_other_parameters = False

    def __init__(self, values: dict[float, float], moves: dict[float, float]) -> None:
        self.model = torch.nn.Module()
        self.model.x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.parameters = [self.model.x]
        self.values, self.moves = values, moves

    def unit_of(self, parameter: torch.Tensor) -> Unit:
        return Unit()

    def unit_free(self, value: float) -> float:
        return value

    def of_all(self, number: float) -> float:
        return number

    @property
    def x(self) -> float:
        return round(float(self.model.x.detach()), 6)

    def expect(self, observed: object) -> ExpectedStatistics:
        return ExpectedStatistics(self.values[self.x], 1.0, {}, {})

    def improve(self, expected: ExpectedStatistics, priors: object) -> list[object]:
        with torch.no_grad():
            self.model.x.fill_(self.moves[self.x])
        return []

    def log_prior(self, priors: object) -> float:
        return 0.0


def test_a_fall_after_a_rejected_extrapolation_leaves_the_best_proven_place() -> None:
    # 0 -> 1 -> 1.5 is extrapolated to 2, which is better, but whose step leads down to 2.5: back to
    # 1.5, which is worse than 1
    script = ScriptedStep(
        {0.0: 0.0, 1.0: 1.0, 1.5: 0.5, 2.0: 3.0, 2.5: 2.0}, {0.0: 1.0, 1.0: 1.5, 2.0: 2.5}
    )
    start = Start(script, ONE_ROW, {}, pgnn.EM(accelerate=True), 0)  # type: ignore[arg-type]
    start.accelerate()
    while not start.done:
        start.advance()
    assert start.fell == (1.0, 0.5)
    assert start.trace["objective"] == [0.0, 1.0]
    assert script.x == 1.0


@pytest.mark.parametrize("passes", [2, 3])
def test_the_limit_after_an_extrapolation_leaves_the_best_proven_place(
    passes: int,
) -> None:
    script = ScriptedStep({0.0: 0.0, 1.0: 1.0, 1.5: 0.5, 2.0: 3.0}, {0.0: 1.0, 1.0: 1.5, 2.0: 2.5})
    start = Start(script, ONE_ROW, {}, pgnn.EM(accelerate=True), 0)  # type: ignore[arg-type]
    start.accelerate()
    for _ in range(passes):
        start.advance()
    start.settle()  # at what is not extrapolated
    assert script.x == 1.5
    assert start.trace["objective"] == [0.0, 1.0]
    assert start.finish().log_likelihood == 1.0
    assert script.x == 1.0
