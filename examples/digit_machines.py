"""Generate and complete handwritten digits with an RBM, a mixture and a deep belief network.

The models are trained on binary MNIST (Salakhutdinov and Murray 2008). The example computes bounds
on the log-likelihood of test digits, and completes digits whose lower half is missing.
"""

from __future__ import annotations

import numpy as np
import torch
from common import arguments, save

import pgnn


def main(
    argv: list[str] | None = None, rows: int = 50_000, epochs: int = 20, hidden: int = 500
) -> dict[str, float]:
    """Return bounds of the mean log probability, and errors of the lower half, in shares."""
    args = arguments(__doc__ or "", argv)
    packed = np.load(args.data / "images" / "mnist" / "binarized_mnist_packed.npz")
    train, test = (np.unpackbits(packed[n], axis=1)[:, :784] for n in ("train", "test"))
    learned, unobserved = torch.from_numpy(train[:rows]), torch.from_numpy(test[::10])
    machine = pgnn.RestrictedBoltzmannMachine(pgnn.Variable("visible", 2, (28, 28)), hidden).float()
    learner = pgnn.ContrastiveDivergence(epochs=epochs)
    machine.fit(learned, learner=learner, seed=0)
    bracket = machine.log_partition_bracket(learned, seed=0)
    low, high = (float(x) for x in bracket.log_prob(-machine.free_energy(unobserved).mean()))
    print(f"restricted machine: test log probability between {low:.1f} and {high:.1f} ({bracket})")
    deep = pgnn.DeepBeliefNetwork([784, hidden, hidden]).float()
    deep.fit(learned, learner=pgnn.GreedyLayerwise(learner), seed=0)
    half = unobserved[::100].float()
    half[:, 392:] = torch.nan
    known = {"visible": half.reshape(-1, 28, 28)}
    chains = pgnn.Gibbs(chains=4, burn_in=200, samples=200, seed=0, max_r_hat=10.0)
    answer = machine.query("visible", known, engine=chains)
    completed = {
        "restricted machine": answer["visible"].probs[..., 1],
        "mixture": mixed(learned, half),
        "deep belief network": dreamt(deep, half),
    }
    completed = {name: x.reshape(-1, 784) for name, x in completed.items()}
    truth = unobserved[::100, 392:].bool()
    errors = {n: float(((x[:, 392:] > 0.5) != truth).double().mean()) for n, x in completed.items()}
    print({n: round(x, 3) for n, x in errors.items()})
    draw(machine, {"digits": unobserved[::100].float(), "observed": half, **completed}, args.out)
    return {"low": low, "high": high, **errors}


def mixed(rows: torch.Tensor, half: torch.Tensor, count: int = 30) -> torch.Tensor:
    """Return pixels expected by a mixture of independent pixels."""
    mixture = pgnn.Mixture(count, {"visible": pgnn.Bernoulli})
    mixture.fit({"visible": rows.double()}, learner=pgnn.EM(tolerance=1e-3), seed=0)
    share = mixture.query("component", {"visible": half.double()})["component"].probs
    pixels = share @ mixture.conditionals["visible"].probs.detach()
    return torch.where(half.isnan(), pixels.float(), half)


def dreamt(deep: pgnn.DeepBeliefNetwork, half: torch.Tensor) -> torch.Tensor:
    """Return the mean of what recognition and dreams in turn make of the missing pixels."""
    rng, top, total = torch.Generator().manual_seed(0), deep.top_machine().layers(), 0.0
    state = torch.where(half.isnan(), torch.full_like(half, 0.13), half)
    for t in range(60):
        above = deep.recognise(state, rng)
        pair = {"visible": above[1], "hidden": above[2]}
        top.sweep(pair, rng, ["hidden", "visible"])
        field = torch.addmm(deep.biases[0], pair["visible"], deep.weights[0].T).sigmoid().detach()
        state = torch.where(half.isnan(), torch.bernoulli(field, generator=rng), half)
        total = total + field * (t >= 20) / 40
    return torch.where(half.isnan(), total, half)


def draw(machine: pgnn.RestrictedBoltzmannMachine, rows: dict[str, torch.Tensor], out) -> None:
    """Show filters, and each model's digits below each other."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    pgnn.plot.filters(machine, ax=left)
    picture = torch.cat([torch.cat(x.reshape(-1, 28, 28).unbind(), 1) for x in rows.values()])
    right.imshow(picture.numpy(), cmap="gray_r")
    right.set(xticks=[], yticks=28 * np.arange(len(rows)) + 14, yticklabels=list(rows))
    save(figure, out / "digit_machines.png")


if __name__ == "__main__":
    main()
