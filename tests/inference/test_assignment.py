"""Most probable states, one and k best."""

import math

import pandas as pd
import pytest
import torch

from pgnn.errors import EvidenceError
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment, KBest

RAIN = Variable("rain", ["no", "yes"])
DICE = Variable("dice", [1, 2, 3])
STATES = torch.tensor([[1, 2], [0, 0]])
LOGS = torch.tensor([-0.5, -1.5], dtype=torch.float64)
DAYS = pd.Index(["mon", "tue"], name="day")


def one() -> Assignment:
    return Assignment([RAIN, DICE], STATES[:1], LOGS[:1], batched=False)


def batch(index: object = None) -> Assignment:
    return Assignment([RAIN, DICE], STATES, LOGS, batched=True, index=index)


def best(batched: bool = False) -> KBest:
    rows = slice(None) if batched else slice(1)
    states = torch.stack([STATES, STATES.flip(0), torch.full_like(STATES, -1)], dim=1)
    logs = torch.tensor([[-0.5, -0.7, -math.inf], [-1.5, -1.5, -2.0]])
    return KBest([RAIN, DICE], states[rows], logs[rows], batched=batched)


def test_one_row_maps_to_labels() -> None:
    assert dict(one()) == {"rain": "yes", "dice": 3}
    assert one() == {"rain": "yes", "dice": 3}
    assert one().log_prob.shape == ()
    assert float(one().log_prob) == -0.5
    assert one().codes.tolist() == [1, 2]
    assert len(one()) == 2
    assert "rain" in one()
    assert one().get("rian") is None


def test_a_batch_maps_to_state_indices() -> None:
    assert batch()["dice"].tolist() == [2, 0]
    assert batch()["dice"].dtype == torch.int64
    assert batch().log_prob.tolist() == [-0.5, -1.5]
    assert batch().codes.shape == (2, 2)


@pytest.mark.parametrize("error", [EvidenceError, KeyError])
def test_unknown_names(error: type[Exception]) -> None:
    with pytest.raises(error, match="unknown variable of this assignment 'rian'; did you mean"):
        one()["rian"]


def test_frames_hold_labels_and_are_evidence_again() -> None:
    frame = batch(DAYS).frame()
    assert frame.index.equals(DAYS)
    assert frame.loc["mon"].to_dict() == {"rain": "yes", "dice": 3}
    assert list(frame["dice"].cat.categories) == [1, 2, 3]
    assert EvidenceReader([RAIN, DICE]).read(frame).codes.tolist() == STATES.tolist()
    assert EvidenceReader([RAIN, DICE]).read(batch()).codes.tolist() == STATES.tolist()
    assert EvidenceReader([RAIN, DICE]).read(one()).codes.tolist() == [[1, 2]]
    assert one().frame().shape == (1, 2)


def test_rows_without_an_answer() -> None:
    nothing = Assignment(
        [RAIN, DICE], torch.full((1, 2), -1), torch.tensor([-math.inf]), batched=False
    )
    assert dict(nothing) == {"rain": None, "dice": None}
    assert nothing.frame().isna().all(axis=None)


def test_printed() -> None:
    assert str(one()).splitlines() == [
        "variable  most probable state",
        "rain      yes",
        "dice      3",
        "log probability -0.500000",
    ]
    assert str(batch(DAYS)).endswith("log probability -0.500000; row mon, the first of 2")
    learned = Assignment([RAIN], STATES[:1, :1], (LOGS[:1] * 1e-9).requires_grad_(), batched=False)
    assert str(learned).endswith("log probability 0.000000")
    assert repr(learned).endswith("log_prob=0.000000)")
    assert batch().table(row=1).splitlines()[1] == "rain      no"
    assert repr(one()) == "Assignment({'rain': 'yes', 'dice': 3}, log_prob=-0.500000)"
    assert repr(batch()) == "<Assignment of 2 variables, 2 rows>"
    empty = Assignment([RAIN], STATES[:0, :1], LOGS[:0], batched=True)
    assert str(empty) == "most probable states of 1 variable for 0 rows of evidence"


def test_k_best_is_a_sequence_best_first() -> None:
    ranked = best()
    assert [a["dice"] for a in ranked] == [3, 1]  # the third does not exist
    assert len(ranked) == 2
    assert ranked[-1] == {"rain": "no", "dice": 1}
    assert [float(a.log_prob) for a in ranked[:5]] == pytest.approx([-0.5, -0.7])
    assert ranked.log_prob.tolist() == pytest.approx([-0.5, -0.7])
    assert ranked.codes.tolist() == [[1, 2], [0, 0]]
    with pytest.raises(IndexError):
        ranked[2]
    with pytest.raises(EvidenceError, match=r"answer\[0\]\['dice'\]"):
        ranked["dice"]


def test_k_best_of_a_batch_is_padded() -> None:
    ranked = best(batched=True)
    assert len(ranked) == 3
    assert ranked[2].log_prob.tolist() == [-math.inf, -2.0]
    assert ranked[2]["rain"].tolist() == [-1, -1]
    assert ranked.codes.shape == (2, 3, 2)


def test_an_impossible_best_is_kept() -> None:
    ranked = KBest([RAIN], torch.tensor([[[0], [1]]]), torch.full((1, 2), -math.inf), batched=False)
    assert len(ranked) == 1


def test_k_best_frames() -> None:
    frame = best().frame()
    assert frame.index.tolist() == [1, 2]
    assert frame.index.name == "rank"
    assert frame["dice"].tolist() == [3, 1]
    frame = best(batched=True).frame()
    assert frame.index.names == ["row", "rank"]
    assert frame.loc[(0, 2), "dice"] == 1
    assert frame.loc[(1, 2), "dice"] == 3
    assert pd.isna(frame.loc[(1, 3), "dice"])


def test_k_best_printed() -> None:
    printed = str(best())
    assert printed.startswith("number 1 of 2\nvariable  most probable state\nrain      yes")
    assert "number 2 of 2" in printed
    assert repr(best()) == "<KBest: 2 assignments of 2 variables>"


def test_kind_tells_what_is_proven() -> None:
    assert one().kind == batch().kind == "best found"
    rest = {"batched": True, "engine": "Search"}
    proven = Assignment([RAIN, DICE], STATES, LOGS, upper_bound=LOGS + 1e-12, **rest)
    assert proven.kind == "exact"
    assert "(exact, Search)" in proven.table(1)
    above = LOGS + torch.tensor([0.0, 0.5])
    half = Assignment([RAIN, DICE], STATES, LOGS, upper_bound=above, **rest)
    assert half.kind == "best found"
    assert "(exact, Search)" in half.table(0)
    assert "no other is more than 0.5 above" in half.table(1)
    impossible = torch.full((1,), -math.inf)
    none = Assignment([RAIN, DICE], STATES[:1], impossible, batched=False, upper_bound=impossible)
    assert none.kind == "exact"


def test_a_printed_path_begins_with_its_states() -> None:
    words = Variable("tag", ["noun", "verb"], (30,))
    codes = torch.tensor([0, 1, 1] * 10)[None]
    text = str(Assignment([words], codes, LOGS[:1], batched=False))
    line, counts = text.splitlines()[1:3]
    assert line.startswith("tag       noun verb verb noun verb")
    assert line.endswith(" ...")
    assert 70 < len(line) <= 98
    assert counts.strip() == "30 cells: verb in 20, noun in 10"
    ended = torch.where(torch.arange(30) < 4, codes, -1)
    assert "noun verb verb noun\n" in str(Assignment([words], ended, LOGS[:1], batched=False))
