"""What is said of sequences that cannot occur."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import ImpossibleEvidence
from pgnn.inference.time.boyen_koller import BoyenKoller
from pgnn.inference.time.forward_backward import ForwardBackward
from pgnn.inference.time.interface_algorithm import InterfaceAlgorithm
from pgnn.models.sequence_model import SequenceModel
from tests.inference.time.sequence_cases import enumerate_row, model_of, tables


def slices_of(given: dict) -> pgnn.DynamicBayesianNetwork:
    """The same distribution as a network over time."""
    conditionals = {"state": given["transitions"], "x": given["emissions"]["x"]}
    states = {"state": len(given["initial"]), "x": given["emissions"]["x"].shape[1]}
    return pgnn.DynamicBayesianNetwork(
        [(("state", -1), "state"), ("state", "x")],
        conditionals,
        initial={"state": given["initial"]},
        states=states,
    )


CASES = {
    "chain": (model_of, ForwardBackward()),
    "slices": (slices_of, InterfaceAlgorithm()),
    "products": (slices_of, BoyenKoller()),
}


@pytest.mark.parametrize("case", CASES)
def test_impossible_sequences_are_named_by_row_and_step(case: str) -> None:
    make, engine = CASES[case]
    found = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        given = tables(rng, 3, {"x": 3}, zeros=0.55)
        model: SequenceModel = make(given)
        rows = [rng.integers(-1, 3, size=n).tolist() for n in (5, 1, 4, 3)]
        lost = {}
        for k, row in enumerate(rows):
            for t in range(len(row)):
                if np.isneginf(enumerate_row(given, {"x": row[: t + 1]}, t + 1).log_z):
                    lost[k] = t
                    break
        for ask in (model.smooth, model.filter) if lost else ():
            found += 1
            with pytest.raises(ImpossibleEvidence) as error:
                ask({"x": rows}, engine=engine)
            assert dict(zip(error.value.rows, error.value.steps, strict=True)) == lost
            first = min(lost)
            assert f"{len(lost)} of 4 rows" in str(error.value)
            assert f"row {first}, from step {lost[first]} on" in str(error.value)
    assert found >= 4


def test_a_lone_sequence_has_no_row() -> None:
    given = {"initial": [1.0, 0.0], "transitions": [[0.5, 0.5], [0.0, 1.0]]}
    given["emissions"] = {"x": np.eye(2)}
    model = model_of(given)
    with pytest.raises(ImpossibleEvidence, match=r"^the sequence has .* from step 3 on$") as error:
        model.decode({"x": [0, 1, 1, 0, 0]})
    assert (error.value.rows, error.value.steps) == ((0,), (3,))
    live = pgnn.OnlineFilter(model)
    for x in [0, 1, 1]:
        live.update({"x": x})
    with pytest.raises(ImpossibleEvidence, match="evidence of step 3 is impossible"):
        live.update({"x": 0})
    assert live.num_steps == 3


def test_inputs_are_cut_with_the_rows() -> None:
    """Where emissions follow covariates the step is found all the same."""

    class Same(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features[:, :2].log()

    state, x = pgnn.Variable("state", 2), pgnn.Variable("x", 2)
    model = pgnn.HiddenMarkovModel(
        2, {"x": pgnn.Neural(x, [state], Same(), ["u"])}, [1.0, 0.0], np.eye(2)
    )
    inputs = {"u": torch.zeros(2, 4, 1)}
    with pytest.raises(ImpossibleEvidence, match="row 1, from step 2 on"):
        model.smooth({"x": [[0, 0, 0, 0], [0, 0, 1, 0]]}, inputs=inputs)
