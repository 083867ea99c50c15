"""Contrastive divergence: step for step as the textbook has it, and in the limit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, ModelError, PgnnError
from pgnn.factors.units.unit_layers import two_sides
from pgnn.inference.learning.checkpoints import Keeper
from pgnn.inference.learning.unit_chains import Phase, UnitChains, gradients
from pgnn.inference.learning.unit_figures import UnitFigures
from pgnn.inference.learning.unit_rows import read_unit_rows

BARS = torch.tensor([[1, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 0]] * 20)


def small(seed: int = 0) -> pgnn.RestrictedBoltzmannMachine:
    rng = np.random.default_rng(seed)
    return pgnn.RestrictedBoltzmannMachine(
        6, 4, weight=rng.normal(size=(6, 4)), visible_bias=rng.normal(size=6),
        hidden_bias=rng.normal(size=4),
    ).requires_grad_()  # fmt: skip


def sgd(rate: float = 0.1, **settings: float) -> object:
    return lambda p: torch.optim.SGD(p, lr=rate, **settings)


def test_one_step_is_that_of_the_textbook() -> None:
    """h from the data, v from h, p(h | v) for the end: W += rate (v0 p0' - v1 p1') / N."""
    model, rows = small(), BARS[:5].double()
    w = model.weight("visible", "hidden").detach().clone()
    b, c = (model.bias(n).detach().clone() for n in ("visible", "hidden"))
    learner = pgnn.ContrastiveDivergence(
        k=2, persistent=False, centred=False, optimizer=sgd(), epochs=1, batch_size=5
    )
    model.fit(rows, learner=learner, seed=3, progress=False)
    order = torch.Generator().manual_seed(3)
    torch.randperm(5, generator=order)
    v0 = rows[torch.randperm(5, generator=order)]
    rng = torch.Generator().manual_seed(4)

    def draw(p: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(p).uniform_(generator=rng).lt(p).double()

    p0 = torch.sigmoid(v0 @ w + c)
    h = draw(p0)
    for step in range(2):
        v1 = draw(torch.sigmoid(h @ w.T + b))
        p1 = torch.sigmoid(v1 @ w + c)
        h = draw(p1) if step == 0 else h
    torch.testing.assert_close(
        model.weight("visible", "hidden").detach(), w + 0.1 * (v0.T @ p0 - v1.T @ p1) / 5
    )
    torch.testing.assert_close(model.bias("visible").detach(), b + 0.1 * (v0 - v1).mean(0))
    torch.testing.assert_close(model.bias("hidden").detach(), c + 0.1 * (p0 - p1).mean(0))


@pytest.mark.parametrize("make", [
    small,
    lambda: pgnn.BoltzmannMachine(
        4, 2, weight=0.5 * (1 - np.eye(6)), bias=np.linspace(-1, 0, 6)
    ).requires_grad_(),
], ids=["restricted", "full"])  # fmt: skip
def test_long_chains_have_the_exact_gradient(make: object) -> None:
    model = make()  # type: ignore[operator]
    layers, rng = model.layers(), torch.Generator().manual_seed(0)
    rows = BARS[:3, : layers.size("visible")]
    value = model.log_prob({"visible": rows}, engine=pgnn.BlockElimination()).mean()
    exact = torch.autograd.grad(value, list(model.parameters()))
    with torch.no_grad():
        layers = model.layers()
        sides = two_sides(layers, ["visible"])
        chains = UnitChains(layers.start(20000, rng), (1.0,), rng, {})
        shown = chains.advance(layers, sides, 30)
        own = model.query(None, {"visible": rows})
        if len(sides) == 2:
            means = own["hidden"].probs[..., 1]
            data = Phase({"visible": rows.double(), "hidden": means})
        else:  # hidden units are coupled: draws of them
            drawn = model.sample(5000, {"visible": rows}, seed=0)
            data = Phase({n: drawn[n].double().flatten(0, 1) for n in layers.names})
        for offsets in (None, {n: x.mean(0) for n, x in shown.items()}):
            biases, couplings = gradients(layers, data, Phase(shown), offsets)
            if offsets is not None:  # the same direction in other coordinates
                for k, g in zip(layers.couplings, couplings, strict=True):
                    biases[k.first] = biases[k.first] + g @ offsets[k.second]
                    if not k.is_within:
                        biases[k.second] = biases[k.second] + g.T @ offsets[k.first]
            model.set_gradients(biases, couplings)
            if offsets is None:
                for p, want in zip(model.parameters(), exact, strict=True):
                    torch.testing.assert_close(-p.grad, want, atol=0.02, rtol=0)


@pytest.mark.parametrize("settings", [
    {"persistent": False, "k": 3},
    {},
    {"tempering": 4, "chains": 20},
    {"centred": False, "optimizer": sgd(0.05, momentum=0.5, weight_decay=1e-4)},
], ids=["cd", "persistent", "tempered", "plain"])  # fmt: skip
def test_learning_finds_the_patterns(settings: dict) -> None:
    settings = {"optimizer": sgd(0.3), **settings}
    learner = pgnn.ContrastiveDivergence(epochs=60, batch_size=20, **settings)
    model = pgnn.RestrictedBoltzmannMachine(6, 4).fit(BARS, learner=learner, seed=0, progress=False)
    share = BARS.double().mean(0)
    alone = float((BARS * share.log() + (1 - BARS) * (1 - share).log()).sum(1).mean())
    assert float(model.log_prob(BARS).mean()) > alone + 1.0
    trace = model.history["trace"]
    assert trace["reconstruction_error"][-1] < trace["reconstruction_error"][0]
    assert len(trace["pseudo_likelihood"]) == 60


def test_a_fit_in_two_pieces_goes_on() -> None:
    whole, parts = (pgnn.RestrictedBoltzmannMachine(6, 4) for _ in range(2))
    settings = {"batch_size": 60, "optimizer": sgd(0.1, momentum=0.9), "centred": False}
    whole.fit(BARS, learner=pgnn.ContrastiveDivergence(epochs=4, **settings), seed=0)
    first = pgnn.ContrastiveDivergence(epochs=2, **settings)
    parts.fit(BARS, learner=first, seed=0)
    again = pgnn.ContrastiveDivergence(epochs=2, resume=True, **settings)
    parts.fit(BARS, learner=again, seed=0)
    assert len(parts.history.progress["chains"][0]) == 60
    # the same rows in another order, the same chains
    torch.testing.assert_close(parts.bias("visible"), whole.bias("visible"), atol=0.05, rtol=0)
    with pytest.raises(ModelError, match="resume=True continues"):
        pgnn.RestrictedBoltzmannMachine(6, 4).fit(BARS, learner=again)


def test_early_stopping_keeps_the_best() -> None:
    learner = pgnn.ContrastiveDivergence(epochs=300, batch_size=20, validation=0.3, patience=3)
    model = pgnn.RestrictedBoltzmannMachine(6, 4).fit(BARS, learner=learner, seed=0, progress=False)
    assert model.history["stopped_early"]
    assert model.history["iterations"] < 300
    assert "free_energy_gap" in model.history["trace"]


@pytest.mark.parametrize("kind", ["restricted", "full", "deep"])
def test_units_that_are_never_observed_stay_undecided(kind: str) -> None:
    """Nothing tells zero from one; ten passes of draws leave a share near a half."""
    rows = np.random.default_rng(0).integers(0, 2, (200, 4)).astype(float)
    rows[:, 0] = np.nan
    models = {
        "restricted": lambda: pgnn.RestrictedBoltzmannMachine(4, 3),
        "full": lambda: pgnn.BoltzmannMachine(4, 3),
        "deep": lambda: pgnn.DeepBoltzmannMachine(4, [3, 2]),
    }
    learner = pgnn.ContrastiveDivergence(epochs=10)
    model = models[kind]().fit(rows, learner=learner, seed=0)
    (name,) = model.visible
    assert model.query(name)[name].probs[0, 1] == pytest.approx(0.5, abs=0.1)


def test_labels_that_no_row_has_stay_undecided() -> None:
    rows = np.random.default_rng(0).integers(0, 2, (200, 4))
    model = pgnn.RestrictedBoltzmannMachine(4, 3, labels=["a", "b"])
    model.fit({"visible": rows}, learner=pgnn.ContrastiveDivergence(epochs=10), seed=0)
    shares = model.query("label", {"visible": rows[:3]})["label"].probs
    assert (shares - 0.5).abs().max() < 0.1


def test_spins_in_place_of_zeros_and_ones() -> None:
    """-1 is a missing value of whole numbers: without any zero it is none."""
    spins = 2 * BARS - 1
    with pytest.raises(DataError, match=r"are -1 and 1.*Variable\(name, \(-1, 1\)"):
        small().fit(spins, learner=pgnn.ContrastiveDivergence(epochs=1))
    mixed = BARS.clone()
    mixed[0, 0] = -1
    small().fit(mixed, learner=pgnn.ContrastiveDivergence(epochs=1), seed=0)


def test_missing_units_batches_labels_and_weights() -> None:
    rows = BARS.double()
    rows[::3, 0] = np.nan
    learner = pgnn.ContrastiveDivergence(epochs=20, batch_size=20)
    model = pgnn.RestrictedBoltzmannMachine(6, 4).fit(rows, learner=learner, seed=0, progress=False)
    assert bool(model.weight("visible", "hidden").isfinite().all())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(BARS), batch_size=20)
    model.fit(loader, learner=learner, seed=0, progress=False)
    assert model.history["rows"] == 60
    label = (BARS[:, 0] + 2 * BARS[:, 4]) % 3
    told = pgnn.RestrictedBoltzmannMachine(6, 8, labels=pgnn.Variable("label", 3))
    learner = pgnn.ContrastiveDivergence(epochs=100, batch_size=20, optimizer=sgd(0.3))
    told.fit({"visible": BARS, "label": label}, learner=learner, seed=0, progress=False)
    found = told.query("label", {"visible": BARS})["label"].probs.argmax(-1)
    assert bool((found == label).all())
    counts = torch.zeros(60)
    counts[::3] = 1.0
    model.fit(BARS, weights=counts, learner=learner, seed=0, progress=False)
    assert float(model.log_prob(BARS[0]).exp()) > 0.6


@pytest.mark.parametrize("visible", [
    pgnn.Variable("visible", shape=(6,)), pgnn.Variable("visible", 3, (6,)),
    pgnn.Variable("visible", (-1, 1), (6,)),
], ids=["real", "categories", "spins"])  # fmt: skip
def test_other_units_learn(visible: pgnn.Variable) -> None:
    rows = 2 * BARS - 1 if visible.states == (-1, 1) else BARS
    rows = rows + 0.1 * torch.randn(60, 6) if not visible.is_discrete else rows
    learner = pgnn.ContrastiveDivergence(epochs=40, batch_size=20)
    variance = {"variance": 0.1} if not visible.is_discrete else {}
    model = pgnn.RestrictedBoltzmannMachine(visible, 4, **variance)
    before = None
    for _ in range(2):
        model.fit(rows, learner=learner, seed=0, progress=False)
        value = float(model.log_prob(rows).mean())
        assert before is None or value > before - 0.5
        before = value
    assert model.history["trace"]["reconstruction_error"][-1] < 0.25


def test_divergence_is_stopped_and_undone() -> None:
    model = pgnn.RestrictedBoltzmannMachine(pgnn.Variable("visible", shape=(6,)), 4)
    learner = pgnn.ContrastiveDivergence(epochs=50, optimizer=sgd(50.0))
    with pytest.raises(PgnnError, match=r"diverged at step \d+: .* smaller learning rate"):
        model.fit(BARS.double(), learner=learner, seed=0, progress=False)
    assert not any(bool(p.any()) for p in model.parameters())


def test_wrong_settings() -> None:
    with pytest.raises(ModelError, match="tempering needs persistent chains"):
        pgnn.ContrastiveDivergence(persistent=False, tempering=3)
    with pytest.raises(ModelError, match="k must be at least 1"):
        pgnn.ContrastiveDivergence(k=0)
    with pytest.raises(ModelError, match="machine, got a "):
        pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2}).fit(
            {"a": [0], "b": [1]}, learner=pgnn.ContrastiveDivergence()
        )
    with pytest.raises(ModelError, match="nothing to learn"):
        small().requires_grad_(False).fit(BARS, learner=pgnn.ContrastiveDivergence())
    with pytest.raises(PgnnError, match="only once"):
        pgnn.RestrictedBoltzmannMachine(6, 4).fit(
            iter([BARS]), learner=pgnn.ContrastiveDivergence(epochs=2)
        )


def test_tempered_chains_visit_both_modes() -> None:
    """Two patterns far apart: chains that begin in one find the other, as often as it should be."""
    pattern = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.double)
    weight = 8.0 * torch.stack([pattern, 1 - pattern], 1)
    model = pgnn.RestrictedBoltzmannMachine(
        8, 2, weight=weight, visible_bias=np.full(8, -4.0), hidden_bias=[-15.7, -16.3]
    )
    exact = model.query("visible")["visible"].probs[..., 1]
    assert 0.1 < float(exact[0]) < 0.9
    layers = model.layers()
    sides = two_sides(layers, ["visible"])
    away = {}
    for count in (1, 8):
        betas = tuple(torch.linspace(1, 0, count).tolist())
        rng = torch.Generator().manual_seed(0)
        start = pattern.repeat(300 * count, 1)
        state = {"visible": start, "hidden": start[:, [0, 4]]}
        base = {n: torch.zeros_like(b) for n, b in layers.biases.items()}
        chains = UnitChains(state, betas, rng, base)
        for _ in range(20):
            chains.advance(layers, sides, 1)
        total = sum(chains.advance(layers, sides, 1)["visible"] for _ in range(40)) / 40
        away[count] = float((total.mean(0) - exact).abs().max())
        assert len(chains.swaps) == count - 1
        assert all(0.5 < share <= 1 for share in chains.swaps)
    assert away[8] < 0.05 < 0.3 < away[1]


def test_sparsity_holds_the_activity_of_hidden_units() -> None:
    activity = {}
    for target in (None, 0.1, 0.6):
        learner = pgnn.ContrastiveDivergence(
            epochs=60, batch_size=20, optimizer=sgd(0.2), sparsity=target, sparsity_cost=10.0
        )
        model = pgnn.RestrictedBoltzmannMachine(6, 4)
        model.fit(BARS, learner=learner, seed=0, progress=False)
        activity[target] = float(model.hidden_means({"visible": BARS}).mean())
    assert abs(activity[0.1] - 0.1) < 0.05
    assert abs(activity[0.6] - 0.6) < 0.05
    assert abs(activity[None] - 0.1) > 0.1


@pytest.mark.parametrize("persistent", [True, False])
def test_rows_that_count_nothing_are_not_there(persistent: bool) -> None:
    """A batch counts what its rows count: twice the weight of some is twice the rows."""
    settings: dict[str, Any] = {
        "epochs": 2, "persistent": persistent, "centred": False, "optimizer": sgd(0.1), "chains": 5,
        "batch_size": 3,
    }  # fmt: skip
    fits = []
    for rows, weights in (
        (BARS[:3], None),
        (BARS[:6], [1, 1, 1, 0, 0, 0]),
        (BARS[:3], [2.0, 2.0, 2.0]),
    ):
        model = small()
        model.fit(rows, weights=weights, seed=1, progress=False,
                  learner=pgnn.ContrastiveDivergence(**settings))  # fmt: skip
        fits.append(model.weight("visible", "hidden").detach())
    torch.testing.assert_close(fits[1], fits[0])
    torch.testing.assert_close(fits[2], fits[0])
    uneven = small()
    alone = small()
    settings["batch_size"] = 1
    learner = pgnn.ContrastiveDivergence(**{**settings, "epochs": 1})
    alone.fit(BARS[:1], learner=learner, seed=1, progress=False)
    uneven.fit(BARS[:2], weights=[1.0, 1e-9], learner=learner, seed=1, progress=False)
    moved = [(m.bias("visible") - small().bias("visible")).detach().abs().sum()
             for m in (uneven, alone)]  # fmt: skip
    assert float(moved[0]) < 2.5 * float(moved[1])


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda: pgnn.DeepBoltzmannMachine(6, [3, 2]), BARS),
        (lambda: pgnn.BoltzmannMachine(6, 2), BARS),
        (lambda: pgnn.RestrictedBoltzmannMachine(6, 2),
         torch.where(torch.eye(60, 6) > 0, torch.nan, BARS)),
    ],
    ids=["deep", "full", "holes"],
)  # fmt: skip
def test_early_stopping_without_a_pseudo_likelihood(make: Any, rows: Any) -> None:
    learner = pgnn.ContrastiveDivergence(
        epochs=200, batch_size=20, validation=0.4, patience=1, optimizer=sgd(0.3)
    )
    model = make().fit(rows, learner=learner, seed=0, progress=False)
    trace = model.history["trace"]
    assert model.history["stopped_early"]
    assert "pseudo_likelihood" not in trace
    assert len(trace["held_out_reconstruction_error"]) == model.history["iterations"] < 200
    with pytest.raises(DataError, match="holds out none"):
        make().fit(rows[:2], learner=learner, progress=False)


class Killed(BaseException):
    """What ends a process."""


@pytest.mark.parametrize("settings", [
    {}, {"persistent": False, "optimizer": sgd(0.1, momentum=0.9)},
    {"tempering": 3, "sparsity": 0.2, "validation": 0.3, "patience": 50},
    {"optimizer": lambda p: torch.optim.Adam(p, lr=0.05),
     "scheduler": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1)},
], ids=["persistent", "cd", "tempered", "adam"])  # fmt: skip
def test_a_fit_that_was_killed_goes_on(
    settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(path: Path | None, **other: Any) -> pgnn.RestrictedBoltzmannMachine:
        keep = None if path is None else pgnn.Checkpoints(path, every=0.0)
        learner = pgnn.ContrastiveDivergence(
            **{"epochs": 6, "batch_size": 20, "checkpoints": keep, **settings, **other}
        )
        model = pgnn.RestrictedBoltzmannMachine(6, 3)
        return model.fit(BARS, learner=learner, seed=4, progress=False)

    whole, path = fit(None), tmp_path / "fit"
    write = Keeper.write
    with monkeypatch.context() as patch:

        def die(self: Keeper, state: Any) -> None:
            write(self, state)
            if state["passes"] == 3:
                raise Killed

        patch.setattr(Keeper, "write", die)
        with pytest.raises(Killed):
            fit(path)
    with pytest.raises(DataError, match="another fit, which differs in its settings"):
        fit(path, k=2)
    again = fit(path)
    assert not path.exists()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert again.history["trace"] == whole.history["trace"]
    assert again.history["iterations"] == 6


def test_what_goes_on_may_have_other_settings() -> None:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 20}
    model = pgnn.RestrictedBoltzmannMachine(6, 4)
    first = pgnn.ContrastiveDivergence(persistent=False, **settings)
    model.fit(BARS, learner=first, seed=0, progress=False)
    before = model.weight("visible", "hidden").detach().clone()
    still = pgnn.ContrastiveDivergence(resume=True, optimizer=sgd(0.0), **settings)
    model.fit(BARS, learner=still, seed=0, progress=False)  # chains begin, the rate is the new one
    torch.testing.assert_close(model.weight("visible", "hidden").detach(), before)


def test_grey_values_beside_labels() -> None:
    grey, label = 0.1 + 0.8 * BARS.double(), (BARS[:, 0] + 2 * BARS[:, 4]) % 3
    learner = pgnn.ContrastiveDivergence(
        epochs=200, batch_size=20, optimizer=sgd(0.3), probabilities=True
    )
    model = pgnn.RestrictedBoltzmannMachine(6, 8, labels=pgnn.Variable("label", 3))
    model.fit({"visible": grey, "label": label}, learner=learner, seed=0, progress=False)
    assert bool((model.query("label", {"visible": BARS})["label"].probs.argmax(-1) == label).all())
    with pytest.raises(DataError, match="different numbers of rows"):
        model.fit({"visible": grey, "label": label[:5]}, learner=learner, progress=False)


def test_data_and_parts_that_cannot_be_used() -> None:
    def fit(rows: Any, *, inputs: Any = None, **settings: Any) -> None:
        learner = pgnn.ContrastiveDivergence(epochs=2, **settings)
        pgnn.RestrictedBoltzmannMachine(6, 4).fit(
            rows, inputs=inputs, learner=learner, progress=False
        )

    for rows, says in [
        (None, "got NoneType"),
        ({"visible": BARS, "hidden": BARS[:, :4]}, "'hidden' is hidden"),
        (BARS[:, :4], r"shape \(N, 6\), got \(60, 4\)"),
    ]:
        with pytest.raises(DataError, match=says):
            fit(rows)
    with pytest.raises(DataError, match="no input 'u'"):
        fit(BARS, inputs={"u": BARS})
    with pytest.raises(ModelError, match="without closures"):
        fit(BARS, optimizer=lambda p: torch.optim.LBFGS(p))
    with pytest.raises(ModelError, match="scheduler must make"):
        fit(BARS, scheduler=lambda o: 3)
    with pytest.raises(ModelError, match="Checkpoints"):
        fit(BARS, checkpoints="path")


def test_real_units_in_any_units_of_measure() -> None:
    """Values in the tens of thousands are no divergence, and each unit has its own scale."""
    scale = torch.tensor([1.0, 30.0])
    rows = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) * scale + 50_000
    visible = pgnn.Variable("visible", shape=(2,))
    model = pgnn.RestrictedBoltzmannMachine(visible, 1, variance=scale**2)
    learner = pgnn.ContrastiveDivergence(epochs=3, optimizer=sgd(1e-3))
    model.fit(rows, learner=learner, seed=0, progress=False)
    density = model.history["trace"]["pseudo_likelihood"][-1]
    want = -0.5 * np.log(2 * np.pi) - 0.5 - 0.5 * np.log(30)  # mean of both units
    assert abs(density - want) < 0.4


@pytest.mark.parametrize("settings", [
    {"centred": False}, {"persistent": False, "k": 2}, {"tempering": 2}, {},
], ids=["plain", "cd", "tempered", "persistent"])  # fmt: skip
def test_steps_that_write_no_derivatives_down(settings: dict) -> None:
    """Plain gradient descent moves couplings at once; its slow twin has another class's name."""

    class Twin(torch.optim.SGD):
        pass

    weights, fits = np.linspace(0.0, 2.0, 60), []
    for kind in (torch.optim.SGD, Twin):
        model = pgnn.RestrictedBoltzmannMachine(6, 3, labels=pgnn.Variable("label", 3))
        learner = pgnn.ContrastiveDivergence(
            epochs=3, batch_size=20, optimizer=lambda p, kind=kind: kind(p, lr=0.1), **settings
        )
        rows = {"visible": BARS, "label": torch.arange(60) % 3}
        fits.append(model.fit(rows, weights=weights, learner=learner, seed=0, progress=False))
    for name, value in fits[0].state_dict().items():
        torch.testing.assert_close(fits[1].state_dict()[name], value)


