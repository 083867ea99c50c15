"""Evidence over time in every form that people have it, and what is said about wrong forms."""

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError
from pgnn.evidence.sequence_evidence import SequenceEvidence
from tests.inference.time.sequence_cases import model_of, tables

NAN = float("nan")
STATE = pgnn.Variable("state", ["cold", "warm"], shape=("T",))
X = pgnn.Variable("x", 4, shape=("T",))
V = pgnn.Variable("v", None, shape=("T",))
W = pgnn.Variable("w", None, shape=("T", 2))
ALL = [STATE, X, V, W]


def read(evidence: object) -> SequenceEvidence:
    return SequenceEvidence.read(ALL, evidence)


@pytest.mark.parametrize(
    "values",
    [
        [[0, 3, None], [1]],
        [[0, 3, -1], [1]],
        [np.array([0, 3, -1]), np.array([1])],
        [torch.tensor([0, 3, -1]), torch.tensor([1])],
        [pd.Series([0, 3, None]), pd.Series([1])],
        ([0, 3, NAN], [1]),
        torch.tensor([[0, 3, -1], [1, -1, -1]]),
        np.array([[0, 3, NAN], [1, NAN, NAN]]),
    ],
    ids=lambda v: type(v).__name__ + type(v[0]).__name__,
)
def test_rows_of_states(values):
    observed = read({"x": values, "T": [3, 1]})
    assert observed.codes["x"].tolist() == [[0, 3, -1], [1, -1, -1]]
    assert observed.lengths.tolist() == [3, 1]
    assert observed.batched
    assert observed.inside.tolist() == [[True, True, True], [True, False, False]]


def test_lengths_come_from_ragged_rows():
    observed = read({"x": [[0, 3, None], [], [1]], "state": [["cold", "warm", None], [], ["warm"]]})
    assert observed.lengths.tolist() == [3, 0, 1]
    assert observed.codes["state"].tolist() == [[0, 1, -1], [-1, -1, -1], [1, -1, -1]]


@pytest.mark.parametrize(
    "values", [["cold", None, "warm"], pd.Series(["cold", None, "warm"]), np.array([0, -1, 1])]
)
def test_one_sequence(values):
    observed = read({"state": values})
    assert not observed.batched
    assert observed.num_rows == 1
    assert observed.codes["state"].tolist() == [[0, -1, 1]]


def test_real_values():
    observed = read({"v": [[0.5, None], [1, 2, 3]], "w": [np.ones((2, 2)), torch.zeros(3, 2)]})
    assert observed.reals["v"].dtype == torch.float64
    np.testing.assert_array_equal(observed.reals["v"], [[0.5, NAN, NAN], [1, 2, 3]])
    assert observed.reals["w"].shape == (2, 3, 2)
    assert observed.reals["w"][0, 2].isnan().all()
    one = read({"w": [[1.0, 2.0], None, [3.0, NAN]]})
    np.testing.assert_array_equal(one.reals["w"], [[[1, 2], [NAN, NAN], [3, NAN]]])
    assert read({"v": torch.ones(3, dtype=torch.float32)}).reals["v"].dtype == torch.float32


def test_likelihoods():
    soft = np.array([[0.2, 0.8], [NAN, 0.5], [1.0, 0.0]])
    for given in (soft, torch.tensor(soft), soft.astype(np.float32)):
        observed = read({"state": given})
        assert not observed.batched
        np.testing.assert_allclose(
            observed.soft["state"], [[[0.2, 0.8], [1, 0.5], [1, 0]]], rtol=1e-6
        )
    ragged = read({"state": [soft, soft[:1], []]})
    assert ragged.lengths.tolist() == [3, 1, 0]
    assert (ragged.soft["state"][1, 1:] == 1).all()
    nested = read({"state": [[[0.2, 0.8], [1.0, 1.0]], [[0.5, 0.5]]]})
    assert nested.soft["state"].shape == (2, 2, 2)
    assert read({"state": np.ones((2, 3, 2))}).soft["state"].shape == (2, 3, 2)


