"""Samples as tensors and as data frames of labels."""

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.factors.variable import Variable
from pgnn.inference.samples import Samples

RAIN = Variable("rain", ["yes", "no"])
HEIGHT = Variable("height")
DICE = Variable("dice", [1, 2, 3])
PLACE = Variable("place", shape=(2,))
CODES = torch.tensor([[0, 2], [1, 0], [-1, 1]])


def test_a_mapping_of_tensors() -> None:
    samples = Samples([RAIN, DICE], CODES)
    assert samples["dice"].tolist() == [2, 0, 1]
    assert samples["dice"].dtype == torch.int64
    assert list(samples) == ["rain", "dice"]
    assert (len(samples), samples.num_samples) == (2, 3)
    assert samples.codes is CODES
    assert "rain" in samples
    assert samples.get("rian") is None
    assert samples == samples
    assert samples != Samples([RAIN, DICE], CODES)
    assert isinstance(hash(samples), int)
    assert repr(samples) == "<Samples: 3 of 2 variables>"


@pytest.mark.parametrize("error", [EvidenceError, KeyError])
def test_unknown_names(error: type[Exception]) -> None:
    with pytest.raises(error, match="'rian'; did you mean 'rain'"):
        Samples([RAIN, DICE], CODES)["rian"]


def test_frames_are_categorical_with_the_states_in_order() -> None:
    frame = Samples([RAIN, DICE], CODES).frame()
    assert list(frame["rain"].cat.categories) == ["yes", "no"]
    assert list(frame["dice"].cat.categories) == [1, 2, 3]
    assert frame["rain"].tolist() == ["yes", "no", np.nan]
    assert frame["dice"].tolist() == [3, 1, 2]
    assert EvidenceReader([RAIN, DICE]).read(frame).codes.tolist() == CODES.tolist()


def test_samples_are_evidence() -> None:
    assert EvidenceReader([RAIN, DICE]).read(Samples([RAIN, DICE], CODES)).codes.tolist() == (
        CODES.tolist()
    )


def test_real_variables_in_the_order_of_declaration() -> None:
    height = torch.tensor([1.5, 2.5, 3.5])
    place = torch.arange(6.0).reshape(3, 2)
    samples = Samples([RAIN, HEIGHT, DICE, PLACE], CODES, {"height": height, "place": place})
    assert samples["place", 1].tolist() == [1.0, 3.0, 5.0]
    assert ("place", 1) in samples
    assert ("place", 2) not in samples
    assert ["place", 1] not in samples
    assert samples["height"] is height
    assert samples["dice"].tolist() == [2, 0, 1]
    frame = samples.frame()
    assert list(frame.columns) == ["rain", "height", "dice", "place"]
    assert frame["height"].tolist() == [1.5, 2.5, 3.5]
    assert frame["dice"].tolist() == [3, 1, 2]
    assert frame["place"][2].tolist() == [4.0, 5.0]
    frame.loc[0, "height"] = 7.0
    assert height[0] == 1.5


def test_real_variables_only() -> None:
    samples = Samples([HEIGHT], torch.zeros(2, 0, dtype=torch.long), {"height": torch.ones(2)})
    assert samples.num_samples == 2
    assert samples.frame()["height"].tolist() == [1.0, 1.0]


def test_batches() -> None:
    codes = torch.stack([CODES, CODES.flip(0)])  # two draws for each of three rows
    days = pd.Index(["mon", "tue", "wed"], name="day")
    height = torch.arange(6.0).reshape(2, 3)
    samples = Samples([RAIN, DICE, HEIGHT], codes, {"height": height}, batched=True, index=days)
    assert samples["dice"].shape == (2, 3)
    assert samples.num_samples == 2
    frame = samples.frame()
    assert frame.index.names == ["sample", "day"]
    assert frame.loc[(0, "tue"), "dice"] == 1
    assert frame.loc[(1, "mon"), "dice"] == 2
    assert frame.loc[(1, "mon"), "height"] == 3.0
    plain = Samples([RAIN, DICE], codes, batched=True).frame()
    assert plain.index.names == ["sample", "row"]
    assert plain.index.tolist()[:4] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert days.name == "day"
    assert repr(samples) == "<Samples: 2 of 3 variables for each of 3 rows>"


def test_index_with_levels() -> None:
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["shop", None])
    frame = Samples([RAIN, DICE], CODES[None], batched=True, index=index).frame()
    assert frame.index.names == ["sample", "shop", "row"]
    assert frame.index.tolist()[2] == (0, "b", 1)


def test_no_samples() -> None:
    frame = Samples([RAIN, DICE], CODES[:0]).frame()
    assert frame.shape == (0, 2)
    assert list(frame["rain"].cat.categories) == ["yes", "no"]


