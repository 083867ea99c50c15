"""Log-likelihood of variational autoencoders with 50 latent variables on binary digits, in nats.

The digits are the fixed binarisation of MNIST by Salakhutdinov and Murray (2008). Encoder and
decoder have two layers of 200 units, as in Burda, Grosse and Salakhutdinov (2016). Training uses
the 60,000 images that are not test images, except for a validation share by which the best pass is
chosen (``--apart 0``: train on all, keep the last pass). ``--particles 1`` maximises the evidence
lower bound, a larger number the importance-weighted bound; with several numbers each stage starts
from the networks of the previous one. ``--mixed`` computes matrix products of training in bfloat16.

With ``--dreams N`` the encoder is finally fitted in N steps to images sampled from the model, the
sleep phase of Hinton, Dayan, Frey and Neal (1995). This leaves the model unchanged and makes the
encoder a better proposal of importance sampling for images that were not in the training data.

Prints the bound of each pass against CPU seconds, on validation images if there are any, and the
mean log-likelihood of test images, estimated with 5,000 samples each. ``--file`` saves the networks
after each stage; another run continues from them.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import pgnn

CODES, UNITS = 50, 200


def main() -> None:
    """Print the curve, and nats of the test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=60_000, help="training and validation images")
    parser.add_argument("--apart", type=float, default=1 / 6, help="validation share")
    parser.add_argument("--particles", type=int, nargs="*", default=[1], help="of each stage")
    parser.add_argument("--passes", type=int, nargs="*", default=[100], help="of each stage")
    parser.add_argument(
        "--rate", type=float, nargs="*", default=[2e-3], help="initial, of each stage"
    )
    parser.add_argument("--tests", type=int, default=1000, help="number of test images")
    parser.add_argument("--mixed", action="store_true", help="mixed precision")
    parser.add_argument("--dreams", type=int, default=0, help="steps of the encoder alone")
    parser.add_argument("--file", type=Path, help="of the networks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, test = read(args.data / "images" / "mnist" / "binarized_mnist_packed.npz")
    rows, test = rows[: args.rows], test[:: len(test) // args.tests]
    vae = autoencoder(rows.mean(0))
    if args.file and args.file.exists():
        vae.load_state_dict(torch.load(args.file))
    for particles, passes, rate in zip(args.particles, args.passes, args.rate, strict=True):
        fit(vae, rows, Stage(particles, passes, rate, args.apart, args.mixed))
        if args.file:
            torch.save(vae.state_dict(), args.file)
        report(vae, test)
    if args.dreams:
        dream(vae, args.dreams)
        report(vae, test)


class Stage(NamedTuple):
    """Settings of a training stage."""

    particles: int
    passes: int
    rate: float
    apart: float
    mixed: bool


def fit(vae: pgnn.VAE, rows: Tensor, stage: Stage) -> None:
    """Maximise a bound by Adam, and print its curve."""
    begin = time.process_time()
    particles, passes, rate, apart, mixed = stage
    bound = pgnn.ImportanceWeighted(particles) if particles > 1 else pgnn.Elbo(closed_form=True)
    learner = pgnn.LowerBound(
        bound=bound, batch_size=100, max_iterations=passes, validation=apart, mixed_precision=mixed,
        optimizer=lambda p: torch.optim.Adam(p, lr=rate, fused=True),
        scheduler=lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.01, passes),
        watch={"cpu": lambda _: time.process_time() - begin},
    )  # fmt: skip
    vae.fit(rows, learner=learner, seed=0, progress=False)
    trace = vae.history["trace"]
    bounds = trace["validation"] if apart else trace["mean_lower_bound"]
    curve = list(zip(range(1, passes + 1), bounds, trace["cpu"], strict=False))
    for count, value, seconds in sorted({*curve[:: max(1, passes // 10)], curve[-1]}):
        print(f"{particles} particles, pass {count}: bound {value:.2f}, {seconds:.0f} CPU s")


def dream(vae: pgnn.VAE, steps: int) -> None:
    """Maximise the mean of log q(z | x) over samples z, x of the model by Adam."""
    begin = time.process_time()
    encoder = list(vae.recognition["z"].parameters())
    optimizer = torch.optim.Adam(encoder, lr=5e-4, fused=True)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for step in range(steps):
        samples = vae.sample(200, seed=step)
        loss = -vae.encode(samples["x"]).log_prob(samples["z"]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
    print(f"{steps} steps on samples of the model, {time.process_time() - begin:.0f} CPU s")


def report(vae: pgnn.VAE, test: Tensor) -> None:
    """Print nats of test images."""
    begin = time.process_time()
    nats = -vae.anomaly_score(test, draws=5000, seed=0)
    error = float(nats.std() / len(nats) ** 0.5)
    print(f"{len(test)} test images: {float(nats.mean()):.2f} nats (standard error {error:.2f}), "
          f"{time.process_time() - begin:.0f} CPU s", flush=True)  # fmt: skip


def read(path: Path) -> tuple[Tensor, Tensor]:
    """Return images ``(N, 784)`` to learn from, and others."""
    packed = np.load(path)
    train, valid, test = (
        torch.from_numpy(np.unpackbits(packed[name], axis=1)[:, :784]).float()
        for name in ("train", "valid", "test")
    )
    return torch.cat([train, valid]), test


def autoencoder(mean: Tensor) -> pgnn.VAE:
    """Return the networks; the decoder begins with the mean image."""
    torch.manual_seed(0)

    def layers(*sizes: int) -> list[nn.Module]:
        return [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.Tanh())]

    encoder = nn.Sequential(*layers(784, UNITS, UNITS), nn.Linear(UNITS, 2 * CODES))
    last = nn.Linear(UNITS, 784)
    with torch.no_grad():
        last.bias.copy_(mean.clamp(0.001, 0.999).logit())
    decoder = nn.Sequential(*layers(CODES, UNITS, UNITS), last)
    return pgnn.VAE(encoder, decoder, pgnn.BernoulliHead((784,)), CODES)


if __name__ == "__main__":
    main()
