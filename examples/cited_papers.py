"""Classify papers by their words and by the citations between them, with graph convolutions.

Of 2,708 papers, 140 have a label: twenty of each of seven classes. A network of two graph
convolutions (Kipf and Welling 2017) takes the words of all papers and passes them along the
citations. It is the conditional distribution of a paper's class, with the number of the paper as
input. It is compared with the same layers without edges, which use only a paper's own words.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import torch
from common import arguments, save
from torch import Tensor, nn

import pgnn
from pgnn import neural


def papers(path: Path) -> tuple[nx.Graph, Tensor, Tensor, Tensor]:
    """The citations, the words of each paper, its kind, and the numbers of those to be told."""
    held = np.load(path)

    def words(part: str) -> np.ndarray:
        indptr, shape = held[f"{part}_indptr"], held[f"{part}_shape"]
        rows = np.zeros(shape, dtype=np.float32)
        row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        rows[row, held[f"{part}_indices"]] = held[f"{part}_data"]
        return rows

    test = held["test_index"]
    number = len(held["ally"]) + len(test)
    x = np.concatenate([words("allx"), np.zeros_like(words("tx"))])
    kinds = np.concatenate([held["ally"], np.zeros_like(held["ty"])])
    x[test], kinds[test] = words("tx"), held["ty"]
    graph = nx.empty_graph(number)
    graph.add_edges_from((int(a), int(b)) for a, b in held["edges"] if a != b)
    x /= np.maximum(x.sum(1, keepdims=True), 1.0)
    return graph, torch.from_numpy(x), torch.from_numpy(kinds.argmax(1)), torch.from_numpy(test)


def fitted(graph: nx.Graph, x: Tensor, kind: Tensor, steps: int) -> pgnn.BayesianNetwork:
    """A network of two convolutions, learned from the first 140 papers."""
    torch.manual_seed(0)
    first = neural.GraphConvolution(graph, x.shape[1], 16)
    second = neural.GraphConvolution(graph, 16, 7)
    layers = nn.Sequential(nn.Dropout(), first, nn.ReLU(), nn.Dropout(), second)
    network = neural.AtNodes(layers, x)
    told = pgnn.Neural(pgnn.Variable("kind", 7), [], network, inputs=["paper"])
    model = pgnn.BayesianNetwork([], [told])
    penalty = {
        n: 5e-4 for n, _ in model.named_parameters() if n.endswith("network.1.linear.weight")
    }
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.01), l2=penalty, max_iterations=steps
    )
    known = torch.arange(140)
    return model.fit({"kind": kind[known]}, inputs={"paper": known}, learner=learner, seed=0)


def main(argv: list[str] | None = None, steps: int = 200) -> dict[str, float]:
    """Return the shares of the thousand papers told right."""
    args = arguments(__doc__ or "", argv)
    graph, x, kind, test = papers(args.data / "graphs" / "cora_planetoid.npz")
    right, shares = {}, {}
    for name, edges in (("graph", graph), ("words alone", nx.empty_graph(len(graph)))):
        model = fitted(edges, x, kind, steps)
        shares[name] = model.query("kind", inputs={"paper": test})["kind"].probs
        right[name] = float((shares[name].argmax(1) == kind[test]).double().mean())
        print(f"{name:<12} {right[name]:.1%} of 1,000 papers right")
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    for ax, (name, probs) in zip(axes, shares.items(), strict=True):
        table = torch.zeros(7, 7).index_add(0, kind[test], probs.float())
        ax.imshow((table / table.sum(1, keepdim=True)).numpy(), cmap="gray_r", vmin=0, vmax=1)
        ax.set(title=f"{name}: {right[name]:.1%} right", xlabel="told", ylabel="kind")
    save(figure, args.out / "cited_papers.png")
    return right


if __name__ == "__main__":
    main()
