"""Names of variables of the step before, and of cells."""

import pytest

from pgnn.factors.time_steps import at_step, has_lag, lagged, lagged_name, without_lag
from pgnn.factors.variable import Variable


@pytest.mark.parametrize("name", ["rain", 3, ("rain", 2), ("rain", "wet"), ("a", -1, -1)])
def test_a_lag_is_put_on_and_taken_off(name) -> None:
    late = lagged_name(name)
    assert not has_lag(name)
    assert has_lag(late)
    assert without_lag(late) == without_lag(name) == name
    assert at_step(name, 4) == (name, 4)
    assert at_step(late, 4) == (name, 3)


def test_a_lagged_variable_is_the_same_but_for_its_name() -> None:
    late = lagged(Variable("rain", ["no", "yes"], (2,)))
    assert (late.name, late.states, late.shape) == (("rain", -1), ("no", "yes"), (2,))
