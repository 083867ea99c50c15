"""Baselines and scales of the signals that multiply scores."""

import copy

import numpy as np
import pytest
import torch

from pgnn.errors import Unsupported
from pgnn.inference.learning.control_variates import ControlVariates, layer_signals

SIGNALS = torch.tensor([[1.0, 2.0, 6.0]])


def test_the_signal_of_a_layer_is_what_it_and_later_ones_contribute() -> None:
    draw = torch.Generator().manual_seed(0)
    log_p, log_q, given = (torch.randn(3, 2, 4, generator=draw) for _ in range(3))
    signals = layer_signals([*log_p], [*log_q.requires_grad_()], [*given.unsqueeze(-1)])
    for k, signal in enumerate(signals):
        expected = sum(log_p[j] - log_q[j] for j in range(k, 3))
        torch.testing.assert_close(signal.log_weights, torch.as_tensor(expected).detach())
        assert not signal.log_weights.requires_grad
        assert signal.log_q.requires_grad
        assert signal.given is not None
        assert signal.given.shape == (2, 4, 1)


def test_the_first_step_takes_the_mean_of_the_other_draws() -> None:
    variates = ControlVariates()
    (first,) = variates.centred([SIGNALS], [None])
    assert first.tolist() == [[1.0 - 4.0, 2.0 - 3.5, 6.0 - 1.5]]
    (second,) = variates.centred([torch.tensor([[5.0, 5.0, 8.0]])], [None])
    assert second.tolist() == [[2.0, 2.0, 5.0]]  # less the mean of the first step
    (third,) = variates.centred([SIGNALS], [None])
    mean = 0.9 * 3.0 + 0.1 * 6.0
    torch.testing.assert_close(third, SIGNALS - mean)


def test_columns_may_have_means_of_their_own() -> None:
    variates = ControlVariates(by_column=True)
    variates.centred([SIGNALS], [None])
    (second,) = variates.centred([SIGNALS + 1.0], [None])
    assert second.tolist() == [[1.0, 1.0, 1.0]]


def test_several_draws_are_not_centred_again() -> None:
    signals = torch.tensor([[1.0, 2.0], [5.0, -4.0]])
    for _ in range(3):
        variates = ControlVariates()
        (found,) = variates.centred([signals], [None])
        assert found.tolist() == signals.tolist()


@pytest.mark.parametrize("size", [0.1, 10.0])
def test_large_signals_are_divided_by_their_deviation(size: float) -> None:
    variates = ControlVariates(normalise=True)
    variates.centred([size * SIGNALS], [None])
    deviation = size * float(np.std([1.0, 2.0, 6.0]))
    (second,) = variates.centred([size * SIGNALS], [None])
    torch.testing.assert_close(second, size * (SIGNALS - 3.0) / max(1.0, deviation))


def test_a_network_learns_to_predict_the_signal() -> None:
    draw = torch.Generator().manual_seed(0)
    variates = ControlVariates(units=8)
    left = []
    for _ in range(600):
        given = torch.randn(1, 50, 1, generator=draw)
        (rest,) = variates.centred([3.0 * given[..., 0] + 1.0], [given])
        left.append(float(rest.square().mean()))
    assert left[0] > 5.0  # the variance of the signal is 9
    assert np.mean(left[-20:]) < 0.5


def test_networks_need_what_the_draws_depend_on() -> None:
    with pytest.raises(Unsupported, match="baseline_units= needs a recognition network"):
        ControlVariates(units=4).centred([SIGNALS], [None])


def test_a_state_is_resumed() -> None:
    draw = torch.Generator().manual_seed(0)
    given = torch.randn(1, 3, 2, generator=draw)
    first, later = (ControlVariates(units=4, normalise=True, seed=s) for s in (1, 2))
    first.centred([SIGNALS], [given])
    later.resume(copy.deepcopy(first.snapshot()))  # as a file has it
    for _ in range(3):
        expected, found = (x.centred([SIGNALS + 1.0], [given]) for x in (first, later))
        torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)