def test_lengths_and_masks():
    x = np.array([[0, 1, 2, 3], [1, 1, 1, 1]])
    assert read({"x": x, "T": [4, 2]}).codes["x"].tolist() == [[0, 1, 2, 3], [1, 1, -1, -1]]
    mask = np.array([[True, False, True, False], [False] * 4])
    observed = read({"x": x, "T": mask})
    assert observed.lengths.tolist() == [3, 0]
    assert observed.codes["x"].tolist() == [[0, -1, 2, -1], [-1] * 4]
    assert read({"x": x, "T": torch.tensor(mask)}).lengths.tolist() == [3, 0]
    assert read({"T": 5}).steps == 5
    assert read({"T": [5, 2]}).lengths.tolist() == [5, 2]
    assert read({"T": torch.tensor([5, 2])}).num_rows == 2
    assert read({"x": [0, 1, 2], "T": 2}).codes["x"].tolist() == [[0, 1, -1]]


def test_single_steps():
    observed = read({("state", 2): "warm", "x": [[0, 1, 2], [3, 3, 3]]})
    assert observed.codes["state"].tolist() == [[-1, -1, 1], [-1, -1, 1]]
    rows = read({("state", 0): torch.tensor([0, 1]), ("state", 1): "cold", "T": [2, 2]})
    assert rows.codes["state"].tolist() == [[0, 0], [1, 0]]
    both = read({("state", 0): "warm", "state": np.array([[0.3, 0.7], [0.2, 0.8]])})
    np.testing.assert_allclose(both.soft["state"][0], [[0, 1], [0.2, 0.8]])
    assert "state" not in both.codes


def test_data_frames():
    frame = pd.DataFrame({"x": [0, 1, None], "v": [0.5, None, 2.0]}, index=["a", "b", "c"])
    observed = read(frame)
    assert not observed.batched
    assert observed.codes["x"].tolist() == [[0, 1, -1]]
    assert list(observed.index) == ["a", "b", "c"]
    two = read([frame, frame.iloc[:1]])
    assert two.lengths.tolist() == [3, 1]
    assert two.batched


@pytest.mark.parametrize(
    ("evidence", "batched"),
    [
        (None, False),
        ({"x": []}, False),
        ({"T": 0}, False),
        ({"x": np.zeros((0, 3), int)}, True),
        ({"x": [[], []]}, True),
        ({"T": torch.zeros(0, dtype=torch.int64)}, True),
    ],
)
def test_nothing(evidence, batched):
    observed = read(evidence)
    assert int(observed.inside.sum()) == 0
    assert observed.batched == batched
    model = model_of(tables(np.random.default_rng(0), 2, {"x": 4}))
    rows = (observed.num_rows,) if batched else ()
    for found in (model.query(evidence=evidence), model.filter(evidence)):
        assert found.log_evidence.tolist() == np.zeros(rows).tolist()
        assert found.probs("state").shape == (*rows, observed.steps, 2)
    assert model.decode(evidence).log_prob.shape == rows
    assert model.log_prob(evidence).shape == rows
    assert model.predict(evidence, 2).probs("x").shape == (*rows, 2, 4)


def test_what_was_read_is_read_again():
    observed = read({"x": [0, 1]})
    assert read(observed) is observed
    cut = read({"x": [[0, 1, 2], [3]]}).take(torch.tensor([1, 0]), 2)
    assert cut.codes["x"].tolist() == [[3, -1], [0, 1]]
    assert cut.lengths.tolist() == [1, 2]


def test_the_caller_keeps_his_arrays():
    x, v = np.array([[0, 1, 2], [3, 3, 3]]), torch.ones(2, 3)
    read({"x": x, "v": v, "T": [1, 3], ("x", 0): 2})
    assert x.tolist() == [[0, 1, 2], [3, 3, 3]]
    assert (v == 1).all()


