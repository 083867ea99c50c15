"""Clusters as a start."""

import torch

from pgnn.factors.conditionals import emission as module
from pgnn.factors.conditionals.emission import kmeans


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_separate_clusters_are_found_whatever_the_units() -> None:
    centres = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [8.0, 8.0]])
    truth = torch.arange(200) % 4
    rows = centres[truth] + 0.3 * torch.randn(200, 2, generator=generator())
    for units in (torch.tensor([1.0, 1.0]), torch.tensor([1e6, 1e-6])):
        labels = kmeans(rows * units, 4, generator(1))
        pairs = {(int(a), int(b)) for a, b in zip(labels, truth, strict=True)}
        assert len(pairs) == 4


def test_many_rows_are_thinned_out(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 50)
    truth = torch.arange(1000) % 2
    rows = 9.0 * truth.unsqueeze(1) + torch.randn(1000, 1, generator=generator())
    labels = kmeans(rows, 2, generator(1))
    assert labels.shape == (1000,)
    assert (labels == truth).float().mean() in (0.0, 1.0)


def test_fewer_distinct_rows_than_clusters() -> None:
    labels = kmeans(torch.ones(5, 2), 3, generator())
    assert labels.unique().numel() == 1
    assert kmeans(torch.tensor([[1.0]]), 4, generator()).tolist() == [0]


def test_spread_centres_miss_no_cluster() -> None:
    # well separated: uniform centres would miss one of ten clusters nearly always
    truth = torch.arange(500) % 10
    rows = 100.0 * truth.unsqueeze(1) + torch.randn(500, 1, generator=generator())
    for seed in range(5):
        assert kmeans(rows, 10, generator(seed), num_iter=0).unique().numel() == 10
