"""Rewrite diagnosis networks that were published as small tables as noisy-or networks.

In the networks of the Promedas project (UAI 2014 competition), every factor is a noisy-or of at
most two causes: findings with hundreds of diseases were decomposed into chains. Without this
decomposition, the networks have two layers, diseases and findings, and exact inference combines
the diseases in one order for all findings. For the largest network, exact inference is infeasible
in the published form.
"""

from __future__ import annotations

import math

from common import arguments, save

import pgnn

NAMES = [*(f"pr_mar/Promedus_{k}.uai" for k in (11, 13, 16, 24, 27)), "map/Promedas_12.uai.gz"]
Gates = dict[int, tuple[float, dict[int, float]]]  # child -> leak, and strength of each cause


def recognised(field: pgnn.MarkovRandomField) -> Gates:
    """The noisy-or of each variable; a factor's first variable is the child."""
    gates = {}
    for factor in field.factors():
        child, *causes = factor.variables
        gate = pgnn.NoisyOr.from_table(child, causes, factor.values.movedim(0, -1))
        strengths = dict(zip((v.name for v in causes), gate.strengths.tolist(), strict=True))
        gates[child.name] = float(gate.leak), strengths
    return gates


def merged(links: Gates, observed: dict[int, int]) -> Gates:
    """Put every link that was not observed into the one effect that it surely brings about."""
    gates = {child: (leak, dict(causes)) for child, (leak, causes) in links.items()}
    effects: dict[int, set[int]] = {child: set() for child in links}
    for child, (_, causes) in links.items():
        for cause in causes:
            effects[cause].add(child)
    for link in links:
        leak, causes = gates[link]
        child = next(iter(effects[link]), link)
        other, strengths = gates[child]
        chained = causes and len(effects[link]) == 1 and strengths[link] > 1.0 - 1e-12
        if link in observed or not chained:
            continue
        del gates[link], strengths[link]
        for cause, strength in causes.items():
            strengths[cause] = 1.0 - (1.0 - strengths.get(cause, 0.0)) * (1.0 - strength)
            effects[cause] = effects[cause] - {link} | {child}
        gates[child] = 1.0 - (1.0 - other) * (1.0 - leak), strengths
    return gates


def network(gates: Gates) -> pgnn.BayesianNetwork:
    """The network of some gates; one without causes is a prior."""
    variables = {name: pgnn.Variable(name, 2) for name in gates}
    conditionals = {
        child: pgnn.NoisyOr(variables[child], [variables[c] for c in causes], causes, leak)
        for child, (leak, causes) in gates.items()
    }
    edges = [(cause, child) for child, (_, causes) in gates.items() for cause in causes]
    return pgnn.BayesianNetwork(edges, conditionals, states=variables)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return log10 of each network's evidence, and its treewidths as published and rewritten."""
    import matplotlib.pyplot as plt

    args = arguments(__doc__ or "", argv)
    found, engine = {}, pgnn.JunctionTree()
    figure, axis = plt.subplots(figsize=(7, 4))
    for file in NAMES:
        name = file.partition("/")[2].partition(".")[0]
        field = pgnn.read(args.data / "uai" / file)
        observed = pgnn.read_evidence(args.data / "uai" / f"{file.removesuffix('.gz')}.evid")
        model = network(merged(recognised(field), observed))
        before, after = (m.explain(None, observed, engine=engine).treewidth for m in (field, model))
        evidence = float(model.query(None, observed).log_evidence) / math.log(10)
        print(f"{name:<12} treewidth {before:>3} -> {after:>2}, log10 p = {evidence:.6f}")
        found |= {name: evidence, f"{name}, as published": before, f"{name}, rewritten": after}
        axis.plot([name, name], [before, after], "o-")
    axis.set(ylabel="treewidth", title="as published (above), rewritten as noisy-or (below)")
    save(figure, args.out / "diagnosis.png")
    return found


if __name__ == "__main__":
    main()