WRONG = [
    ({"y": [0]}, r"unknown variable of the model 'y'"),
    ({"stat": ["cold"]}, r"did you mean 'state'|state"),
    ({"x": [0, 4]}, "no state 4"),
    ({"x": np.array([0, 4])}, "out of range 0..3"),
    ({"state": ["hot"]}, "no state 'hot'"),
    ({"x": [[0, 1], [0]], "v": [[0.0, 1.0], [1.0, 2.0]]}, "'v' has 2 steps in row 1, .* 1"),
    ({"x": [[0, 1], [0]], "v": [[0.0, 1.0]]}, "2 of 'x', 1 of 'v'"),
    ({"x": [[0, 1], [0]], "T": [2, 1, 1]}, "2 of 'x', 3 of 'T'"),
    ({"x": [[0, 1], [0]], "T": [2, 2]}, "row 1 has 1 steps, but 'T' says 2"),
    ({"x": [0, 1], "T": -1}, "'T' must be a length"),
    ({"x": [0, 1], "T": 1.5}, "'T' must be a length"),
    ({("state", 3): "cold", "x": [0, 1]}, "step 3 of 'state' is not within the 2 steps"),
    ({("v", 0): 1.0, "x": [0, 1]}, "'v' is real"),
    ({"v": ["a", "b"]}, "'v' must be numbers"),
    ({"v": [0.0, np.inf]}, "'v' is infinite"),
    ({"w": np.zeros((3, 4, 5))}, "must have .2,. at each step, got .5,."),
    ({"w": np.zeros(3)}, "must be .T, 2. for one sequence"),
    ({"state": np.zeros((2, 3, 3))}, "2 numbers at each step"),
    ({"state": np.array([[0.5, -0.5]])}, "finite and not negative"),
    ({"x": [[[0, 1]], [[2]]]}, "4 numbers at each step"),
    ({"x": [0, [1, 2]]}, "must be states, one for each step"),
    (7, "must be a mapping"),
    ([1, 2, 3], "without a name"),
    ([pd.DataFrame({"x": [1]}), pd.DataFrame({"v": [1]})], "same columns"),
    ({"x": np.array([[0.5, 0.2]])}, "fractional"),
    ({"x": [0, 1, 4]}, "^'x', step 2: variable 'x' has no state 4"),
    ({"x": np.array([[0, 1], [0, 9]])}, "^'x', row 1, step 1: .*has no state 9"),
    ({"state": [["cold"], ["cold", "hot", "hot"]]}, r"^'state', row 1, step 1: .*\(1 more steps"),
    ({"x": [0, 1], ("x", 1): 7}, "^'x', step 1: .*no state 7"),
    ({"x": [[0, 1], [0, 1]], ("x", 1): [0, 7]}, "^'x', row 1, step 1: .*no state 7"),
]


@pytest.mark.parametrize(("evidence", "message"), WRONG)
def test_wrong_forms(evidence, message):
    with pytest.raises(EvidenceError, match=message):
        read(evidence)


def test_inputs_of_the_wrong_length():
    model = model_of(tables(np.random.default_rng(0), 2, {"x": 4}))
    rows = SequenceEvidence.of(model, {"x": [[0, 1, 2], [0]]})
    with pytest.raises(EvidenceError, match=r"'u' must be \(2, 3, ...\)"):
        model.covariates({"u": torch.zeros(2, 2)}, rows)


ROLLS = [[0, 2, 1, None], [2, 2]]


@pytest.mark.parametrize(
    "rolls", [ROLLS, [np.array([0, 2, 1, -1]), np.array([2, 2])], [pd.Series(r) for r in ROLLS]]
)
def test_sequences_of_the_only_observed_variable_need_no_name(rolls):
    tables = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    model = pgnn.HiddenMarkovModel(2, {"roll": tables})
    for verb in ("filter", "smooth", "log_prob", "decode", "query"):
        named = getattr(model, verb)
        found, expected = (
            named(*(["state", e] if verb == "query" else [e])) for e in (rolls, {"roll": ROLLS})
        )
        assert str(found) == str(expected)
    fits = [
        pgnn.HiddenMarkovModel(2, {"roll": 3}).requires_grad_().fit(e, seed=0, progress=False)
        for e in (rolls, {"roll": ROLLS})
    ]
    assert torch.equal(*(m.emissions["roll"].log_probs for m in fits))


def test_a_bare_array_is_one_sequence_or_rows():
    observed = SequenceEvidence.read([X], np.array([3, 0]))
    assert not observed.batched
    assert SequenceEvidence.read([X], torch.tensor([[3, 0]])).batched
    assert SequenceEvidence.read([W], np.zeros((3, 2))).reals["w"].shape == (1, 3, 2)
    assert SequenceEvidence.read([STATE], ["cold", None]).codes["state"].tolist() == [[0, -1]]


def test_several_variables_need_names():
    model = pgnn.HiddenMarkovModel(2, {"x": 3, "y": 2})
    with pytest.raises(EvidenceError, match="could belong to 'x', 'y'; give a mapping"):
        model.filter([[0, 1]])
    with pytest.raises(EvidenceError, match="'state', 'x', 'v', 'w'"):
        read(np.array([0, 1]))
    with pytest.raises(EvidenceError, match="no variable"):
        SequenceEvidence.read([], [1])


