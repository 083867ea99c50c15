"""Posteriors: exact probabilities, shapes, gradients, data frames and printed tables."""

import math
import pickle

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from pgnn.errors import EvidenceError, Unsupported
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.posterior import Marginal, Posterior
from pgnn.models import BayesianNetwork, GaussianMarkovField, MarkovRandomField

RAIN = Variable("rain", ["no", "yes"])
DICE = Variable("dice", [1, 2, 3])
ROWS = torch.tensor([[0.25, 0.75, 0.0, 0.1, 0.9], [1.0, 0.0, 0.2, 0.3, 0.5]], dtype=torch.float64)
LOGS = torch.tensor([-0.5, -1.5], dtype=torch.float64)


def one(**more: object) -> Posterior:
    return Posterior([RAIN, DICE], ROWS[:1], LOGS[:1], batched=False, **more)  # type: ignore[arg-type]


def batch(**more: object) -> Posterior:
    return Posterior([RAIN, DICE], ROWS, LOGS, batched=True, **more)  # type: ignore[arg-type]


def test_one_row_has_no_batch_axis() -> None:
    posterior = one()
    assert isinstance(posterior["dice"], Categorical)
    assert posterior["dice"].batch_shape == ()
    assert posterior["dice"].probs.tolist() == [0.0, 0.1, 0.9]
    assert posterior.probs("rain").tolist() == [0.25, 0.75]
    assert posterior.log_evidence.shape == ()
    assert float(posterior.log_evidence) == -0.5
    assert posterior.kind == "exact"


def test_batches() -> None:
    posterior = batch(kind="estimate", engine="Gibbs", diagnostics={"sweeps": 10})
    assert posterior["dice"].batch_shape == (2,)
    assert posterior["dice"].probs.tolist() == [[0.0, 0.1, 0.9], [0.2, 0.3, 0.5]]
    assert posterior.log_evidence.tolist() == [-0.5, -1.5]
    assert (posterior.num_rows, posterior.kind, posterior.engine) == (2, "estimate", "Gibbs")
    assert posterior.diagnostics["sweeps"] == 10


def test_it_is_a_mapping() -> None:
    posterior = one()
    assert list(posterior) == ["rain", "dice"]
    assert len(posterior) == 2
    assert "rain" in posterior
    assert "rian" not in posterior
    assert posterior.get("rian") is None
    assert {name: m.probs.shape[0] for name, m in posterior.items()} == {"rain": 2, "dice": 3}
    assert posterior == posterior
    assert posterior != one()
    assert isinstance(hash(posterior), int)
    assert posterior.variables == (RAIN, DICE)


@pytest.mark.parametrize("error", [EvidenceError, KeyError])
def test_unknown_names(error: type[Exception]) -> None:
    with pytest.raises(error, match="'rian'; did you mean 'rain'"):
        one()["rian"]
    with pytest.raises(error, match="unknown variable of this posterior"):
        one()[["rain"]]  # type: ignore[index]


def test_probabilities_are_kept_to_the_bit() -> None:
    probs = torch.tensor([[0.1, 0.2, 0.7 + 3e-16]], dtype=torch.float64)
    posterior = Posterior([DICE], probs, LOGS[:1], batched=False)
    assert torch.equal(posterior["dice"].probs, probs[0])
    again = posterior["dice"].expand((4,))
    assert torch.equal(again.probs[3], probs[0])


def test_impossible_states_have_log_probability_minus_infinity() -> None:
    marginal = one()["dice"]
    assert marginal.log_prob(torch.tensor([0, 2])).tolist() == [-math.inf, math.log(0.9)]
    expected = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    assert float(marginal.entropy()) == pytest.approx(expected, abs=1e-12)
    other = Marginal.of(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64))
    expected = 0.1 * math.log(0.1 / 0.25) + 0.9 * math.log(0.9 / 0.25)
    assert float(kl_divergence(marginal, other)) == pytest.approx(expected, abs=1e-12)
    assert float(kl_divergence(other, marginal)) == math.inf
    assert set(marginal.sample((50,)).tolist()) <= {1, 2}
    assert marginal.expand((2,)).log_prob(torch.tensor([1, 0])).tolist() == [
        math.log(0.1),
        -math.inf,
    ]


def test_gradients_pass_through_and_stay_finite() -> None:
    probs = ROWS.clone().requires_grad_()
    posterior = Posterior([RAIN, DICE], probs, LOGS, batched=True)
    log_prob = posterior["dice"].log_prob(torch.tensor([2, 1]))
    (log_prob.sum() + posterior["rain"].entropy().sum() + posterior["rain"].probs[0, 0]).backward()
    assert probs.grad is not None
    assert bool(probs.grad.isfinite().all())
    assert probs.grad[0].tolist() == pytest.approx(
        [1 - math.log(0.25) - 1, -math.log(0.75) - 1, 0, 0, 1 / 0.9]
    )
    assert probs.grad[1, 3].item() == pytest.approx(1 / 0.3)


