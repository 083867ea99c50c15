"""Topics of newsgroup postings, learned by a sigmoid belief network.

The data are postings of 20 newsgroups, as indicators of 100 words (Roweis 2006). A sigmoid belief
network with two hidden layers is trained by reweighted wake-sleep. The topic of a unit of the lower
layer is its effect on the probabilities of the words. The bound on the log-likelihood of test
postings is compared with that of independent words and of a restricted Boltzmann machine.
"""

from __future__ import annotations

import numpy as np
import torch
from common import arguments, save

import pgnn


def main(argv: list[str] | None = None, epochs: int = 30, hidden: int = 20) -> dict[str, float]:
    """Return mean log probabilities of unseen postings, in nats: bounds, or exact ones."""
    args = arguments(__doc__ or "", argv)
    words, names = read(args.data / "text" / "20news_w100.npz")
    order = np.random.default_rng(0).permutation(len(words))
    train, test = words[order[:12000]], words[order[12000:]]
    share = train.mean(0).clip(1e-4, 1 - 1e-4)
    alone = test * np.log(share) + (1 - test) * np.log(1 - share)
    found = {"independent": float(alone.sum(1).mean())}
    network = pgnn.SigmoidBeliefNetwork([100, hidden, 5])
    learner = pgnn.WakeSleep(samples=5, epochs=epochs)
    network.fit(train, learner=learner, seed=0)
    found["belief network, bound"] = float(network.bound(test, samples=100).mean())
    machine = pgnn.RestrictedBoltzmannMachine(100, min(hidden, 20))
    machine.fit(train, learner=pgnn.ContrastiveDivergence(epochs=epochs), seed=0)
    found["restricted machine, exact"] = float(machine.log_prob(test).mean())
    for name, value in found.items():
        print(f"{name:<28} {value:.2f} nats a posting")
    strength = network.weights[0].detach().numpy()
    for k in np.argsort(-np.square(strength).sum(0))[:6]:
        print(f"unit {k:>2}:", ", ".join(names[i] for i in np.argsort(-strength[:, k])[:7]))
    draw(strength, names, network, args.out / "news_topics.png")
    return found


def read(path) -> tuple[np.ndarray, list[str]]:
    """Return which words occur, ``(N, 100)``, and the words."""
    with np.load(path) as file:
        return (file["documents"] != 0).astype(np.int64), file["wordlist"].tolist()


def draw(strength: np.ndarray, names: list[str], network, path) -> None:
    """Show the strongest units' words, and the bound over the passes."""
    import matplotlib.pyplot as plt

    units = np.argsort(-np.square(strength).sum(0))[:10]
    chosen = np.argsort(-np.abs(strength[:, units]).max(1))[:40]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 4), layout="constrained", width_ratios=(3, 1)
    )
    left.imshow(strength[np.ix_(chosen, units)].T, cmap="RdBu_r", vmin=-4, vmax=4, aspect="auto")
    left.set_xticks(range(len(chosen)), [names[i] for i in chosen], rotation=90, fontsize=7)
    left.set_ylabel("hidden unit")
    right.plot(network.history["trace"]["bound"])
    right.set(xlabel="pass", ylabel="bound, nats a posting")
    save(figure, path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
