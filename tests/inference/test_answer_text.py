"""Answers about arrays as printed text, and what engines have to say."""

import numpy as np
import pytest
import torch

from pgnn.errors import EvidenceError
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.factors.variable import Variable
from pgnn.inference.answer_text import diagnostics_text, probability_table, state_table
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples

LABEL = Variable("label", ["cat", "dog"])
PIXEL = Variable("pixel", ["off", "on"], shape=(4, 5))
SPIN = Variable("spin", 2, shape=(2, 2))
HEIGHT = Variable("height")
ON = np.where(np.arange(20) < 5, 0.97, 0.25)
PROBS = np.concatenate([[0.25, 0.75], np.stack([1 - ON, ON], 1).ravel(), [0.5, 0.5] * 4])
CODES = np.concatenate([[1], (ON > 0.5).astype(int), [0, 1, 1, -1]])
LOG = torch.tensor([-0.5], dtype=torch.float64)


def posterior(**more: object) -> Posterior:
    table = torch.tensor(PROBS)[None]
    return Posterior([LABEL, PIXEL, SPIN], table, LOG, batched=False, **more)  # type: ignore[arg-type]


def assignment(**more: object) -> Assignment:
    states = torch.tensor(CODES)[None]
    return Assignment([LABEL, PIXEL, SPIN], states, LOG, batched=False, **more)  # type: ignore[arg-type]


def test_large_arrays_are_summed_up() -> None:
    assert str(posterior(engine="Gibbs", kind="estimate")).splitlines() == [
        "variable        posterior probability of each state",
        "label           cat 0.2500   dog 0.7500",
        "pixel           4 x 5 cells, mean:",
        "                off 0.5700   on  0.4300",
        "                most probable: off in 15, on in 5",
        "                at least 0.95 sure in 5",
        "('spin', 0, 0)  0   0.5000   1   0.5000",
        "('spin', 0, 1)  0   0.5000   1   0.5000",
        "('spin', 1, 0)  0   0.5000   1   0.5000",
        "('spin', 1, 1)  0   0.5000   1   0.5000",
        "log evidence -0.500000 (estimate, Gibbs)",
    ]
    assert len(posterior().table().splitlines()) == 1 + 1 + 20 + 4
    assert "('pixel', 3, 4)  off 0.7500   on  0.2500" in posterior().table()


def test_an_image_prints_in_a_few_lines() -> None:
    image = Variable("image", 16, shape=(28, 28))
    table = probability_table([image], np.full(784 * 16, 1 / 16), 100, 16)
    assert len(table.splitlines()) < 8
    assert max(len(line) for line in table.splitlines()) <= 88
    assert len(probability_table([image], np.full(784 * 16, 1 / 16), 100).splitlines()) < 110
    states = state_table([image], np.arange(784) % 16)
    assert states.splitlines()[1] == (
        "image     28 x 28 cells: 0 in 49, 1 in 49, 2 in 49, 3 in 49, 4 in 49, 5 in 49, "
        "10 more states"
    )


def test_lines_that_are_left_out_are_counted() -> None:
    many = [Variable(f"v{k}", 2) for k in range(5)]
    table = probability_table([*many, SPIN], np.full(18, 0.5), 3, 16)
    assert table.splitlines()[-1] == "... and 6 more variables: see .frame() or .table()"
    table = probability_table([*many, PIXEL], np.full(50, 0.5), 3, 16)
    assert table.splitlines()[-1] == "... and 3 more variables: see .frame() or .table()"


def test_arrays_without_cells_or_without_an_answer() -> None:
    empty = Variable("empty", 2, shape=(0, 3))
    assert "0 x 3 cells" in probability_table([empty], np.zeros(0))
    assert "0 x 3 cells" in state_table([empty], np.zeros(0, dtype=int))
    lost = probability_table([PIXEL], np.full(40, np.nan), None, 16)
    assert "0 of 4 x 5 cells" in lost
    assert "nan" not in lost


def test_cells_without_an_answer_do_not_spoil_the_mean() -> None:
    steps = Variable("steps", 2, shape=(20,))
    probs = np.full((20, 2), np.nan)
    probs[:15] = [0.25, 0.75]
    text = probability_table([steps], probs.ravel(), None, 16)
    assert "15 of 20 cells, mean:" in text
    assert "0 0.2500   1 0.7500" in text
    assert "most probable: 1 in 15\n" in text


def test_states_of_arrays() -> None:
    assert str(assignment()).splitlines() == [
        "variable  most probable state",
        "label     dog",
        "pixel     4 x 5 cells: off in 15, on in 5",
        "spin[0]   0 1",
        "spin[1]   1 None",
        "log probability -0.500000",
    ]
    assert repr(assignment()) == "<Assignment of 3 variables, log_prob=-0.500000>"
    line = state_table([Variable("x", ["a", "bb"], shape=(3,))], np.array([0, 1, 0]))
    assert line.splitlines()[1] == "x         a  bb a"