def test_joint_is_normalised_and_in_the_order_asked_for() -> None:
    asked = []

    def joint(names: tuple[object, ...]) -> Factor:
        asked.append(names)
        return Factor([RAIN, DICE], torch.tensor([[[1.0, 2, 3], [4, 5, 6]]]).double().log())

    table = one(joint=joint).joint("dice", "rain")
    assert asked == [("dice", "rain")]
    assert table.names == ("dice", "rain")
    assert table.batch_shape == ()
    torch.testing.assert_close(table.values, torch.tensor([[1.0, 4], [2, 5], [3, 6]]).double() / 21)
    rows = Posterior([RAIN, DICE], ROWS[:1], LOGS[:1], batched=True, joint=joint)
    assert rows.joint("rain", "dice").batch_shape == (1,)


def test_joints_that_cannot_be() -> None:
    posterior = one(engine="MeanField")
    with pytest.raises(Unsupported, match=r"MeanField computes no joint tables; use JunctionTree"):
        posterior.joint("rain")
    with pytest.raises(EvidenceError, match="each variable of the joint once"):
        posterior.joint("rain", "rain")
    with pytest.raises(EvidenceError, match="each variable of the joint once"):
        posterior.joint()


def test_frame_of_one_row() -> None:
    frame = one().frame()
    assert list(frame.columns) == ["probability"]
    assert frame.index.names == ["variable", "state"]
    assert frame.loc[("rain", "yes"), "probability"] == 0.75
    assert frame.loc["dice", "probability"].to_dict() == {1: 0.0, 2: 0.1, 3: 0.9}


def test_frame_of_a_batch_keeps_the_index() -> None:
    index = pd.Index(["mon", "tue"], name="day")
    frame = batch(index=index).frame()
    assert frame.index.equals(index)
    assert frame.columns.names == ["variable", "state"]
    assert frame.loc["tue", ("dice", 3)] == 0.5
    assert frame["rain"].to_numpy().tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert list(batch().frame().index) == [0, 1]


def test_frames_are_copies() -> None:
    frame = one().frame()
    frame.iloc[0, 0] = 7.0
    assert ROWS[0, 0] == 0.25


def test_names_and_states_may_be_tuples() -> None:
    pixel = Variable(("pixel", 3, 4), [("a", 0), ("a", 1)])
    posterior = Posterior([pixel], ROWS[:1, :2], LOGS[:1], batched=False)
    assert posterior["pixel", 3, 4].probs.tolist() == [0.25, 0.75]
    assert list(posterior.frame().index) == [(("pixel", 3, 4), ("a", k)) for k in (0, 1)]
    assert "('pixel', 3, 4)" in str(posterior)


def test_printed_table() -> None:
    assert str(one(engine="JunctionTree")).splitlines() == [
        "variable  posterior probability of each state",
        "rain      no 0.2500   yes 0.7500",
        "dice      1       0   2   0.1000   3 0.9000",
        "log evidence -0.500000 (exact, JunctionTree)",
    ]


def test_printed_zeros_have_no_sign() -> None:
    certain = Posterior([RAIN], ROWS[:1, :2], torch.tensor([-1e-12]), batched=False)
    assert "log evidence 0.000000" in str(certain)


def test_answers_that_want_gradients_are_printed() -> None:
    rows, logs = ROWS.clone().requires_grad_(), LOGS.clone().requires_grad_()
    learned = Posterior([RAIN, DICE], rows, logs, batched=True)
    assert str(learned) == str(batch())


def test_printed_batch_shows_its_first_row() -> None:
    printed = str(batch(index=pd.Index(["mon", "tue"])))
    assert printed.splitlines()[1] == "rain      no 0.2500   yes 0.7500"
    assert printed.endswith("log evidence -0.500000 (exact); row mon, the first of 2")
    assert str(batch()).endswith("row 0, the first of 2")
    assert batch().table(row=1).splitlines()[1] == "rain      no      1   yes      0"
    assert repr(batch()) == "<Posterior of 2 variables, 2 rows, exact>"


def test_small_probabilities_are_not_printed_as_zero() -> None:
    probs = torch.tensor([[3e-7, 1 - 3e-7]], dtype=torch.float64)
    line = Posterior([RAIN], probs, LOGS[:1], batched=False).table().splitlines()[1]
    assert line == "rain      no  3e-07   yes 1.0000"


def test_many_states_wrap_and_many_variables_are_cut_short() -> None:
    wide = Variable("wide", [f"state{k:02}" for k in range(20)])
    posterior = Posterior([wide], torch.full((1, 20), 0.05), LOGS[:1], batched=False)
    lines = posterior.table().splitlines()
    assert all(len(line) <= 88 for line in lines)
    assert sum(line.count("0.0500") for line in lines) == 20
    many = [Variable(f"v{k}", 2) for k in range(300)]
    posterior = Posterior(many, torch.full((1, 600), 0.5), LOGS[:1], batched=False)
    assert len(posterior.table().splitlines()) == 301
    assert "... and 200 more variables: see .frame() or .table()" in str(posterior)