@pytest.mark.parametrize(
    ("codes", "reals", "batched", "message"),
    [
        (CODES[:, :1], {"height": torch.ones(3)}, False, r"shape \(n, 2\), got \(3, 1\)"),
        (CODES, {"height": torch.ones(3)}, True, r"shape \(n, B, 2\), got \(3, 2\)"),
        (CODES[0], {"height": torch.ones(3)}, False, r"got \(2,\)"),
        (CODES, {}, False, r"'height' must have shape \(3,\), got None"),
        (CODES, {"height": torch.ones(3, 1)}, False, r"shape \(3,\), got \(3, 1\)"),
    ],
)
def test_shapes_that_do_not_fit(
    codes: torch.Tensor, reals: dict[str, torch.Tensor], batched: bool, message: str
) -> None:
    with pytest.raises(EvidenceError, match=message):
        Samples([RAIN, HEIGHT, DICE], codes, reals, batched=batched)


# --- real variables, drawn after the discrete ones ----------------------------------------------


def line() -> pgnn.BayesianNetwork:
    x, y = pgnn.Variable("x"), pgnn.Variable("y")
    parts = {
        "x": pgnn.Gaussian(x, mean=1.0, covariance=4.0),
        "y": pgnn.LinearGaussian(y, [x], [10.0], 0.0, covariance=1.0),
    }
    return pgnn.BayesianNetwork([("x", "y")], parts)


def test_a_model_without_discrete_variables_is_drawn_from() -> None:
    model = line()
    drawn = model.sample(4000, seed=0)
    assert drawn["x"].shape == (4000,)
    # 4.5 standard errors of the mean and of the covariance with a slope of ten
    assert abs(float(drawn["x"].mean()) - 1.0) < 4.5 * 2.0 / 4000**0.5
    rest = drawn["y"] - 10.0 * drawn["x"]
    assert abs(float(rest.std()) - 1.0) < 4.5 / (2 * 4000) ** 0.5
    again = model.sample(4000, seed=0)
    torch.testing.assert_close(again["y"], drawn["y"], rtol=0, atol=0)


def test_rows_of_real_evidence_are_kept() -> None:
    drawn = line().sample(50, {"x": torch.tensor([0.0, 5.0]).double()}, seed=0)
    assert drawn["y"].shape == (50, 2)
    torch.testing.assert_close(drawn["x"], torch.tensor([0.0, 5.0]).double().expand(50, 2))
    assert float((drawn["y"].mean(0) - torch.tensor([0.0, 50.0])).abs().max()) < 4.5 / 50**0.5


def test_what_depends_on_a_missing_real_is_refused() -> None:
    x = pgnn.Variable("x")
    parts = {"x": pgnn.GaussianMixture(x, (), 2), "y": line().conditionals["y"]}
    model = pgnn.BayesianNetwork([("x", "y")], parts)
    with pytest.raises(Unsupported, match="'x' has no states and is not observed"):
        model.sample(3, {"y": 1.0}, engine=pgnn.JunctionTree())


def test_reals_of_programs_are_drawn_by_executions() -> None:
    import pyro
    import pyro.distributions as dist

    def program() -> None:
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5).double()))
        pyro.sample("x", dist.Normal(100.0 * z, torch.ones(2).double()).to_event(1))

    model = pgnn.Program(program)
    drawn = model.sample(40, seed=0)
    assert drawn["x"].shape == (40, 2)
    assert float((drawn["x"] - 100.0 * drawn["z"].unsqueeze(1)).abs().max()) < 6.0
    held = model.sample(5, {"z": [0, 1]}, seed=0)
    assert held["x"].shape == (5, 2, 2)
    assert bool((held["x"][:, 1] > 90).all())
    assert bool((held["x"][:, 0] < 10).all())
    alone = pgnn.Program(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)))
    assert alone.sample(2, seed=0)["x"].shape == (2,)


def test_elements_of_reals_and_names_of_all_variables() -> None:
    place = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    samples = Samples([PLACE], torch.zeros(2, 0, dtype=torch.int64), {"place": place})
    assert samples["place", 1].tolist() == [1.0, 3.0]
    rows = Samples([PLACE], torch.zeros(1, 2, 0).long(), {"place": place[None]}, batched=True)
    assert rows["place", 0].tolist() == [[0.0, 2.0]]
    with pytest.raises(
        EvidenceError, match="unknown variable of these samples 'x'; known: 'place'"
    ):
        samples["x"]
    with pytest.raises(EvidenceError, match=r"'place' has the shape \(2,\)"):
        samples["place", 2]
    with pytest.raises(EvidenceError, match="unknown variable of these samples 'x'; there is none"):
        Samples([], torch.zeros(2, 0, dtype=torch.int64))["x"]
