"""Boltzmann machines of all kinds against sums over all states, written down in NumPy."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, EvidenceError, Intractable, ModelError

RNG = np.random.default_rng(0)
W = RNG.normal(size=(6, 6))
W = np.triu(W, 1) + np.triu(W, 1).T
B = RNG.normal(size=6)


def all_states(units: int, values: Sequence[float] = (0, 1)) -> np.ndarray:
    return np.array(list(itertools.product(values, repeat=units)), dtype=float)


def log_sum(x: np.ndarray, axis: int | None = None) -> np.ndarray:
    top = x.max()
    return np.asarray(top + np.log(np.exp(x - top).sum(axis=axis)))


@pytest.mark.parametrize("values", [(0, 1), (-1, 1)])
def test_boltzmann_machine_equals_enumeration(values: tuple[int, int]) -> None:
    states = 2 if values == (0, 1) else values
    model = pgnn.BoltzmannMachine(4, 2, weight=W, bias=B, temperature=1.3, states=states)
    x = all_states(6, values)
    energy = -0.5 * np.einsum("ni,ij,nj->n", x, W, x) - x @ B
    log_p = -energy / 1.3 - log_sum(-energy / 1.3)
    whole = {"visible": x[:, :4].astype(int), "hidden": x[:, 4:].astype(int)}
    np.testing.assert_allclose(model.energy(whole), energy, atol=1e-12)
    np.testing.assert_allclose(model.log_prob(whole), log_p, atol=1e-12)
    np.testing.assert_allclose(model.log_partition(), log_sum(-energy / 1.3), atol=1e-12)
    by_visible = log_sum(log_p.reshape(16, 4), axis=1)
    np.testing.assert_allclose(
        model.log_prob({"visible": x[::4, :4].astype(int)}), by_visible, atol=1e-12
    )
    observed = {"visible": [values[1], None, values[0], None]}
    chosen = (x[:, 0] == values[1]) & (x[:, 2] == values[0])
    weight = np.exp(log_p) * chosen
    on = (weight @ (x == values[1])) / weight.sum()
    answer = model.query(None, observed)
    assert answer.kind == "exact"
    np.testing.assert_allclose(answer["visible"].probs[:, 1], on[:4], atol=1e-12)
    np.testing.assert_allclose(answer["hidden"].probs[:, 1], on[4:], atol=1e-12)
    best = model.most_probable(observed)
    place = int(np.where(chosen, log_p, -np.inf).argmax())
    assert [*best["visible"], *best["hidden"]] == x[place].astype(int).tolist()
    drawn = model.sample(4000, observed, seed=0)
    np.testing.assert_allclose(drawn["hidden"].double().mean(0), on[4:], atol=0.03)


def test_the_couplings_may_be_written_in_other_ways() -> None:
    """Full sums have the conditional sigma(2 a + b), pairs that of sigma(a + b)."""
    u = RNG.normal(size=(5, 5))
    u = (u + u.T) / 2
    x = all_states(5)
    full = pgnn.BoltzmannMachine.from_full_sum(u, B[:5])
    np.testing.assert_allclose(
        full.energy({"visible": x.astype(int)}), -np.einsum("ni,ij,nj->n", x, u, x) - x @ B[:5]
    )
    rest = [1, 0, 1, 1]
    off = u - np.diag(np.diag(u))
    want = 1 / (1 + np.exp(-(2 * off[0, 1:] @ rest + B[0] + u[0, 0])))
    got = full.query(("visible", 0), {("visible", k + 1): s for k, s in enumerate(rest)})
    assert float(got[("visible", 0)].probs[1]) == pytest.approx(want)
    pairs = pgnn.BoltzmannMachine.from_pairs(u, B[:5])
    want = 1 / (1 + np.exp(-(u[0, 1:] @ rest + B[0])))
    got = pairs.query(("visible", 0), {("visible", k + 1): s for k, s in enumerate(rest)})
    assert float(got[("visible", 0)].probs[1]) == pytest.approx(want)
    spins = pgnn.BoltzmannMachine.from_full_sum(u, B[:5], states=(-1, 1))
    s = 2 * x - 1
    shift = np.trace(u)
    np.testing.assert_allclose(
        spins.energy({"visible": s.astype(int)}),
        -np.einsum("ni,ij,nj->n", s, u, s) - s @ B[:5] + shift,
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_spins_and_binary_units_are_one_distribution(temperature: float) -> None:
    model = pgnn.BoltzmannMachine(4, 2, weight=W, bias=B, temperature=temperature)
    x = all_states(4).astype(int)
    want = model.log_prob({"visible": x})
    spins = model.as_spins()
    torch.testing.assert_close(spins.log_prob({"visible": 2 * x - 1}), want)
    torch.testing.assert_close(spins.as_binary().log_prob({"visible": x}), want)


def restricted(visible: pgnn.Variable, temperature: float = 1.0) -> pgnn.EnergyModel:
    variance = {"variance": [0.5, 1.0, 2.0]} if not visible.is_discrete else {}
    model = pgnn.RestrictedBoltzmannMachine(
        visible, 4, labels=pgnn.Variable("label", 3), temperature=temperature, **variance
    )
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape)))
    return model.requires_grad_(False)


VISIBLE = {
    "binary": pgnn.Variable("visible", 2, (2, 2)),
    "spins": pgnn.Variable("visible", (-1, 1), (3,)),
    "categories": pgnn.Variable("visible", 3, (2,)),
}


@pytest.mark.parametrize("kind", VISIBLE)
def test_blocks_answer_as_tables_do(kind: str) -> None:
    """Rows that observe different units; the slow twin is the junction tree on single factors."""
    model, slow = restricted(VISIBLE[kind], 1.2), pgnn.JunctionTree()
    v = VISIBLE[kind]
    rows = np.array(v.states, dtype=object)[RNG.integers(0, v.num_states, (5, *v.shape))]
    rows[0].flat[0] = rows[1].flat[1] = None
    rows[2] = None
    evidence = {"visible": rows.tolist(), "label": [0, None, 2, 1, None]}
    fast, want = model.query(None, evidence), model.query(None, evidence, engine=slow)
    assert fast.engine == "BlockElimination"
    torch.testing.assert_close(fast.log_evidence, want.log_evidence)
    for name in model.variables:
        torch.testing.assert_close(fast.probs(name), want.probs(name))
    best, other = model.most_probable(evidence), model.most_probable(evidence, engine=slow)
    torch.testing.assert_close(best.log_prob, other.log_prob)
    chains = model.query(None, evidence, engine=pgnn.Gibbs(seed=0, samples=4000))
    for name in model.variables:
        torch.testing.assert_close(chains.probs(name), fast.probs(name), atol=0.04, rtol=0)


def test_real_units_are_integrated_out() -> None:
    model = restricted(pgnn.Variable("visible", shape=(3,)), 1.4)
    w, b, s = (x.detach().numpy() for x in (model.real.weight, model.real.bias,
                                            model.real.variance))  # fmt: skip
    c, d = model.bias("hidden").numpy(), model.bias("label").numpy()
    u = model.weight("label", "hidden").numpy()
    h = all_states(4)
    values = RNG.normal(size=(3, 3))
    energy = ((values[:, None, None] - b) ** 2 / (2 * s)).sum(-1)
    energy = energy - ((values / s) @ w @ h.T)[:, None] - (u @ h.T + d[:, None] + h @ c)[None]
    score = log_sum((-energy / 1.4).reshape(3, -1), axis=1)
    np.testing.assert_allclose(model.log_score({"visible": values}), score, atol=1e-9)
    mean = b + h @ w.T
    own = (u @ h.T + d[:, None] + h @ c) / 1.4 + ((mean**2 - b**2) / (2 * s * 1.4)).sum(1)
    total = log_sum(own) + 0.5 * np.log(2 * np.pi * s * 1.4).sum()
    assert float(model.log_partition()) == pytest.approx(float(total))
    partly = values.copy()
    partly[:, 1] = np.nan
    grid = np.linspace(-30, 30, 4001)
    filled = np.repeat(partly[:1], len(grid), 0)
    filled[:, 1] = grid
    want = log_sum(model.log_score({"visible": filled}).numpy()) + np.log(grid[1] - grid[0])
    got = model.log_score({"visible": partly[:1]})
    assert float(got[0]) == pytest.approx(float(want), abs=1e-6)


def test_real_units_are_drawn_given_the_others() -> None:
    model = restricted(pgnn.Variable("visible", shape=(3,)))
    drawn = model.sample(4000, {"visible": [[0.5, np.nan, np.nan]]}, seed=0)
    values = drawn["visible"][:, 0]
    assert bool((values[:, 0] == 0.5).all())
    h = drawn["hidden"][:, 0].double()
    left = values - (model.real.bias + h @ model.real.weight.T)
    np.testing.assert_allclose(left[:, 1:].mean(0), 0.0, atol=0.1)
    np.testing.assert_allclose(left[:, 1:].var(0), model.real.variance[1:], rtol=0.1)
    assert model.sample(5, seed=0)["visible"].shape == (5, 3)


def test_chains_tell_real_units_too() -> None:
    model = restricted(pgnn.Variable("visible", shape=(3,)))
    evidence = {"visible": [[0.5, np.nan, np.nan], [np.nan, np.nan, np.nan]], "label": [1, -1]}
    exact = model.query(["visible", "hidden"], evidence)
    chains = model.query(["visible", "hidden"], evidence, engine=pgnn.Gibbs(seed=0, samples=1000))
    assert (exact.kind, chains.kind, chains.engine) == ("exact", "estimate", "Gibbs")
    spread = exact["visible"].std.nan_to_num()
    error = 5.0 * spread / 1000**0.5  # of means of 1,000 draws
    assert bool(((chains["visible"].mean - exact["visible"].mean).abs() <= error + 1e-9).all())
    torch.testing.assert_close(chains.probs("hidden"), exact.probs("hidden"), atol=0.06, rtol=0)


def test_gradients_of_the_blocks_are_those_of_the_tables() -> None:
    model = restricted(VISIBLE["binary"]).requires_grad_()
    rows = {"visible": RNG.integers(0, 2, (4, 2, 2)), "label": [0, 1, 2, 0]}
    found = []
    for engine in (pgnn.BlockElimination(), pgnn.JunctionTree()):
        total = model.log_prob(rows, engine=engine).sum()
        found.append(torch.autograd.grad(total, list(model.parameters())))
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow)


def test_learning_recovers_couplings_of_visible_units() -> None:
    """With exact correlations the gradient of the likelihood is zero at the truth."""
    truth = pgnn.BoltzmannMachine(4, weight=W[:4, :4], bias=B[:4])
    rows = all_states(4).astype(int)
    weights = truth.log_prob({"visible": rows}).exp()
    model = pgnn.BoltzmannMachine(4).fit(rows, weights=weights, progress=False)
    np.testing.assert_allclose(model.couplings.detach(), W[:4, :4], atol=1e-3)
    np.testing.assert_allclose(model.biases.detach(), B[:4], atol=1e-3)


def test_both_bounds_of_log_z_hold_the_exact_one() -> None:
    rng = np.random.default_rng(3)
    model = pgnn.RestrictedBoltzmannMachine(
        12, 8, weight=rng.normal(size=(12, 8)), visible_bias=rng.normal(size=12),
        hidden_bias=rng.normal(size=8),
    )  # fmt: skip
    exact = float(model.log_partition())
    drawn = model.sample(500, seed=0)["visible"]
    for data in (None, drawn):
        bracket = model.log_partition_bracket(data, temperatures=300, seed=0)
        assert abs(bracket.lower - exact) < 4 * bracket.lower_error + 0.02
        assert abs(bracket.upper - exact) < 4 * bracket.upper_error + 0.02
    assert str(bracket).startswith("log Z between")


def test_a_large_machine_says_that_it_is_too_large() -> None:
    model = pgnn.RestrictedBoltzmannMachine(60, 40)
    with pytest.raises(Intractable, match="log_partition_bracket"):
        model.log_prob(torch.zeros(1, 60, dtype=torch.int64))
    assert model.query("visible", {"hidden": [0] * 40}).kind == "exact"
    answer = model.query("visible", {("visible", 0): 1}, engine=pgnn.Gibbs(samples=50, seed=0))
    assert answer.engine == "Gibbs"
    assert model.explain().engine == "Gibbs"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pgnn.BoltzmannMachine(2, weight=[[0, 1], [2, 0]]), r"symmetric, but \[0, 1\]"),
        (lambda: pgnn.BoltzmannMachine(2, weight=[[1, 0], [0, 0]]), "unit 0 is joined to itself"),
        (lambda: pgnn.BoltzmannMachine(2, weight=np.zeros((3, 3))), r"shape \(2, 2\), got"),
        (lambda: pgnn.BoltzmannMachine(2, temperature=-1.0), "temperature must be positive"),
        (lambda: pgnn.BoltzmannMachine(0), "at least one unit"),
        (lambda: pgnn.BoltzmannMachine("ten"), "number of units"),
        (lambda: pgnn.BoltzmannMachine(pgnn.Variable("v", 3, (2,))), "two states"),
        (lambda: pgnn.RestrictedBoltzmannMachine(2, 2, weight=[[1.0, np.nan]] * 2), "finite"),
        (lambda: pgnn.RestrictedBoltzmannMachine(2, pgnn.Variable("h", shape=(2,))), "discrete"),
        (lambda: pgnn.RestrictedBoltzmannMachine(
            pgnn.Variable("v", shape=(2,)), 2, variance=0.0), "variance .* positive"),
        (lambda: pgnn.RestrictedBoltzmannMachine(
            pgnn.Variable("v", shape=(3,)), 2, variance=[1.0, 2.0]), "one number or 3, got 2"),
        (lambda: pgnn.RestrictedBoltzmannMachine(3, 2, variance=2.0), "is for real units"),
        (lambda: pgnn.BoltzmannMachine(3, bias=[1.0, 2.0]), r"bias must have the shape \(3,\)"),
    ],
)  # fmt: skip
def test_wrong_declarations(make: object, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        make()  # type: ignore[operator]


def test_wrong_rows() -> None:
    model = pgnn.RestrictedBoltzmannMachine(3, 2)
    learner = pgnn.ContrastiveDivergence(epochs=1)
    for rows, says in [
        (torch.tensor([[0.2, 0.0, 1.0]]), "range from 0 to 1; probabilities=True"),
        (np.array([[0, 7, 1]]), "range from 0 to 7"),
        (np.full((2, 3), np.nan), "'visible': no value was observed"),
        (np.zeros((0, 3)), "no rows"),
        ([], "empty"),
        ([[0, 1, 3]], "range from 0 to 3"),
        ([np.zeros((0, 3))], "batch 0: data has no rows"),
    ]:
        with pytest.raises(DataError, match=says):
            model.fit(rows, learner=learner, progress=False)
    assert not any(bool(p.any()) for p in model.parameters())
    with pytest.raises(EvidenceError):
        model.query("hidden", {"visible": [0, 1]})
    with pytest.raises(DataError, match="all zero"):
        model.fit(torch.ones(2, 3), weights=[0.0, 0.0], learner=learner)
    with pytest.raises(Intractable, match="Declare fewer units"):
        pgnn.Hopfield(10**6)


def test_checkpoints_keep_every_kind(tmp_path: object) -> None:
    for v in (*VISIBLE.values(), pgnn.Variable("visible", shape=(3,))):
        model = restricted(v, 1.3).float()
        model.save(f"{tmp_path}/m.safetensors")
        again = pgnn.load(f"{tmp_path}/m.safetensors")
        torch.testing.assert_close(again.log_partition(), model.log_partition())
        assert again.log_partition().dtype == torch.float32
        assert repr(again) == repr(model)


def test_an_array_is_that_of_the_visible_units() -> None:
    rows = np.random.default_rng(0).integers(0, 2, (30, 4))
    fits = [
        pgnn.RestrictedBoltzmannMachine(4, 2).fit(data, seed=0, progress=False)
        for data in (rows, torch.from_numpy(rows), {"visible": rows})
    ]
    for other in fits[1:]:
        for name, value in other.state_dict().items():
            torch.testing.assert_close(value, fits[0].state_dict()[name])


def test_every_verb_takes_rows_without_a_name() -> None:
    grid = pgnn.Variable("visible", 2, (2, 2))
    rows = RNG.integers(0, 2, (5, 4))
    for model in (restricted_to(grid), pgnn.SigmoidBeliefNetwork([grid, 2])):
        named = {"visible": rows.reshape(5, 2, 2)}
        want = model.log_prob(named).detach()
        for data in (rows, rows.tolist(), torch.from_numpy(rows), rows.astype(float),
                     rows.reshape(5, 2, 2)):  # fmt: skip
            torch.testing.assert_close(model.log_prob(data).detach(), want)
            assert model.query(None, data).num_rows == 5
            assert model.most_probable(data).log_prob.shape == (5,)
            assert model.sample(2, data, seed=0)["visible"].shape == (2, 5, 2, 2)
        one = model.query(None, rows[0].reshape(2, 2))
        torch.testing.assert_close(one.log_evidence.detach(), model.query(None, named)
                                   .log_evidence[0].detach())  # fmt: skip
        holes = model.log_prob([[1, None, 0, None]])
        observed = {("visible", 0, 0): 1, ("visible", 1, 0): 0}
        torch.testing.assert_close(holes[0].detach(), model.log_prob(observed).detach())
        with pytest.raises(EvidenceError):
            model.log_prob(rows[:, :3])
    whole = np.hstack(
        [rows, np.zeros((5, 3), dtype=int)]
    )  # a column for each unit, as of any field
    machine = restricted_to(grid)
    torch.testing.assert_close(
        machine.log_score(whole), machine.log_score({**named, "hidden": whole[:, 4:]})
    )


def restricted_to(visible: pgnn.Variable) -> pgnn.RestrictedBoltzmannMachine:
    rng = np.random.default_rng(2)
    return pgnn.RestrictedBoltzmannMachine(
        visible, 3, weight=rng.normal(size=(4, 3)), visible_bias=rng.normal(size=4),
        hidden_bias=rng.normal(size=3),
    )  # fmt: skip


def test_hidden_means_of_numbers_as_they_are() -> None:
    model = restricted_to(pgnn.Variable("visible", 2, (2, 2)))
    rows = RNG.integers(0, 2, (5, 4))
    want = model.query("hidden", rows)["hidden"].probs[..., 1]
    for data in (rows, rows.astype(float), torch.from_numpy(rows).float(), rows.tolist(),
                 rows.reshape(5, 2, 2) * 1.0, {"visible": rows.reshape(5, 2, 2)}):  # fmt: skip
        torch.testing.assert_close(model.hidden_means(data), want)
    grey = model.hidden_means(rows * 0.5)
    layers = model.layers()
    torch.testing.assert_close(grey, layers.mean("hidden", {"visible": torch.tensor(rows * 0.5)}))
    hole = np.where(np.arange(4) == 2, np.nan, rows)
    torch.testing.assert_close(
        model.hidden_means(hole), model.query("hidden", hole)["hidden"].probs[..., 1]
    )
    with pytest.raises(EvidenceError):
        model.hidden_means(torch.zeros(5, 3))


def test_broken_numbers_are_told_by_every_verb() -> None:
    model = restricted_to(pgnn.Variable("visible", 2, (4,)))
    layered = pgnn.SigmoidBeliefNetwork([4, 2])
    with torch.no_grad():
        model.bias("visible")[0] = torch.nan
        layered.biases[0][0] = torch.nan
    rows = RNG.integers(0, 2, (3, 4))
    for ask in (
        lambda: model.log_partition_bracket(temperatures=3),
        lambda: model.hidden_means(rows * 1.0),
        lambda: model.sample(2),
        lambda: layered.bound(rows),
        lambda: layered.sample(2),
    ):
        with pytest.raises(ModelError, match="among its numbers"):
            ask()


def test_a_bracket_has_bounds_on_work() -> None:
    model = restricted_to(pgnn.Variable("visible", 2, (4,)))
    for burn_in, says in ((-1, "not be negative"), (1.5, "whole number")):
        with pytest.raises(ModelError, match=says):
            model.log_partition_bracket(burn_in=burn_in)  # type: ignore[arg-type]
    with pytest.raises(Intractable):
        model.log_partition_bracket(burn_in=10**15)


def test_couplings_of_all_units_lie_side_by_side() -> None:
    """Layers of a single unit have none within themselves, and restricted ones none at all."""
    w = W[:4, :4]
    for model in (
        pgnn.BoltzmannMachine(3, 1, weight=w),
        pgnn.Hopfield({"a": 1, "b": 3}, weight=w),
    ):
        np.testing.assert_allclose(model.couplings.detach(), w)
    machine = restricted_to(pgnn.Variable("visible", 2, (4,)))
    weight = machine.weight("visible", "hidden").numpy()
    zeros = np.zeros((4, 4)), np.zeros((3, 3))
    np.testing.assert_allclose(
        machine.couplings, np.block([[zeros[0], weight], [weight.T, zeros[1]]])
    )
    with pytest.raises(ModelError, match="'visible' and 'visible' are not coupled"):
        machine.weight("visible", "visible")


@pytest.mark.parametrize("labels", [3, ["a", "b", "c"]])
def test_labels_are_states_of_one_unit(labels: Any) -> None:
    model = pgnn.RestrictedBoltzmannMachine(4, 2, labels=labels)
    variable = model.variables["label"]
    assert (variable.shape, variable.num_states) == ((), 3)
    assert model.weight("label", "hidden").shape == (3, 2)


def test_masked_units_are_summed_out_of_the_means_of_hidden_ones() -> None:
    machine = pgnn.RestrictedBoltzmannMachine(3, 2, weight=[[1.0, -2.0], [0.5, 1.0], [2.0, 0.0]])
    rows = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    masked = np.ma.masked_array(rows, [[False, True, False], [False, False, False]])
    nan = np.where(np.ma.getmaskarray(masked), np.nan, rows)
    torch.testing.assert_close(machine.hidden_means(masked), machine.hidden_means(nan))
    assert not torch.equal(machine.hidden_means(masked), machine.hidden_means(rows))


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float16, 300.0), (torch.float32, 1e20), (torch.float64, 1e160)]
)
def test_real_units_that_the_parameters_cannot_square(dtype: torch.dtype, size: float) -> None:
    rows = np.random.default_rng(0).normal(size=(16, 4))
    rows[0, 1], rows[2, 2] = size, np.nan
    machine = pgnn.RestrictedBoltzmannMachine(pgnn.Variable("x", shape=(4,)), 2).to(dtype)
    learner = pgnn.ContrastiveDivergence(epochs=1)
    initial = [p.detach().clone() for p in machine.parameters()]
    with pytest.raises(
        DataError, match=rf"'x' has values as large as .* overflow in {dtype}; rescale"
    ):
        machine.fit(rows, learner=learner, seed=0)
    for p, x in zip(machine.parameters(), initial, strict=True):
        assert torch.equal(p, x)
    rows[0, 1] = 1.0
    machine.fit(rows, learner=learner, seed=0)
