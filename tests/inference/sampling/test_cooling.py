import numpy as np
import pytest

from pgnn.errors import ModelError
from pgnn.inference.sampling.cooling import (
    GeometricCooling,
    LinearCooling,
    LogarithmicCooling,
    temperatures_of,
)


@pytest.mark.parametrize("kind", [GeometricCooling, LinearCooling, LogarithmicCooling])
def test_schedules_fall_from_start_to_end(kind: type) -> None:
    found = kind(5.0, 0.5).temperatures(20)
    assert found.shape == (20,)
    np.testing.assert_allclose(found[[0, -1]], [5.0, 0.5])
    assert (np.diff(found) < 0).all()
    np.testing.assert_allclose(kind().temperatures(7, 3.0, 0.2)[[0, -1]], [3.0, 0.2])
    np.testing.assert_allclose(kind(start=4.0).temperatures(7, 3.0, 0.2)[[0, -1]], [4.0, 0.2])
    assert kind(5.0, 0.5).temperatures(1).shape == (1,)
    for wrong in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ModelError, match="start must be a positive temperature"):
            kind(start=wrong)


def test_logarithmic_is_an_affine_image_of_the_inverse_logarithm() -> None:
    found = LogarithmicCooling(5.0, 0.5).temperatures(30)
    plain = 1.0 / np.log(2.0 + np.arange(30))
    slope = np.diff(found) / np.diff(plain)
    np.testing.assert_allclose(slope, slope[0])


def test_any_function_of_the_step_will_do() -> None:
    np.testing.assert_allclose(
        temperatures_of(lambda t: 1.0 / (1 + t), 3, 9.0, 9.0), [1, 0.5, 1 / 3]
    )
    with pytest.raises(ModelError, match="at step 2"):
        temperatures_of(lambda t: 2.0 - t, 4, 9.0, 9.0)