def test_batches_one_after_the_other() -> None:
    settings = {"batch_size": 30, "optimizer": sgd(0.1, momentum=0.9)}
    learner = pgnn.ContrastiveDivergence(**settings)
    model, again = (pgnn.RestrictedBoltzmannMachine(6, 4) for _ in range(2))
    for m in (model, again):
        for k, part in enumerate(BARS.split(30)):
            m.partial_fit(part, learner=learner, seed=0 if k == 0 else None)
    assert torch.equal(model.weight("visible", "hidden"), again.weight("visible", "hidden"))
    history = model.history
    assert (history["rows"], history["iterations"]) == (60, 2)
    assert len(history["trace"]["reconstruction_error"]) == 2
    # the first step is that of a fit whose rate has not fallen yet
    once = pgnn.RestrictedBoltzmannMachine(6, 4).partial_fit(BARS[:30], learner=learner, seed=0)
    one = pgnn.ContrastiveDivergence(epochs=1, **settings)
    fitted = pgnn.RestrictedBoltzmannMachine(6, 4).fit(BARS[:30], learner=one, seed=0)
    assert torch.equal(once.bias("hidden"), fitted.bias("hidden"))
    chains, before = once.history.progress["chains"], once.bias("hidden").clone()
    with pytest.raises(DataError):
        once.partial_fit(BARS[:3] + 7, learner=learner)
    assert torch.equal(before, once.bias("hidden"))
    assert once.history.progress["chains"] is chains