@pytest.mark.parametrize(
    ("bound", "engine", "expected"),
    [
        (None, "", ""),
        (None, "Annealing", " (best found by Annealing)"),
        (-0.5, "JunctionTree", " (exact, JunctionTree)"),
        (-0.5 + 1e-12, "", " (exact)"),
        (
            -0.25,
            "DualDecomposition",
            " (best found by DualDecomposition; no other is more than 0.25 above)",
        ),
        (-0.25, "", " (best found; no other is more than 0.25 above)"),
    ],
)
def test_how_far_an_assignment_is_from_the_best(
    bound: float | None, engine: str, expected: str
) -> None:
    upper = None if bound is None else torch.tensor([bound], dtype=torch.float64)
    best = assignment(upper_bound=upper, engine=engine, diagnostics={"sweeps": 7})
    assert str(best).splitlines()[-2:] == [f"log probability -0.500000{expected}", "sweeps 7"]
    assert best.upper_bound is None if bound is None else float(best.upper_bound) == bound  # type: ignore[arg-type]


def test_labels_of_arrays_are_evidence_again() -> None:
    kinds = [
        (["off", "on"], "U"),
        (2, "i"),
        ([True, False], "b"),
        ([1, 2], "O"),
        ([0.0, 1.0], "O"),
        ([("a", 0), ("a", 1)], "O"),
        (["a", 1], "O"),
    ]
    for states, kind in kinds:
        pair = Variable("pair", states, shape=(2,))  # type: ignore[arg-type]
        best = Assignment([pair], torch.tensor([[1, 0]]), LOG, batched=False)
        assert best["pair"].dtype.kind == kind
        assert list(best["pair"]) == list(pair.decode([1, 0]))
        assert EvidenceReader([pair]).read(best).codes.tolist() == [[1, 0]]
        assert EvidenceReader([pair]).read(best.frame()).codes.tolist() == [[1, 0]]
    assert KBest([pair], torch.tensor([[[1, 0]]]), LOG[None], batched=False)[0]["pair"].shape == (
        2,
    )


def test_frames_have_a_row_or_column_an_element() -> None:
    frame = posterior().frame()
    assert frame.shape == (50, 1)
    assert frame.loc[(("pixel", 3, 4), "on"), "probability"] == 0.25
    frame = assignment().frame()
    assert frame.shape == (1, 25)
    assert frame[("pixel", 0, 0)].tolist() == ["on"]
    assert list(frame[("pixel", 0, 0)].cat.categories) == ["off", "on"]


def test_samples_of_arrays_and_reals() -> None:
    codes = torch.arange(2)[:, None].repeat(1, 25)
    codes[:, -1] = torch.tensor([1, 0])
    height = torch.tensor([1.5, 2.5])
    weights = torch.tensor([-1.0, 0.0])
    samples = Samples([LABEL, PIXEL, HEIGHT, SPIN], codes, {"height": height}, log_weights=weights)
    assert samples["pixel"].shape == (2, 4, 5)
    assert samples["pixel", 1, 2].tolist() == [0, 1]
    assert samples["height"] is height
    assert ("pixel", 1, 2) in samples
    assert ("pixel", 4, 2) not in samples
    assert ["height"] not in samples
    assert repr(samples) == "<Samples: 2 of 4 variables, weighted>"
    frame = samples.frame()
    assert frame.shape == (2, 27)
    assert list(frame.columns[20:23]) == [("pixel", 3, 4), "height", ("spin", 0, 0)]
    assert frame[("spin", 1, 0)].tolist() == [0, 1]
    assert frame[("spin", 1, 1)].tolist() == [1, 0]
    assert frame["log_weight"].tolist() == [-1.0, 0.0]
    rows = Samples([SPIN], codes[None, :, :4], batched=True, log_weights=weights[None])
    assert rows["spin"].shape == (1, 2, 2, 2)
    assert rows.frame()["log_weight"].tolist() == [-1.0, 0.0]
    assert "log_weight" not in Samples([SPIN], codes[:, :4]).frame()
    with pytest.raises(EvidenceError, match=r"must have shape \(n, 4\), got \(2, 3\)"):
        Samples([SPIN], codes[:, :3])
    with pytest.raises(EvidenceError, match=r"log weights must have shape \(2,\), got \(1, 2\)"):
        Samples([SPIN], codes[:, :4], log_weights=weights[None])


def test_diagnostics() -> None:
    told = {
        "reason": "treewidth 28",
        "converged": torch.tensor([True, False]),
        "iterations": np.array([3, 12]),
        "residual": torch.tensor([1e-7, 0.25], requires_grad=True),
        "lower": torch.tensor([-3.0, -2.5]),
        "upper": torch.tensor([-1.0, -2.0]),
        "r_hat": np.array([[1.0, 1.5], [1.25, 1.0]]),
        "effective_sample_size": np.array([[10.0, 20.0], [400.0, 30.0]]),
        "history": [1, 2, 3],
        "table": np.zeros((2, 3)),
        "log_increments": np.array([-0.5, -0.25]),
        "impossible": np.array([True, False]),
        "nothing": None,
        "words": "not told",
        "other": object(),
    }
    expected = (
        "not converged, iterations 12, residual 0.25, log evidence at least -2.5, "
        "log evidence at most -2, largest R-hat 1.25, smallest effective sample size 30"
    )
    assert diagnostics_text(told, 1) == f"{expected}\nreason: treewidth 28"
    assert diagnostics_text(told, 0).endswith(", impossible\nreason: treewidth 28")
    assert diagnostics_text({}) == ""
    assert diagnostics_text({"residual": np.zeros(0)}) == ""
    assert str(posterior(diagnostics={"sweeps": 5})).endswith("(exact)\nsweeps 5")