@pytest.mark.parametrize(
    "evidence",
    [
        {"x": [0, 1], "id": [7, 8], "day": [1, 2]},
        pd.DataFrame({"x": [0, 1], "id": [7, 8], "day": [1, 2]}),
        [pd.DataFrame({"x": [0, 1], "id": [7, 8], "day": [1, 2]})],
    ],
    ids=["mapping", "frame", "frames"],
)
def test_columns_that_are_no_variables_are_left_out_as_the_message_says(evidence):
    call = r"'id', 'day'.*pgnn\.observed\(data, ignore=\['id', 'day'\]\)"
    with pytest.raises(EvidenceError, match=call):
        read(evidence)
    kept = read(pgnn.observed(evidence, ignore=["id", "day"]))
    assert kept.codes["x"].flatten().tolist() == [0, 1]


def test_beginnings_of_rows():
    observed = read({"x": [[0, 1, 2], [3, 3]], "v": [[0.0, 1.0, 2.0], [3.0, 4.0]]})
    begun = observed.shortened(torch.tensor([2, 1]))
    assert (begun.steps, begun.lengths.tolist()) == (2, [2, 1])
    assert begun.codes["x"].tolist() == [[0, 1], [3, -1]]
    assert begun.reals["v"][:, 0].tolist() == [0.0, 3.0]
    assert bool(begun.reals["v"][1, 1].isnan())


def test_a_variable_is_known_where_it_was_observed_at_all_steps():
    observed = read({"x": [[0, 1, 2], [3, 3]], "state": [["cold", None, "cold"], ["cold", "cold"]]})
    assert [observed.is_known(n) for n in ("x", "state", "v")] == [True, False, False]


def test_lengths_as_an_argument() -> None:
    rng = np.random.default_rng(0)
    model = pgnn.HiddenMarkovModel(
        2,
        {"x": lambda child, parents: pgnn.Gaussian(child, parents, mean=[0.0, 4.0])},
        initial=[0.5, 0.5],
        transitions=[[0.9, 0.1], [0.2, 0.8]],
    )
    flat, lengths = rng.normal(size=9), [2, 3, 4]
    parts = {"x": np.split(flat, [2, 5])}
    model.requires_grad_(False)
    for observed in ({"x": flat}, flat, pgnn.observed({"x": flat})):
        for one, other in (
            (model.smooth(observed, lengths=lengths), model.smooth(parts)),
            (model.filter(observed, lengths=lengths), model.filter(parts)),
            (model.predict(observed, 2, lengths=lengths), model.predict(parts, 2)),
            (model.query("state", observed, lengths=lengths), model.query("state", parts)),
        ):
            torch.testing.assert_close(one.probs("state"), other.probs("state"), equal_nan=True)
        assert model.decode(observed, lengths=lengths).codes.equal(model.decode(parts).codes)
        torch.testing.assert_close(model.log_prob(observed, lengths=lengths), model.log_prob(parts))
        learner = pgnn.EM(max_iterations=3, tolerance=0.0)
        with pytest.warns(pgnn.NotConverged):
            one, other = (
                pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian}).fit(
                    data, seed=0, progress=False, learner=learner, lengths=told
                )
                for data, told in ((observed, lengths), (parts, None))
            )
        torch.testing.assert_close(one.emissions["x"].mean, other.emissions["x"].mean)
    with pytest.raises(EvidenceError, match="lengths= is given twice"):
        model.smooth({"x": flat, "T": lengths}, lengths=lengths)


def test_predictions_tell_real_emissions_too() -> None:
    model = pgnn.HiddenMarkovModel(
        2,
        {
            "x": lambda child, parents: pgnn.Gaussian(
                child, parents, mean=[0.0, 4.0], covariance=[1.0, 1.0]
            )
        },
        initial=[1.0, 0.0],
        transitions=[[0.5, 0.5], [0.5, 0.5]],
    )
    found = model.predict({"x": [0.0]}, 1)
    assert float(found["x"].mean) == pytest.approx(2.0)  # of both states in equal parts
    assert float(found["x"].variance) == pytest.approx(5.0)
