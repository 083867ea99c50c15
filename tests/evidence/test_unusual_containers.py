"""Values in containers that hold them otherwise, or none, are read or refused in words."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import pgnn

SEEN = [0, 2, 1]
UNUSUAL: dict[str, Callable[[], Any]] = {
    "sparse": lambda: torch.tensor(SEEN).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(
        torch.tensor([0.0, 2.0, 1.0]), 1.0, 0, torch.qint8
    ),
    "iterator": lambda: iter(SEEN),
    "generator": lambda: (x for x in SEEN),
}


def network() -> pgnn.BayesianNetwork:
    tables = {"a": [0.2, 0.8], "b": [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]}
    return pgnn.BayesianNetwork([("a", "b")], tables)


def chain() -> pgnn.HiddenMarkovModel:
    shown = {"r": [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]}
    return pgnn.HiddenMarkovModel(2, shown, [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]])


def normal() -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork(
        [], {"y": pgnn.Gaussian(pgnn.Variable("y"), mean=0.0, covariance=1.0)}
    )


@pytest.mark.parametrize("how", sorted(UNUSUAL.keys() - {"quantized"}))
def test_they_say_what_a_list_says(how: str) -> None:
    values = UNUSUAL[how]
    rows = network().query("a", {"b": values()})["a"].probs
    torch.testing.assert_close(rows, network().query("a", {"b": SEEN})["a"].probs)
    steps = chain().smooth({"r": values()})["state"].probs
    torch.testing.assert_close(steps, chain().smooth({"r": SEEN})["state"].probs)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("how", ["sparse", "quantized"])
def test_real_values_too(how: str) -> None:
    expected = -0.5 * np.square(SEEN) - 0.5 * np.log(2 * np.pi)
    found = normal().log_prob({"y": UNUSUAL[how]()}).double()
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("make", "name"), [(network, "b"), (chain, "r"), (normal, "y")])
def test_a_tensor_without_values_is_refused(make: Callable[[], Any], name: str) -> None:
    with pytest.raises(pgnn.EvidenceError, match="holds no values"):
        make().log_prob({name: torch.zeros(3, device="meta")})


@pytest.mark.parametrize("names", [torch.tensor(0), np.array(0)])
def test_an_array_without_an_axis_names_no_variable(names: Any) -> None:
    with pytest.raises(pgnn.EvidenceError):
        network().query(names)


def test_ragged_lengths_are_refused() -> None:
    with pytest.raises(pgnn.EvidenceError, match="'T' must be a whole number"):
        chain().smooth({"r": SEEN, "T": [[0, 1], [1]]})


@pytest.mark.parametrize(
    "engine", [pgnn.ForwardBackward(), pgnn.InterfaceAlgorithm(), pgnn.BoyenKoller()], ids=str
)
@pytest.mark.parametrize("model", [network(), pgnn.MarkovRandomField.grid((1, 2), coupling=0.3)])
def test_engines_over_time_refuse_models_without_steps(
    model: pgnn.Model, engine: pgnn.Engine
) -> None:
    verbs: list[Callable[..., Any]] = [model.query, model.most_probable, model.explain]
    for verb in verbs:
        with pytest.raises(pgnn.Unsupported, match=r"answers about .* is not; leave out engine="):
            verb(engine=engine)
    with pytest.raises(pgnn.Unsupported, match=r"answers about .* is not; leave out engine="):
        model.log_prob({}, engine=engine)


def test_forward_backward_refuses_a_slice_of_many_variables() -> None:
    moves = {"s": [[0.9, 0.1], [0.2, 0.8]], "o": [[0.5, 0.5], [0.1, 0.9]]}
    edges = [(("s", -1), "s"), ("s", "o")]
    model = pgnn.DynamicBayesianNetwork(edges, moves, initial={"s": [0.5, 0.5]})
    with pytest.raises(
        pgnn.Unsupported, match=r"about chains of labels, .*, which a DynamicBayesianNetwork is not"
    ):
        model.decode({"o": [0, 1]}, engine=pgnn.ForwardBackward())


def test_nothing_asked_of_the_unrolled_network_is_answered() -> None:
    best = chain().most_probable({"r": SEEN}, targets=[], engine=pgnn.JunctionTree())
    assert float(best.log_prob) == pytest.approx(float(chain().log_prob({"r": SEEN})))


def test_no_rows_of_a_program_are_no_executions() -> None:
    program = pgnn.Program(network().program())
    engine = pgnn.ExecutionSampling(samples=4, seed=0, progress=False)
    assert program.query("a", {"b": []}, engine=engine)["a"].probs.shape == (0, 2)
    assert program.most_probable({"b": []}, engine=engine).log_prob.shape == (0,)
    best = program.most_probable({"b": []}, targets=["a"], engine=engine)
    assert best.log_prob.shape == (0,)


def test_memory_and_arrow_are_columns() -> None:
    arrow = pytest.importorskip("pyarrow")
    model = pgnn.BayesianNetwork([], {"a": [0.3, 0.7]}, states={"a": 2})
    for cells in (memoryview(np.array([0, 1])), arrow.array([0, 1]), arrow.array(["0", "1"])):
        assert model.log_prob({"a": cells}).exp().tolist() == pytest.approx([0.3, 0.7])
    table = arrow.table({"a": [0, None, 1]})
    assert model.log_prob(table).exp().tolist() == pytest.approx([0.3, 1.0, 0.7])
    assert pgnn.states_of(table)["a"].states == (0, 1)
