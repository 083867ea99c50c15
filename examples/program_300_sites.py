"""Exact inference in a Pyro program with three hundred discrete sites.

Three hundred sensors stand along a pipe. Each is in one of three conditions, which depends on that
of its neighbour; every fifty sensors there is a valve, open or shut. The program is a plain loop
without ``pyro.markov``, plates or dimensions. Pyro's own enumeration allocates a tensor dimension
for each site and stops at 64. Here two sites need different dimensions only if some table contains
both.
"""

from __future__ import annotations

import time

import pyro
import pyro.distributions as dist
import torch
from common import arguments, save

import pgnn

SENSORS, SECTION = 300, 50
STATES = ("fine", "worn", "broken")


def pipe(readings: dict[int, torch.Tensor]) -> None:
    """Sample the valves and the conditions; some sensors send a reading."""
    alone = torch.tensor([[0.9, 0.08, 0.02]] * 3).double()
    spread = torch.tensor([[0.97, 0.025, 0.005], [0.05, 0.9, 0.05], [0.02, 0.08, 0.9]]).double()
    table = torch.stack([0.5 * alone + 0.5 * spread, 0.2 * alone + 0.8 * spread])
    level = torch.tensor([0.0, 1.0, 3.0]).double()
    state = torch.tensor(0)
    for k in range(SENSORS):
        if k % SECTION == 0:
            valve = pyro.sample(f"valve_{k // SECTION}", dist.Bernoulli(torch.tensor(0.3).double()))
        state = pyro.sample(f"state_{k}", dist.Categorical(table[valve.long(), state]))
        if k in readings:
            pyro.sample(f"reading_{k}", dist.Normal(level[state], 0.8), obs=readings[k])


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return the treewidth, the log evidence, and the share of sensors decoded correctly."""
    import matplotlib.pyplot as plt

    options = arguments(__doc__ or "", argv)
    drawn = pgnn.Program(pipe, args=({},)).sample(1, seed=4)
    truth = torch.cat([drawn[f"state_{k}"] for k in range(SENSORS)])
    noise = torch.randn(SENSORS, generator=torch.Generator().manual_seed(0)).double()
    level = torch.tensor([0.0, 1.0, 3.0]).double()
    observed = range(15, SENSORS, 30)
    readings = {k: level[truth[k]] + 0.8 * noise[k] for k in observed}

    begin = time.perf_counter()
    model = pgnn.Program(pipe, args=(readings,))
    found = time.perf_counter()
    posterior = model.query()
    print(model)
    print(model.explain())
    print(f"sites found in {found - begin:.2f} s, answered in {time.perf_counter() - found:.2f} s")
    valves = [f"valve_{k}" for k in range(SENSORS // SECTION)]
    print(model.query(valves))

    probs = torch.stack([posterior[f"state_{k}"].probs for k in range(SENSORS)]).T
    figure, axes = plt.subplots(2, sharex=True, figsize=(9, 4), height_ratios=[1, 2])
    axes[0].step(range(SENSORS), truth, where="mid", color="black")
    axes[0].set(yticks=range(3), yticklabels=STATES, title="what was drawn")
    axes[1].stackplot(
        range(SENSORS), *probs, labels=STATES, colors=["#9ecae1", "#fdae6b", "#de2d26"]
    )
    for k in observed:
        axes[1].axvline(k, color="black", lw=0.5, ls=":")
    axes[1].set(xlabel="sensor (dotted: read)", ylabel="posterior", ylim=(0, 1))
    axes[1].legend(loc="lower right")
    save(figure, options.out / "program_300_sites.png")
    plt.close(figure)
    return {
        "treewidth": model.explain().treewidth or 0,
        "log evidence": float(posterior.log_evidence),
        "right": float((probs.argmax(0) == truth).double().mean()),
    }


if __name__ == "__main__":
    main()