def test_batches_without_end_learn_the_patterns() -> None:
    model = pgnn.RestrictedBoltzmannMachine(6, 4)
    learner = pgnn.ContrastiveDivergence(batch_size=20, optimizer=sgd(0.3))
    for k in range(40):
        model.partial_fit(BARS, learner=learner, seed=0 if k == 0 else None)
    share = BARS.double().mean(0)
    alone = float((BARS * share.log() + (1 - BARS) * (1 - share).log()).sum(1).mean())
    assert float(model.log_prob(BARS).mean()) > alone + 1.0


@pytest.mark.parametrize("states", [2, 3])
def test_pseudo_likelihood_is_that_of_free_energies(states: int) -> None:
    """Moving fields by the row of the unit that was changed is what writing rows anew is."""
    visible = pgnn.Variable("visible", states, shape=(5,))
    model = pgnn.RestrictedBoltzmannMachine(visible, 3).requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=rng))
    codes = torch.randint(states, (8, 5), generator=rng)
    figures = UnitFigures(model, torch.Generator().manual_seed(1))
    found = figures.pseudo_likelihood(read_unit_rows(model, {"visible": codes}))
    unit = torch.randint(5, (8,), generator=torch.Generator().manual_seed(1))
    scores = []
    for state in range(states):
        other = codes.clone()
        other[torch.arange(8), unit] = state
        scores.append(-model.free_energy({"visible": other}).detach())
    logs = torch.stack(scores, 1).log_softmax(1)
    assert found == pytest.approx(float(logs[torch.arange(8), codes[torch.arange(8), unit]].mean()))


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 61.0)])
@pytest.mark.parametrize("optimizer", [None, sgd(0.05)])
def test_bytes_are_learnt_as_numbers_are(weights: Any, optimizer: Any) -> None:
    learner = pgnn.ContrastiveDivergence(
        epochs=3, batch_size=20, validation=0.2, optimizer=optimizer, persistent=False
    )
    small_, large = (
        small().fit(x, learner=learner, weights=weights, seed=0, progress=False)
        for x in (BARS.to(torch.uint8), BARS.double())
    )
    for name, x in large.state_dict().items():
        torch.testing.assert_close(small_.state_dict()[name], x)
    for name, values in large.history["trace"].items():
        assert small_.history["trace"][name] == pytest.approx(values)


def test_default_steps_are_those_of_gradient_descent() -> None:
    """Where no optimiser is named the parameters are moved without it, at the same rates."""
    falling = lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 1 - t / 4)  # noqa: E731
    named = pgnn.ContrastiveDivergence(
        epochs=4, batch_size=20, optimizer=sgd(0.05), scheduler=falling
    )
    plain, told = (
        small().fit(BARS, learner=learner, seed=0, progress=False)
        for learner in (pgnn.ContrastiveDivergence(epochs=4, batch_size=20), named)
    )
    for name, x in told.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], x)
