"""A fit that was ended goes on from its last checkpoint, to the same numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EM, BayesianNetwork, Checkpoints, Gaussian, HiddenMarkovModel, Mixture
from pgnn.errors import DataError, ModelError
from pgnn.inference.learning import checkpoints
from pgnn.inference.learning.checkpoints import Keeper, digest


class Killed(BaseException):
    """What ends a process."""


def cases() -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2)) + 1.5 * rng.integers(0, 3, (80, 1))
    rows = {n: rng.integers(0, 2, 60) for n in "abc"}
    return {
        "mixture": (lambda: Mixture(3, {"x": Gaussian}), {"x": x}, {"restarts": 3}),
        "streaming": (lambda: Mixture(2, {"x": Gaussian}), {"x": x}, {"batch_size": 20}),
        "network": (
            lambda: BayesianNetwork([("h", n) for n in rows], states=dict.fromkeys("habc", 2)),
            pgnn.codes(rows),
            {"restarts": 2},
        ),
        "draws": (
            lambda: BayesianNetwork([("h", n) for n in rows], states=dict.fromkeys("habc", 2)),
            pgnn.codes(rows),
            {"engine": pgnn.Gibbs(burn_in=5), "num_samples": 60},
        ),
        "chain": (
            lambda: HiddenMarkovModel(2, {"x": 2}),
            {"x": rng.integers(0, 2, (4, 30))},
            {"restarts": 2},
        ),
    }


@pytest.mark.parametrize("name", ["mixture", "streaming", "network", "draws", "chain"])
@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_it_goes_on_to_the_same_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, data, settings = cases()[name]
    number = 40 if name != "draws" else 24
    whole = make().fit(data, learner=EM(max_iterations=number, **settings), seed=1, progress=False)
    path = tmp_path / "fit"
    learner = EM(max_iterations=number, checkpoints=Checkpoints(path, every=0.0), **settings)
    deaths = 0
    for after in (7, 16):  # killed among the starts, and later
        with monkeypatch.context() as patch:
            written = []
            write = Keeper.write

            def dying(self: Keeper, state: Any, after: int = after, written: list = written,
                      write: Any = write) -> None:  # fmt: skip
                write(self, state)
                written.append(0)
                if len(written) == after:
                    raise Killed

            patch.setattr(checkpoints.Keeper, "write", dying)
            ended = False
            try:
                own = make().fit(data, learner=learner, seed=1, progress=False)
            except Killed:
                ended = True
                deaths += 1
        if not ended:
            break
        assert path.exists()
    else:
        own = make().fit(data, learner=learner, seed=1, progress=False)
    assert deaths
    assert own.history["trace"] == whole.history["trace"]
    for n, x in whole.state_dict().items():
        assert torch.equal(own.state_dict()[n], x)
    assert not path.exists()  # the fit is complete


def passing() -> dict[str, tuple[Any, Any, type, dict[str, Any]]]:
    """Learners that go over data pass by pass: model, data, learner, settings."""
    bars = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]]).repeat(30, 1)

    def adam(p: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(p, lr=0.05)

    def language() -> Any:
        torch.manual_seed(0)
        return pgnn.LanguageModel("ab", hidden=4)

    def game() -> Any:
        torch.manual_seed(0)
        return pgnn.GAN(torch.nn.Linear(2, 4), torch.nn.Linear(4, 1), noise=2)

    gradient = {"optimizer": adam, "batch_size": 6, "max_iterations": 6}
    return {
        "gradient": (language, ["abba", "baba", "aabb", "ab"] * 5, pgnn.Gradient, gradient),
        "contrastive": (lambda: pgnn.RestrictedBoltzmannMachine(4, 2), bars,
                        pgnn.ContrastiveDivergence, {"epochs": 6, "batch_size": 20}),
        "game": (game, bars.float(), pgnn.Adversarial, {"epochs": 6, "batch_size": 20}),
        "wake-sleep": (lambda: pgnn.SigmoidBeliefNetwork([4, 2]), bars, pgnn.WakeSleep,
                       {"epochs": 6, "batch_size": 20}),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["mixture", "chain", *passing()])
@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_an_interrupt_saves_what_is_not_due(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fit"
    if name in passing():
        make, data, kind, settings = passing()[name]
    else:
        make, data, settings = cases()[name]
        settings, kind = settings | {"max_iterations": 20}, EM
    whole = make().fit(data, learner=kind(**settings), seed=1, progress=False)
    monkeypatch.setattr(checkpoints, "_COPY_EVERY", 0.0)
    monkeypatch.setattr(checkpoints, "_SHARE", 0.0)
    after, calls = Keeper.after, []

    def interrupted(self: Keeper, snapshot: Any) -> None:
        after(self, snapshot)
        calls.append(0)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Keeper, "after", interrupted)
    learner = kind(**settings, checkpoints=Checkpoints(path, every=1e6))
    with pytest.raises(KeyboardInterrupt):
        make().fit(data, learner=learner, seed=1, progress=False)
    assert path.exists()
    own = make().fit(data, learner=learner, seed=1, progress=False)
    for model in (own, whole):
        model.history["trace"].pop("seconds", None)
    assert own.history["trace"] == whole.history["trace"]
    for n, x in whole.state_dict().items():
        assert torch.equal(own.state_dict()[n], x)
    assert not path.exists()


def test_passes_of_an_optimiser_go_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Order of rows, dropout, moments, rates and what was best on the rows set apart."""
    texts = ["abba", "baba", "aabb", "ab"] * 5
    path = tmp_path / "fit"

    def fitted(keep: Checkpoints | None, passes: int = 8) -> Any:
        torch.manual_seed(0)
        model = pgnn.LanguageModel("ab", hidden=4, dropout=0.3)
        learner = pgnn.Gradient(
            optimizer=lambda p: torch.optim.Adam(p, lr=0.05), batch_size=6, max_norm=1.0,
            scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5), validation=0.2,
            max_iterations=passes, checkpoints=keep,
        )  # fmt: skip
        return model.fit(texts, learner=learner, seed=3, progress=False)

    whole, write = fitted(None), Keeper.write
    written = []

    def dying(self: Keeper, state: Any) -> None:
        write(self, state)
        written.append(0)
        if len(written) == 4:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Keeper, "write", dying)
        with pytest.raises(Killed):
            fitted(Checkpoints(path, every=0.0))
    own = fitted(Checkpoints(path, every=0.0))
    assert len(own.history["trace"]["validation"]) == 8
    for name in ("mean_log_likelihood", "validation", "gradient_norm"):
        assert own.history["trace"][name] == whole.history["trace"][name]
    for n, x in whole.state_dict().items():
        assert torch.equal(own.state_dict()[n], x)
    assert not path.exists()
    with pytest.raises(ModelError, match="checkpoints needs an optimizer"):
        pgnn.Gradient(checkpoints=Checkpoints(path))


def test_checkpoints_of_other_fits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit"
    Keeper(Checkpoints(path), {"seed": 1, "data": "a"}).write({"x": torch.ones(2)})
    assert Keeper(Checkpoints(path), {"seed": 1, "data": "a"}).state() is not None
    with pytest.raises(DataError, match="differs in its data"):
        Keeper(Checkpoints(path), {"seed": 1, "data": "b"}).state()
    whole = path.read_bytes()
    cuts = [whole[:n] for n in range(0, len(whole), len(whole) // 9)]
    for content in (b"nonsense", b"junk", b"", b"PK\x03\x04", b"\x80\x02.", b"I1\n.", *cuts):
        path.write_bytes(content)
        with pytest.raises(DataError, match="fit is not a checkpoint"):
            Keeper(Checkpoints(path), {}).state()
    for wrong in (tmp_path, tmp_path / "nowhere" / "fit"):
        with pytest.raises(DataError, match="folder"):
            Keeper(Checkpoints(wrong), {})
    with pytest.raises(ModelError, match="path"):
        Checkpoints(3)  # type: ignore[arg-type]
    assert digest({"x": np.zeros(2)}) != digest({"y": np.zeros(2)})
