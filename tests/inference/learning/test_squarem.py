"""Extrapolation of maps that converge slowly."""

import torch

from pgnn.inference.learning.squarem import Squarem

RATES = torch.tensor([0.99, 0.9, 0.5], dtype=torch.float64)
REST = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)


def run(steps: int, extrapolate: bool) -> float:
    """Distance from the fixed point of a linear map; extrapolations that lead away are rejected."""
    x = torch.zeros(3, dtype=torch.float64)
    squarem, last = Squarem([x]), float("inf")
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
