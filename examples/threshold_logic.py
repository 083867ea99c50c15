"""Circuits of threshold units: parity by a deep network and by a shallow one.

A unit is 1 if its weighted inputs reach a threshold (McCulloch and Pitts 1943, A logical calculus
of the ideas immanent in nervous activity). With units as tables of a Bayesian network, inputs can
be uncertain, or inferred from outputs. Parity of N inputs takes 2^(N-1) conjunctions and an Or, or
3 (N - 1) units in a chain. A polygon is the And of six half-planes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from common import arguments, save

import pgnn


def gate(name: str, inputs: Sequence[str], weights: Sequence[float], least: float) -> dict:
    """Return a unit: where the weighted sum of its inputs reaches a number it is 1."""
    corners = np.array(list(itertools.product([0, 1], repeat=len(inputs))))
    on = (corners @ np.array(weights) >= least).astype(float)
    table = np.stack([1 - on, on], axis=1).reshape(*[2] * len(inputs), 2)
    parents = [pgnn.Variable(n, 2) for n in inputs]
    return {name: pgnn.Tabular(pgnn.Variable(name, 2), parents, table)}


def network(inputs: Sequence[str], units: dict, odds: float = 0.5) -> pgnn.BayesianNetwork:
    """Return a network of gates over inputs that are 1 with some probability."""
    roots = {n: pgnn.Tabular(pgnn.Variable(n, 2), [], [1 - odds, odds]) for n in inputs}
    edges = [(v.name, name) for name, unit in units.items() for v in unit.parents]
    return pgnn.BayesianNetwork(edges, {**roots, **units})


def deep(inputs: Sequence[str]) -> dict:
    """Parity as a chain of exclusive ors, each of an Or, a Nand and an And."""
    units, before = {}, inputs[0]
    for k, name in enumerate(inputs[1:], 1):
        out = "parity" if k == len(inputs) - 1 else f"xor{k}"
        units |= gate(f"or{k}", [before, name], [1, 1], 1)
        units |= gate(f"nand{k}", [before, name], [-1, -1], -1)
        units |= gate(out, [f"or{k}", f"nand{k}"], [1, 1], 2)
        before = out
    return units


def flat(inputs: Sequence[str]) -> dict:
    """Parity as an Or of all conjunctions with an odd number of ones."""
    units: dict = {}
    for corner in itertools.product([0, 1], repeat=len(inputs)):
        if sum(corner) % 2:
            name = "and" + "".join(map(str, corner))
            units |= gate(name, inputs, [1 if x else -1 for x in corner], sum(corner))
    return units | gate("parity", list(units), [1] * len(units), 1)


def main(argv: list[str] | None = None, number: int = 4) -> dict[str, float]:
    """Compare both with the truth table, ask them backwards, draw widths and a polygon."""
    args = arguments(__doc__, argv)
    inputs = [f"x{k}" for k in range(number)]
    corners = np.array(list(itertools.product([0, 1], repeat=number)))
    rows = {n: corners[:, k] for k, n in enumerate(inputs)}
    found = {}
    for name, units in (("deep", deep(inputs)), ("flat", flat(inputs))):
        model = network(inputs, units)
        right = model.query("parity", rows)["parity"].probs[:, 1].numpy() == corners.sum(1) % 2
        given = {"parity": 1, **dict.fromkeys(inputs[1:], 1)}
        back = float(model.query(inputs[0], given)[inputs[0]].probs[1])
        noisy = float(network(inputs, units, 0.1).query("parity")["parity"].probs[1])
        figures = {"units": len(units), "right": right.mean(), "back": back, "odd": noisy}
        print(name, ", ".join(f"{n} {x:g}" for n, x in figures.items()))
        found |= {f"{name} {n}": float(x) for n, x in figures.items()}
    figure, (widths, polygon) = plt.subplots(1, 2, figsize=(9, 4))
    counts = np.arange(2, 13)
    widths.semilogy(counts, 2.0 ** (counts - 1) + 1, "o-", label="an Or of conjunctions")
    widths.semilogy(counts, 3 * (counts - 1), "s-", label="a chain of exclusive ors")
    widths.set(xlabel="inputs", ylabel="units", title="Parity")
    widths.legend()
    angles, grid = np.arange(6) * np.pi / 3, np.linspace(-1.6, 1.6, 200)
    sides = [np.cos(a) * grid + np.sin(a) * grid[:, None] <= 1 for a in angles]
    polygon.contourf(grid, grid, np.sum(sides, axis=0) >= 6, cmap="Blues")
    polygon.set(title="Six half-planes and an And", aspect="equal")
    save(figure, args.out / "threshold_logic.png")
    return found


if __name__ == "__main__":
    main()
