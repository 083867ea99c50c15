"""Train a classifier of digits from 100 labels and many unlabelled images.

A deep belief network is trained on the images, layer by layer. Its recognition network is then
fine-tuned with ten labels of each digit, on images shifted by up to one pixel. Finally, unlabelled
images are included with the label that the network predicts, if it is confident (Lee 2013).
"""

from __future__ import annotations

import torch
from common import arguments, save
from digits_50_labels import digits
from torch import nn
from torch.nn.functional import cross_entropy, pad

import pgnn


def main(
    argv: list[str] | None = None, *, rows: int = 10_000, epochs: int = 10, steps: int = 800,
    layers: tuple[int, ...] = (500, 500),
) -> dict[str, float]:  # fmt: skip
    """Return the shares of the unseen half of the pictures that are told right."""
    args = arguments(__doc__ or "", argv)
    pictures, shown = digits(args.data / "images" / "mnist", rows)
    x, y = torch.from_numpy(pictures).float(), torch.from_numpy(shown)
    half = len(x) // 2
    told = torch.cat([(y[:half] == c).nonzero()[:10, 0] for c in range(10)])
    network = pgnn.DeepBeliefNetwork([784, *layers]).float()
    fresh = network.to_classifier(10)
    for layer in fresh[::2]:
        layer.reset_parameters()
    machines = pgnn.ContrastiveDivergence(
        persistent=False, epochs=epochs, batch_size=20, probabilities=True
    )
    network.fit(x[:half], learner=pgnn.GreedyLayerwise(machines), seed=0)
    right: dict[str, float] = {}
    for name, start, others in (
        ("random start, labels alone", fresh, 0),
        ("pretrained, labels alone", network.to_classifier(10), 0),
        ("pretrained, all pictures", network.to_classifier(10), half),
    ):
        classifier = tuned(start, x[told], y[told], x[:others], steps)
        right[name] = float((classifier(x[half:]).argmax(1) == y[half:]).double().mean())
        print(f"{name:<28} {right[name]:.1%} right")
    draw(network, x[half:], classifier(x[half:]).softmax(1), args.out / "digits_100_labels.png")
    return right


def tuned(
    network: nn.Sequential, x: torch.Tensor, y: torch.Tensor, others: torch.Tensor, steps: int
) -> nn.Sequential:
    """Return a network fine-tuned with dropout; other pictures count more and more."""
    noisy = nn.Sequential(nn.Dropout(0.2), *network)
    rng = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / steps)
    for t in range(steps):
        loss = cross_entropy(noisy(moved(x, rng)), y)
        if len(others) and t > steps // 10:
            some = others[torch.randint(len(others), (100,), generator=rng)]
            sure, best = network(some).detach().softmax(1).max(1)
            each = cross_entropy(noisy(moved(some, rng)), best, reduction="none")
            loss = loss + min(1.0, 3 * t / steps) * (each * (sure > 0.9)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.requires_grad_(False)


def moved(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return pictures moved by up to a pixel, all in the same way."""
    down, right = torch.randint(3, (2,), generator=rng).tolist()
    wide = pad(x.reshape(-1, 28, 28), (1, 1, 1, 1))
    return wide[:, down : down + 28, right : right + 28].flatten(start_dim=1)


def draw(network: pgnn.DeepBeliefNetwork, x: torch.Tensor, probs: torch.Tensor, path) -> None:
    """Show filters of the lowest layer, and the pictures that are doubted most."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
    pgnn.plot.filters(network.machine(0), ax=left)
    pgnn.plot.samples(x[probs.amax(1).argsort()[:100]], ax=right).set_title("doubted most")
    save(figure, path)


if __name__ == "__main__":
    main()