def test_rows_without_an_answer() -> None:
    probs = torch.full((1, 5), math.nan)
    posterior = Posterior([RAIN, DICE], probs, torch.tensor([-math.inf]), batched=True)
    assert posterior["rain"].probs.isnan().all()
    assert "log evidence -inf" in str(posterior)


def test_empty_batches_and_no_variables() -> None:
    posterior = Posterior([RAIN, DICE], ROWS[:0], LOGS[:0], batched=True)
    assert posterior["dice"].batch_shape == (0,)
    assert posterior.frame().shape == (0, 5)
    assert str(posterior) == "posterior of 2 variables for 0 rows of evidence (exact)"
    nothing = Posterior([], ROWS[:1, :0], LOGS[:1], batched=False)
    assert "log evidence -0.5" in str(nothing)
    assert nothing.frame().shape == (0, 1)


def test_marginals_can_be_pickled() -> None:
    assert torch.equal(pickle.loads(pickle.dumps(one()["rain"])).probs, ROWS[0, :2])


def test_what_is_made_at_the_first_look_is_what_was_answered() -> None:
    """A posterior given arrays cuts them when it is looked at; tensors are cut one by one."""
    rng = np.random.default_rng(0)
    variables = [Variable("a", 2), Variable("pixel", 3, shape=(2, 2)), Variable("b", 4)]
    table, logs = rng.random((5, 18)), rng.random(5)
    for rows in (1, 5):
        batched = rows > 1
        late = Posterior(variables, table[:rows], logs[:rows], batched=batched)
        tensors = torch.from_numpy(table[:rows]), torch.from_numpy(logs[:rows])
        soon = Posterior(variables, *tensors, batched=batched)
        whole = tensors[0] if batched else tensors[0][0]
        for posterior in (late, soon):
            assert torch.equal(posterior.probs("a"), whole[..., :2])
            assert torch.equal(posterior["pixel"].probs.flatten(-3), whole[..., 2:14])
            assert torch.equal(posterior["pixel", 1, 0].probs, whole[..., 8:11])
            assert torch.equal(posterior["b"].probs, whole[..., 14:])
            assert posterior.num_rows == rows
            assert torch.equal(posterior.log_evidence, tensors[1] if batched else tensors[1][0])
        assert str(late) == str(soon)
        assert late.frame().equals(soon.frame())


def test_marginals_are_categorical_distributions() -> None:
    """All that torch's own distribution says, without its constructor."""
    probs = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.9, 0.0]], dtype=torch.float64)
    ours, theirs = Marginal.of(probs), torch.distributions.Categorical(probs=probs)
    assert isinstance(ours, torch.distributions.Categorical)
    assert ours.batch_shape == theirs.batch_shape
    assert ours.event_shape == theirs.event_shape
    assert ours.param_shape == theirs.param_shape
    assert repr(ours) == "Marginal(probs: torch.Size([2, 3]))"
    assert ours.sample((7,)).shape == (7, 2)
    assert ours.enumerate_support().shape == (3, 2)
    assert ours.expand((4, 2)).probs.shape == (4, 2, 3)
    assert ours.mode.tolist() == [2, 1]
    assert ours.support.upper_bound == 2
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    state = torch.tensor([0, 1])
    torch.testing.assert_close(ours.log_prob(state), theirs.log_prob(state))
    divergence = torch.distributions.kl_divergence(ours, theirs)
    torch.testing.assert_close(divergence, torch.zeros(2, dtype=torch.float64))


def test_log_evidence_of_an_undirected_model_is_a_log_partition_function() -> None:
    alike = [[10.0, 1.0], [1.0, 10.0]]
    field = MarkovRandomField([("a", "b")], {("a", "b"): alike}, states={"a": 2, "b": 2})
    given, free = field.query("b", {"a": 1}), field.query("b")
    assert "log partition function 2.397895 (exact" in str(given)  # log 11, of 22
    assert "log partition function 2.397895 (exact" in given._repr_html_()
    assert math.isclose(float(given.log_evidence - free.log_evidence), math.log(0.5))
    directed = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": alike / np.float64(11.0)})
    assert "log evidence -0.693147 (exact" in str(directed.query("b", {"a": 1}))


def test_log_evidence_of_a_gaussian_field_is_normalised() -> None:
    field = GaussianMarkovField(nx.path_graph(["a", "b"]), anchor=1.0)
    found = field.query(evidence={"a": 1.0})
    precision = np.array([[2.0, -1.0], [-1.0, 2.0]])
    variance = np.linalg.inv(precision)[0, 0]
    log_density = -0.5 * (math.log(2 * math.pi * variance) + 1 / variance)
    assert math.isclose(float(found.log_evidence), log_density)
    assert f"log evidence {log_density:.6f} (exact" in str(found)
