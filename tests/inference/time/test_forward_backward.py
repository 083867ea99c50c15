"""Every verb of hidden Markov models against all paths written down and the unrolled network."""

import numpy as np
import pytest
import torch
from torch import nn

import pgnn
from pgnn.errors import EvidenceError, ImpossibleEvidence, Unsupported
from pgnn.factors.conditionals.heads import NormalHead
from tests.inference.time.sequence_cases import Paths, enumerate_row, model_of, tables

EXACT = pgnn.JunctionTree()
SYMBOLS = {"x": 4, "y": 2}


def random_rows(rng: np.random.Generator, lengths: list[int], missing: float) -> dict:
    """Ragged rows of all emissions, something missing anywhere."""
    found = {}
    for name, s in SYMBOLS.items():
        rows = [rng.integers(0, s, t) for t in lengths]
        found[name] = [np.where(rng.random(len(r)) < missing, -1, r) for r in rows]
    return found


def case(seed: int) -> tuple[dict, pgnn.HiddenMarkovModel, dict, list[int]]:
    rng = np.random.default_rng(seed)
    given = tables(rng, [3, 2, 1, 4][seed % 4], SYMBOLS, zeros=0.2 * (seed % 2))
    lengths = [6, 1, 0, 4, 6] if len(given["initial"]) < 4 else [4, 1, 0, 3]
    observed = random_rows(rng, lengths, [0.0, 0.3, 0.6, 1.0][seed // 2 % 4])
    if seed % 3 == 2:
        k = len(given["initial"])
        observed["state"] = [
            np.where(rng.random(t) < 0.7, -1, rng.integers(0, k, t)) for t in lengths
        ]
    if seed % 5 == 3:
        observed["y"] = [rng.random((t, SYMBOLS["y"])) for t in lengths]
    return given, model_of(given), observed, lengths


def row_of(observed: dict, r: int) -> dict:
    return {n: rows[r] for n, rows in observed.items()}


SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_queries_equal_enumeration(seed):
    given, model, observed, lengths = case(seed)
    smooth, filtered = (f(observed, errors="nan") for f in (model.smooth, model.filter))
    log_prob = model.log_prob(observed)
    for r, steps in enumerate(lengths):
        all_paths = enumerate_row(given, row_of(observed, r), steps)
        np.testing.assert_allclose(log_prob[r], all_paths.log_z, atol=1e-9)
        if all_paths.log_z == -np.inf:
            assert smooth["state"].probs[r].isnan().all()
            continue
        k = len(given["initial"])
        np.testing.assert_allclose(
            smooth["state"].probs[r, :steps], all_paths.marginals(k), atol=1e-9
        )
        for t in range(steps):
            begun = {n: x[: t + 1] for n, x in row_of(observed, r).items()}
            now = enumerate_row(given, begun, t + 1).marginals(k)[-1]
            np.testing.assert_allclose(filtered["state"].probs[r, t], now, atol=1e-9)
        sums = filtered.diagnostics["log_increments"][r, :steps].sum()
        np.testing.assert_allclose(sums, all_paths.log_z, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_best_paths_equal_enumeration(seed):
    given, model, observed, lengths = case(seed)
    best, five = (model.decode(observed, k=k, errors="nan") for k in (1, 5))
    for r, steps in enumerate(lengths):
        paths, scores = enumerate_row(given, row_of(observed, r), steps).best(5)
        np.testing.assert_allclose(best.log_prob[r], scores[0], atol=1e-9)
        scores = np.pad(scores, (0, 5 - len(scores)), constant_values=-np.inf)
        np.testing.assert_allclose(five.log_prob[r], scores, atol=1e-9)
        if scores[0] > scores[1] + 1e-9:
            assert best["state"][r, :steps].tolist() == paths[0].tolist()
            assert five[0]["state"][r, :steps].tolist() == paths[0].tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_all_verbs_equal_the_unrolled_network(seed):
    _, model, observed, _ = case(seed)
    possible = model.log_prob(observed) > -torch.inf
    observed = {
        n: [x for x, p in zip(rows, possible, strict=True) if p] for n, rows in observed.items()
    }
    for verb in (model.query, model.filter):
        targets = None if verb == model.query else "state"
        ours, theirs = (verb(evidence=observed, targets=targets, engine=e) for e in (None, EXACT))
        assert (ours.kind, theirs.kind, theirs.engine) == ("exact", "exact", "JunctionTree")
        for name in ours:
            torch.testing.assert_close(
                ours.probs(name), theirs.probs(name), atol=1e-9, rtol=0, equal_nan=True
            )
        torch.testing.assert_close(ours.log_evidence, theirs.log_evidence, atol=1e-9, rtol=0)
    torch.testing.assert_close(model.log_prob(observed), model.log_prob(observed, engine=EXACT))
    ours, theirs = (model.predict(observed, 2, engine=e) for e in (None, EXACT))
    for name in ours:
        torch.testing.assert_close(ours.probs(name), theirs.probs(name), atol=1e-9, rtol=0)
    for verb in (model.most_probable, model.decode):
        ours, theirs = (verb(observed, engine=e) for e in (None, EXACT))
        torch.testing.assert_close(ours.log_prob, theirs.log_prob, atol=1e-9, rtol=0)
        torch.testing.assert_close(ours.upper_bound, ours.log_prob)


@pytest.mark.parametrize("seed", [0, 3])
def test_k_best_equal_the_unrolled_network(seed):
    given = tables(np.random.default_rng(seed), 3, SYMBOLS)
    model = model_of(given)
    observed = {"x": [[0, 1, 3, 2], [3, 3]], "y": [[0, 0, 1, 1], [1, 0]]}
    for ask in (model.decode, model.most_probable):
        ours, theirs = (ask(observed, k=4, engine=e) for e in (None, EXACT))
        torch.testing.assert_close(ours.log_prob, theirs.log_prob, atol=1e-9, rtol=0)
        assert (ours.codes == theirs.codes).all()


def test_k_best_of_emissions_that_were_not_observed_are_refused():
    model = model_of(tables(np.random.default_rng(0), 3, SYMBOLS))
    with pytest.raises(Unsupported, match="'y' was not observed"):
        model.most_probable({"x": [0, 1]}, k=2)
    best = model.most_probable({"x": [0, 1]}, k=2, engine=EXACT)
    assert best.log_prob[0] == pytest.approx(model.most_probable({"x": [0, 1]}).log_prob.item())


def test_questions_that_mix_sums_and_maxima_are_refused():
    model = model_of(tables(np.random.default_rng(0), 3, SYMBOLS))
    with pytest.raises(Unsupported, match="marginal MAP"):
        model.most_probable({"y": [0, 1]}, targets="x")
    with pytest.raises(EvidenceError, match="k must be"):
        model.decode({"y": [0, 1]}, k=0)
    with pytest.raises(EvidenceError, match=r"unknown variable of the model 'stat'.*state"):
        model.query("stat", {"y": [0, 1]})
    with pytest.raises(Unsupported, match="answers about 'state'"):
        model.filter({"y": [0, 1]}, "x")
    with pytest.raises(Unsupported, match="unroll"):
        model.compile("state")


def test_impossible_rows():
    model = pgnn.HiddenMarkovModel(
        2, {"x": [[1.0, 0.0], [0.5, 0.5]]}, [1.0, 0.0], [[1.0, 0.0], [0.5, 0.5]]
    )
    observed = {"x": [[0, 0], [0, 1], [1]]}
    for ask in (model.query, model.filter, model.decode, model.most_probable):
        with pytest.raises(ImpossibleEvidence, match=r"2 of 3 rows.*first: row 1") as caught:
            ask(evidence=observed)
        assert caught.value.rows == (1, 2)
    with pytest.raises(ImpossibleEvidence):
        model.sample(3, observed)
    assert model.log_prob(observed).tolist() == [0.0, -np.inf, -np.inf]
    found = model.query(evidence=observed, errors="nan")
    assert found.probs("x")[1:].isnan().all()
    assert not found.probs("x")[0].isnan().any()
    best = model.most_probable(observed, errors="nan")
    assert best["state"].tolist() == [[0, 0], [-1, -1], [-1, -1]]
    assert best["x"].tolist() == [[0, 0], [-1, -1], [-1, -1]]


def test_left_to_right():
    given = tables(np.random.default_rng(5), 3, {"x": 3})
    model = pgnn.HiddenMarkovModel(3, given["emissions"], [1, 0, 0], mask=np.triu(np.ones((3, 3))))
    assert model.transitions.logits.requires_grad
    path = model.decode({"x": [2, 0, 1, 1, 2]})["state"]
    assert (np.diff(path) >= 0).all()
    assert path[0] == 0
    given["initial"], given["transitions"] = np.eye(3)[0], model.transitions.probs.detach().numpy()
    assert model.log_prob({"x": [2, 0, 1]}).item() == pytest.approx(
        enumerate_row(given, {"x": [2, 0, 1]}, 3).log_z, abs=1e-12
    )
    model.log_prob({"x": [[2, 0, 1]]}).sum().backward()
    assert not model.transitions.logits.grad.isnan().any()


class Driven:
    """A model whose transitions and real emission are networks of inputs."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        state, before = pgnn.Variable("state", 3), pgnn.Variable(("state", -1), 3)
        real, symbol = pgnn.Variable("v", shape=(2,)), pgnn.Variable("x", 4)
        self.move = nn.Linear(3 + 2, 3).double()
        self.mean = nn.Linear(3 + 1, 4).double()
        self.emit = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()
        self.start = nn.Linear(2, 3).double()
        self.model = pgnn.HiddenMarkovModel(
            state.states,
            {
                "v": pgnn.Neural(
                    real,
                    [state],
                    self.mean,
                    inputs="u",
                    head=NormalHead((2,)),
                ),
                "x": pgnn.Neural(symbol, [state], self.emit),
            },
            initial=pgnn.Neural(state, [], self.start, inputs="w"),
            transitions=pgnn.Neural(state, [before], self.move, inputs="w"),
        )
        self.inputs = {
            "w": torch.randn(2, 5, 2, dtype=torch.float64),
            "u": torch.randn(2, 5, 1, dtype=torch.float64),
        }
        v = torch.randn(2, 5, 2, dtype=torch.float64)
        v[0, 2] = torch.nan
        self.observed = {"v": v, "x": [[0, 3, -1, 1, 2], [1, 1, 2, -1, -1]]}

    def enumerate(self, r: int) -> Paths:
        one = torch.eye(3, dtype=torch.float64)
        u, w, field = self.inputs["u"][r], self.inputs["w"][r], np.ones((5, 3))
        for t in range(5):
            x = self.observed["x"][r][t]
            for z in range(3):
                if x >= 0:
                    field[t, z] *= self.emit(one[z]).softmax(-1)[x].item()
                v = self.observed["v"][r, t]
                if not v.isnan().any():
                    mean, scale = self.mean(torch.cat([one[z], u[t]])).split(2)
                    scale = nn.functional.softplus(scale)
                    field[t, z] *= torch.distributions.Normal(mean, scale).log_prob(v).sum().exp()
        moves = np.array(
            [
                [self.move(torch.cat([one[z], w[t]])).softmax(-1).tolist() for z in range(3)]
                for t in range(1, 5)
            ]
        )
        return Paths.of(self.start(w[0]).softmax(-1).tolist(), moves, field)


@torch.no_grad()
def test_inputs_drive_transitions_and_emissions():
    driven = Driven()
    model, observed, inputs = driven.model, driven.observed, driven.inputs
    smooth, best = model.smooth(observed, inputs=inputs), model.decode(observed, inputs=inputs)
    log_prob, twin = (
        model.log_prob(observed, inputs=inputs),
        model.smooth(observed, inputs=inputs, engine=EXACT),
    )
    ahead = {n: torch.cat([x, x[:, :2]], dim=1) for n, x in inputs.items()}
    predicted = [model.predict(observed, 2, inputs=ahead, engine=e) for e in (None, EXACT)]
    torch.testing.assert_close(predicted[0].probs("x"), predicted[1].probs("x"))
    torch.testing.assert_close(smooth.probs("state"), twin.probs("state"))
    for r in range(2):
        paths = driven.enumerate(r)
        assert log_prob[r].item() == pytest.approx(paths.log_z, abs=1e-9)
        np.testing.assert_allclose(smooth["state"].probs[r], paths.marginals(3), atol=1e-9)
        assert best["state"][r].tolist() == paths.best()[0][0].tolist()
        alone = {n: x[r] for n, x in observed.items()}
        own = {n: x[r] for n, x in inputs.items()}
        one = model.smooth(alone, inputs=own)
        torch.testing.assert_close(one.probs("state"), smooth.probs("state")[r])
        torch.testing.assert_close(
            model.filter(alone, inputs=own).probs("state"),
            model.filter(alone, inputs=own, engine=EXACT).probs("state"),
        )


def test_gradients_equal_finite_differences():
    driven = Driven(1)
    model = driven.model
    parameters = [*model.parameters()]
    total = model.log_prob(driven.observed, inputs=driven.inputs).sum()
    slopes = torch.autograd.grad(total, parameters)
    rng, eps = np.random.default_rng(0), 1e-5
    for parameter, slope in zip(parameters, slopes, strict=True):
        flat = parameter.detach().view(-1)
        for k in rng.choice(len(flat), min(3, len(flat)), replace=False):
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    flat[k] += sign * eps
                    sides.append(model.log_prob(driven.observed, inputs=driven.inputs).sum().item())
                    flat[k] -= sign * eps
            numeric = (sides[0] - sides[1]) / (2 * eps)
            assert slope.view(-1)[k].item() == pytest.approx(numeric, abs=1e-6, rel=1e-5)


def test_gradients_of_tables_where_things_are_missing_or_zero():
    given = tables(np.random.default_rng(3), 3, {"x": 3}, zeros=0.3)
    model = model_of(given).requires_grad_()
    observed = {"x": [[0, -1, 2, 1], [1, 1]]}
    model.log_prob(observed).sum().backward()
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model.log_prob(observed, engine=EXACT).sum().backward()
    for mine, p in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(mine, p.grad, atol=1e-9, rtol=0)


def autoregressive() -> pgnn.HiddenMarkovModel:
    torch.manual_seed(0)
    state, v = pgnn.Variable("state", 2), pgnn.Variable("v")
    before = pgnn.Variable(("v", -1))
    emit = pgnn.Neural(
        v,
        [state, before],
        nn.Linear(3, 2).double(),
        head=NormalHead(),
    )
    return pgnn.HiddenMarkovModel(2, {"v": emit}, [0.3, 0.7], [[0.8, 0.2], [0.3, 0.7]])


@torch.no_grad()
def test_autoregressive_emissions():
    model = autoregressive()
    observed = {"v": [0.3, -1.0, 0.5, 1.5]}
    field = np.ones((4, 2))
    for t in range(1, 4):
        for z in range(2):
            parents = {
                "state": torch.tensor([z]),
                ("v", -1): torch.tensor(observed["v"])[t - 1 : t],
            }
            dist = model.emissions["v"].distribution(parents)
            field[t, z] = dist.log_prob(torch.tensor(observed["v"][t])).exp().item()
    paths = Paths.of([0.3, 0.7], [[0.8, 0.2], [0.3, 0.7]], field)
    assert model.log_prob(observed).item() == pytest.approx(paths.log_z, abs=1e-6)
    np.testing.assert_allclose(model.smooth(observed)["state"].probs, paths.marginals(2), atol=1e-6)
    twin = model.smooth(observed, engine=EXACT)
    torch.testing.assert_close(model.smooth(observed).probs("state"), twin.probs("state"))
    drawn = model.sample(5, {"v": [0.3, None, None, None]}, seed=0)
    assert drawn["v"].shape == (5, 4)
    assert (drawn["v"][:, 0] == 0.3).all()
    assert not drawn["v"].isnan().any()
    assert len(drawn["v"][:, 3].unique()) == 5
    with pytest.raises(Unsupported, match="give its first value"):
        model.sample(5, {"T": 4})


def test_discrete_emissions_that_depend_on_their_past():
    state, x = pgnn.Variable("state", 2), pgnn.Variable("x", 3)
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(3), size=(2, 3))
    emit = pgnn.Tabular(x, [state, pgnn.Variable(("x", -1), 3)], table)
    model = pgnn.HiddenMarkovModel(2, {"x": emit}, [0.3, 0.7], [[0.8, 0.2], [0.3, 0.7]])
    observed = [2, 0, 1, 1]
    field = np.ones((4, 2))
    for t in range(1, 4):
        field[t] = table[:, observed[t - 1], observed[t]]
    paths = Paths.of([0.3, 0.7], [[0.8, 0.2], [0.3, 0.7]], field)
    found = model.query(evidence={"x": observed})
    assert found.log_evidence.item() == pytest.approx(paths.log_z, abs=1e-12)
    np.testing.assert_allclose(found["state"].probs, paths.marginals(2), atol=1e-12)
    twin = model.query(evidence={"x": observed}, engine=EXACT)
    torch.testing.assert_close(found.probs("x"), twin.probs("x"))
    with pytest.raises(Unsupported, match="has gaps"):
        model.log_prob({"x": [2, None, 1, 1]})
    with pytest.raises(Unsupported, match="depends on its own past"):
        model.query(evidence={"x": [2, 1, 1, None]})
    assert model.sample(4, {"x": [2, -1, -1]}, seed=0)["x"][:, 0].tolist() == [2] * 4


def test_draws_follow_the_posterior():
    given = tables(np.random.default_rng(2), 2, {"x": 3, "y": 2})
    model = model_of(given)
    likely = np.array([[0.2, 0.7], [0.5, 0.5], [0.9, 0.1]])
    observed, n = {"x": [0, -1, 2], "y": likely}, 20_000
    drawn = model.sample(n, observed, seed=1)
    want = model.query(evidence=observed)
    assert drawn["x"].shape == (n, 3)
    assert (drawn["x"][:, 0] == 0).all()
    for name in ("state", "x", "y"):
        for t in range(3):
            share = np.bincount(drawn[name][:, t], minlength=want.probs(name).shape[-1]) / n
            # five standard errors of a share of n draws, at most 5 / (2 sqrt(n))
            np.testing.assert_allclose(share, want.probs(name)[t], atol=2.5 / n**0.5)
    before = torch.get_rng_state()
    again = model.sample(n, observed, seed=1)
    assert torch.equal(again["y"], drawn["y"])
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(model.sample(n, observed, seed=2)["state"], drawn["state"])


def test_draws_of_ragged_rows():
    driven = Driven()
    observed = {"x": [[0, -1, 2], [], [1]]}
    model = model_of(tables(np.random.default_rng(2), 3, SYMBOLS))
    drawn = model.sample(7, observed, seed=0)
    assert drawn["y"].shape == (7, 3, 3)
    assert (drawn["y"][:, 1] == -1).all()
    assert (drawn["state"][:, 2, 1:] == -1).all()
    assert (drawn["x"][:, 0, 0] == 0).all()
    assert (drawn["x"][:, 0] >= 0).all()
    real = driven.model.sample(4, driven.observed, inputs=driven.inputs, seed=0)
    assert real["v"].shape == (4, 2, 5, 2)
    assert not real["v"].isnan().any()
    torch.testing.assert_close(real["v"][0, 1], driven.observed["v"][1])
    with pytest.raises(EvidenceError, match="how many steps"):
        model.sample(3)
    assert model.sample(0, {"T": 4})["x"].shape == (0, 4)
    with pytest.raises(EvidenceError, match="negative"):
        model.sample(-1, {"T": 4})


def test_explanation():
    model = model_of(tables(np.random.default_rng(2), 3, SYMBOLS))
    told = model.explain(evidence={"x": [[0, 1, 2], [1]]})
    assert (told.engine, told.kind, told.treewidth) == ("ForwardBackward", "exact", 1)
    assert "backward" in str(told)


def test_a_real_variable_has_no_table():
    driven = Driven()
    with pytest.raises(Unsupported, match="'v' is real"):
        driven.model.filter(driven.observed, "v", inputs=driven.inputs)
