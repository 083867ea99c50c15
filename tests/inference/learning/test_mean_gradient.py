import torch

from pgnn.inference.learning.mean_gradient import MeanGradient


def test_largest_derivative_of_the_weighted_mean():
    p, unused = torch.zeros(2), torch.zeros(1)
    gradient = MeanGradient([p, unused])
    for derivative, weight in ((1.0, 1.0), (-5.0, 3.0)):
        p.grad = torch.tensor([derivative, 0.5])
        gradient.add(weight)
    assert gradient.largest() == (5.0 * 3.0 - 1.0) / 4.0


def test_one_in_so_many_batches_enters_and_those_of_weight_zero_do_not_count():
    p = torch.zeros(1)
    gradient = MeanGradient([p], stride=3)
    for k, weight in enumerate([0.0, 2.0, 1.0, 2.0, 1.0, 1.0]):
        p.grad = torch.tensor([float(k)])
        gradient.add(weight)
    assert gradient.largest() == (1.0 * 2.0 + 3.0 * 2.0) / 4.0


def test_a_last_gradient_that_is_not_finite_is_found_though_it_does_not_enter():
    p = torch.zeros(2)
    gradient = MeanGradient([p], stride=2)
    p.grad = torch.ones(2)
    gradient.add(1.0)
    assert gradient.is_finite()
    p.grad = torch.tensor([1.0, torch.nan])
    gradient.add(1.0)
    assert gradient.largest() == 1.0
    assert not gradient.is_finite()
