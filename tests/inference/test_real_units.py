"""Real units that were not observed: mixtures of normal distributions, and chains over them."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, Intractable


def machine(units: int = 3, hidden: int = 4, spread: float = 1.0) -> pgnn.EnergyModel:
    rng = np.random.default_rng(1)
    model = pgnn.RestrictedBoltzmannMachine(
        pgnn.Variable("v", shape=(units,)), hidden, labels=pgnn.Variable("label", 3),
        variance=np.linspace(0.5, 2.0, units), temperature=1.3,
    )  # fmt: skip
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(spread * rng.normal(size=p.shape)))
    return model.requires_grad_(False)


def integrated(model: pgnn.EnergyModel, evidence: dict) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of ``v[1]``, by a sum over a grid of its density."""
    grid = np.linspace(-25, 25, 4001)
    rows = {n: [x] * len(grid) for n, x in evidence.items()}
    score = model.log_score({**rows, ("v", 1): grid} if "v" not in rows else {
        **rows, "v": np.column_stack([[evidence["v"][0]] * len(grid), grid,
                                      [np.nan] * len(grid)])}).numpy()  # fmt: skip
    weight = np.exp(score - score.max())
    weight /= weight.sum()
    mean = weight @ grid
    return mean, np.sqrt(weight @ (grid - mean) ** 2)


@pytest.mark.parametrize("evidence", [{}, {"label": 1}, {"v": [0.3, None, None], "label": 0}],
                         ids=["nothing", "label", "partly"])  # fmt: skip
def test_marginals_are_those_of_the_integrated_density(evidence: dict) -> None:
    model = machine()
    answer = model.query(["v", "hidden"], evidence)
    assert answer.kind == "exact"
    want = model.query("hidden", evidence)
    torch.testing.assert_close(answer["hidden"].probs, want["hidden"].probs)
    torch.testing.assert_close(answer.log_evidence, want.log_evidence)
    mean, std = integrated(model, evidence)
    assert float(answer["v"].mean[1]) == pytest.approx(mean, abs=1e-6)
    assert float(answer["v"].std[1]) == pytest.approx(std, abs=1e-6)
    if "v" in evidence:
        assert float(answer["v"].mean[0]) == pytest.approx(0.3)
        assert float(answer["v"].std[0]) == pytest.approx(0.0, abs=1e-12)
    assert answer.summary().shape == (3, 5)


def test_rows_see_different_units() -> None:
    model = machine()
    rows = {"v": [[0.3, None, None], [None] * 3], "label": [1, None]}
    both = model.query("v", rows)
    for k, one in enumerate(({"v": [0.3, None, None], "label": 1}, {})):
        torch.testing.assert_close(both["v"].mean[k], model.query("v", one)["v"].mean)
        torch.testing.assert_close(both["v"].quantile(0.3)[k], model.query("v", one)["v"]
                                   .quantile(0.3))  # fmt: skip
    known = model.query("v", {"hidden": [1, 0, 1, 1], "label": 2})
    h = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.double)
    torch.testing.assert_close(known["v"].mean, model.real.bias + model.real.weight @ h)
    with pytest.raises(EvidenceError, match="has no posterior"):
        model.query("v", {"v": [0.0, 1.0, 2.0]})
    with pytest.raises(Intractable, match="mixtures of"):
        model.query("v", {"v": np.full((2_000_000, 3), np.nan)})


def test_many_states_are_drawn() -> None:
    model = machine(5, 14, 0.3)
    answer = model.query("v", engine=pgnn.AutomaticUnits(seed=0))
    assert answer.kind == "estimate"
    drawn = model.sample(20_000, seed=1)["v"]
    torch.testing.assert_close(answer["v"].mean, drawn.mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(answer["v"].std, drawn.std(0), atol=0.15, rtol=0)


@pytest.mark.parametrize("evidence", [{}, {("hidden", 0): 1, "label": 1}], ids=["free", "given"])
def test_hamiltonian_chains_on_the_free_energy(evidence: dict) -> None:
    model = machine()
    chains = pgnn.MCMC(samples=1000, warmup=200, seed=0, progress=False)
    found = model.query(["v", "hidden"], evidence, engine=chains)
    want = model.query(["v", "hidden"], evidence)
    assert float(found["v"].r_hat.max()) < 1.02
    torch.testing.assert_close(found["v"].mean, want["v"].mean, atol=0.15, rtol=0)
    torch.testing.assert_close(found["v"].std, want["v"].std, atol=0.1, rtol=0)
    torch.testing.assert_close(found["hidden"].probs, want["hidden"].probs, atol=0.05, rtol=0)
