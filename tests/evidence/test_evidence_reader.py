"""Findings in every form that people have them, and every form that is wrong."""

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgnn
from pgnn.errors import EvidenceError
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.unknown_variable import UnknownVariable
from pgnn.factors.variable import Variable

RAIN = Variable("rain", ["no", "yes"])
DICE = Variable("dice", [1, 2, 3])
HEIGHT = Variable("height")
PLACE = Variable("place", shape=(2,))
SKY = Variable("sky", ["clear", "cloudy", "dark"])
VARIABLES = [RAIN, HEIGHT, DICE, PLACE, SKY]
READER = EvidenceReader(VARIABLES)
NAN = float("nan")


def codes(evidence: object) -> list[list[int]]:
    return READER.read(evidence).codes.tolist()


def test_nothing_observed() -> None:
    unobserved = {"rain": None, "sky": NAN, "dice": -1}
    for evidence in (None, {}, unobserved, {**unobserved, "height": None}):
        observed = EvidenceReader(VARIABLES).read(evidence)
        assert observed.codes.tolist() == [[-1, -1, -1]]
        assert observed.codes.dtype == np.int32
        assert (observed.num_rows, observed.batched, observed.names, observed.index) == (
            1,
            False,
            (),
            None,
        )
        assert observed.soft is None
        assert observed.soft_scale.tolist() == [0.0]
        assert dict(observed.soft_tensors) == dict(observed.reals) == {}


def test_names_come_in_the_order_of_the_variables() -> None:
    assert READER.read({"sky": "dark", "rain": "no"}).names == ("rain", "sky")
    assert READER.read({"height": 1.0, "sky": ["dark"], "rain": "no"}).names == (
        "rain",
        "sky",
        "height",
    )


def test_no_variables() -> None:
    assert EvidenceReader([]).read(None).codes.shape == (1, 0)
    assert EvidenceReader([HEIGHT]).read({"height": 1.0}).codes.shape == (1, 0)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ({"rain": "yes"}, [1, -1, -1]),
        ({"rain": 1, "dice": 1, "sky": np.int64(2)}, [1, 0, 2]),
        ({"dice": torch.tensor(1)}, [-1, 0, -1]),
        ({"dice": np.array(1)}, [-1, 0, -1]),
        ({"rain": np.array(True)}, [1, -1, -1]),
        ({"rain": -1, "dice": 3.0, "sky": pd.NA}, [-1, 2, -1]),
        ({"rain": np.str_("no")}, [0, -1, -1]),
        (pd.Series({"rain": "yes", "dice": 2}), [1, 1, -1]),
        (pd.DataFrame({"dice": [1, 3]}).iloc[1], [-1, 2, -1]),
    ],
)
def test_one_row(evidence: object, expected: list[int]) -> None:
    observed = READER.read(evidence)
    assert observed.codes.tolist() == [expected]
    assert not observed.batched
    assert observed.names == tuple(
        v.name for v, k in zip(READER.discrete, expected, strict=True) if k >= 0
    )


@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([1, -1, 0]),
        torch.tensor([1, -1, 0], dtype=torch.int8),
        np.array([1, -1, 0]),
        np.array([1.0, NAN, 0.0]),
        torch.tensor([1.0, NAN, 0.0]),
        torch.tensor([1.0, NAN, 0.0], dtype=torch.bfloat16),
        ["yes", None, "no"],
        ("yes", NAN, "no"),
        [1, None, 0],
        [1.0, NAN, 0.0],
        np.array(["yes", None, "no"], dtype=object),
        pd.Series(["yes", None, "no"]),
        pd.Series(["yes", None, "no"], dtype="string"),
        pd.Series(["yes", None, "no"], dtype="category"),
        pd.Categorical(["yes", None, "no"]),
        pd.Series([1.0, NAN, 0.0]),
        pd.Series([1, None, 0], dtype="Int64"),
    ],
)
def test_a_batch_in_every_form(values: object) -> None:
    observed = READER.read({"rain": values, "sky": "dark"})
    assert observed.codes.tolist() == [[1, -1, 2], [-1, -1, 2], [0, -1, 2]]
    assert (observed.batched, observed.num_rows, observed.names) == (True, 3, ("rain", "sky"))


def test_numbers_are_labels_in_every_container_where_labels_are_numbers() -> None:
    assert codes({"dice": [1, 2]}) == [[-1, 0, -1], [-1, 1, -1]]
    assert codes({"dice": pd.Series([1, 2])}) == [[-1, 0, -1], [-1, 1, -1]]
    assert codes(pd.DataFrame({"dice": [1.0, NAN]})) == [[-1, 0, -1], [-1, -1, -1]]
    assert codes({"dice": np.array([1, 2])}) == [[-1, 0, -1], [-1, 1, -1]]
    assert codes({"dice": pgnn.codes([1, 2])}) == [[-1, 1, -1], [-1, 2, -1]]


def test_labels_that_are_sequences() -> None:
    pair = Variable("pair", [("a", 0), ("a", 1)])
    assert EvidenceReader([pair]).read({"pair": ("a", 1)}).codes.tolist() == [[1]]
    assert EvidenceReader([pair]).read({"pair": [("a", 1), None]}).codes.tolist() == [[1], [-1]]


def test_batches_of_one_and_none() -> None:
    one = READER.read({"rain": ["yes"]})
    assert (one.num_rows, one.batched) == (1, True)
    for empty in ([], np.array([]), torch.tensor([], dtype=torch.int64), pd.Series([], dtype=str)):
        none = READER.read({"rain": empty, "sky": "dark"})
        assert none.codes.shape == (0, 3)
        assert (none.num_rows, none.batched, none.soft_scale.shape) == (0, True, (0,))


def test_data_frames() -> None:
    frame = pd.DataFrame(
        {
            "sky": pd.Categorical(["dark", "dark", None], categories=["cloudy", "dark"]),
            "rain": ["yes", None, "no"],
            "height": [1.5, NAN, 2.5],
        },
        index=pd.Index(["mon", "tue", "wed"], name="day"),
    )
    observed = READER.read(frame)
    assert observed.codes.tolist() == [[1, -1, 2], [-1, -1, 2], [0, -1, -1]]
    assert observed.names == ("rain", "sky", "height")
    assert observed.index is frame.index
    assert observed.batched
    assert READER.read(frame.iloc[:0]).codes.shape == (0, 3)
    assert READER.read(frame[[]]).codes.tolist() == [[-1, -1, -1]] * 3
    assert READER.read(frame.iloc[1]).codes.tolist() == [[-1, -1, 2]]


def test_soft_evidence_for_all_rows() -> None:
    observed = READER.read({"rain": torch.tensor([0.2, 0.1]), "sky": [0.0, 0.5, 0.25], "dice": 2})
    assert observed.codes.tolist() == [[-1, 1, -1]]
    assert observed.soft is not None
    np.testing.assert_allclose(observed.soft, [[1, 0.5, 1, 1, 1, 0, 1, 0.5]], rtol=1e-7)
    np.testing.assert_allclose(observed.soft_scale, [np.log(0.2) + np.log(0.5)], rtol=1e-7)
    assert observed.names == ("rain", "dice", "sky")
    assert not observed.batched
    assert not observed.soft_tensors


def test_soft_evidence_by_row() -> None:
    likelihood = np.array([[0.2, 0.4], [NAN, NAN], [3.0, 0.0]])
    before = likelihood.copy()
    observed = READER.read({"rain": likelihood, "sky": ["dark", None, "clear"]})
    assert observed.soft is not None
    np.testing.assert_allclose(observed.soft[:, :2], [[0.5, 1], [1, 1], [1, 0]])
    assert (observed.soft[:, 2:] == 1).all()
    np.testing.assert_allclose(observed.soft_scale, np.log([0.4, 1.0, 3.0]))
    assert observed.codes.tolist() == [[-1, -1, 2], [-1, -1, -1], [-1, -1, 0]]
    np.testing.assert_array_equal(likelihood, before)
    nested = READER.read({"rain": [[0.2, 0.4], [3, 0]]})
    assert nested.soft is not None
    np.testing.assert_allclose(nested.soft[:, :2], [[0.5, 1], [1, 0]])


@pytest.mark.parametrize("rows", [2, 3])
def test_a_likelihood_is_one_whatever_the_number_of_rows(rows: int) -> None:
    """A batch of as many rows as states must not turn a likelihood into states or back."""
    soft = pgnn.likelihood(np.array([0.0, 1.0]))
    observed = READER.read({"rain": soft, "sky": torch.zeros(rows, dtype=torch.long)})
    assert observed.codes.tolist() == [[-1, -1, 0]] * rows
    assert observed.soft is not None
    assert observed.soft[:, :2].tolist() == [[0.0, 1.0]] * rows
    with pytest.raises(EvidenceError, match=r"likelihood of its 2 states.*got shape \(3,\)"):
        READER.read({"rain": np.array([0.0, 0.5, 1.0])})
    with pytest.raises(EvidenceError, match=r"states of rows or likelihoods.*\[0, 1\].*pgnn.likel"):
        READER.read({"rain": np.array([0.0, 1.0])})


def test_floats_that_are_labels_and_could_be_likelihoods_are_refused() -> None:
    half = EvidenceReader([Variable("half", [0.0, 0.5])])
    for values in ([0.5, 0.0], np.array([0.5, 0.0]), torch.tensor([0.5, 0.0])):
        with pytest.raises(EvidenceError, match="may be states of rows or likelihoods"):
            half.read({"half": values})
    assert half.read({"half": [0.5, 0.0, 0.5]}).codes.tolist() == [[1], [0], [1]]
    assert half.read({"half": pd.Series([0.5, 0.0])}).codes.tolist() == [[1], [0]]
    observed = half.read({"half": pgnn.likelihood([0.5, 0.0])})
    assert observed.codes.tolist() == [[-1]]
    assert observed.soft is not None


def test_soft_tensors_keep_their_gradient() -> None:
    shared = torch.tensor([0.2, 0.1], requires_grad=True)
    rows = torch.tensor([[0.1, 0.3, 0.2], [NAN] * 3], dtype=torch.float64, requires_grad=True)
    observed = READER.read({"rain": shared, "sky": rows, "dice": pgnn.likelihood(torch.ones(3))})
    assert set(observed.soft_tensors) == {"rain", "sky"}
    assert observed.soft_tensors["rain"].shape == (2, 2)
    assert observed.soft_tensors["sky"].tolist() == [[0.1, 0.3, 0.2], [1.0, 1.0, 1.0]]
    (observed.soft_tensors["rain"].sum() + observed.soft_tensors["sky"].sum()).backward()
    assert shared.grad is not None
    assert rows.grad is not None
    assert shared.grad.tolist() == [2.0, 2.0]
    assert rows.grad.tolist() == [[1.0] * 3, [0.0] * 3]
    with torch.no_grad():
        assert not READER.read({"rain": shared}).soft_tensors


def test_real_values() -> None:
    observed = READER.read({"height": 2, "place": [0.5, 1.0]})
    assert observed.reals["height"].tolist() == [2.0]
    assert observed.reals["place"].tolist() == [[0.5, 1.0]]
    assert observed.reals["height"].dtype == torch.float64
    assert (observed.batched, observed.names) == (False, ("height", "place"))
    place = torch.tensor([[0.5, 1.0], [NAN, NAN]], dtype=torch.float32, requires_grad=True)
    observed = READER.read({"place": place, "height": [None, 2.0], "rain": "no"})
    assert observed.reals["place"].dtype == torch.float32
    assert observed.reals["place"].requires_grad
    assert observed.reals["height"].isnan().tolist() == [True, False]
    assert observed.codes.tolist() == [[0, -1, -1]] * 2
    assert READER.read({"height": np.array([1, 2], dtype=np.float32)}).reals["height"].dtype == (
        torch.float32
    )


def test_real_values_not_observed_at_all() -> None:
    for value in ([NAN, NAN], np.full(2, NAN), pd.Series([None, None]), torch.full((2,), NAN)):
        observed = READER.read({"height": value, "rain": ["yes", "no"]})
        assert not observed.reals
        assert observed.names == ("rain",)
        assert observed.num_rows == 2
    assert READER.read({"height": torch.zeros(0)}).num_rows == 0


def test_real_columns() -> None:
    frame = pd.DataFrame(
        {"height": pd.Series([1, None], dtype="Int64"), "place": [np.array([1.0, 2.0]), None]}
    )
    observed = READER.read(frame)
    torch.testing.assert_close(
        observed.reals["height"], torch.tensor([1.0, NAN]).double(), equal_nan=True
    )
    assert observed.reals["place"][0].tolist() == [1.0, 2.0]
    assert bool(observed.reals["place"][1].isnan().all())
    assert READER.read(frame.iloc[:0]).reals["place"].shape == (0, 2)


def test_rows_must_agree() -> None:
    with pytest.raises(EvidenceError, match="'sky' has 3 rows but 'rain' has 2"):
        READER.read({"rain": ["yes", "no"], "sky": torch.tensor([0, 1, 2])})
    with pytest.raises(EvidenceError, match="'height' has 1 rows but 'rain' has 2"):
        READER.read({"rain": np.ones((2, 2)), "height": [1.0]})


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        ({"rian": "yes"}, "unknown variable 'rian'; did you mean 'rain'"),
        ({7: "yes"}, "unknown variable 7; known: 'rain'"),
        (pd.DataFrame({"rian": ["yes"]}), "unknown column 'rian'; did you mean 'rain'"),
        (pd.DataFrame([["yes", "no"]], columns=["rain", "rain"]), "column 'rain' occurs twice"),
        (["rain"], "mapping from variable to finding or a data frame, got list"),
        (torch.ones(2), "got Tensor"),
        ("rain", "got str"),
        (pd.Categorical(["rain"]), "got Categorical"),
        ({"rain": "ye"}, "'rain' has no state 'ye'; did you mean 'yes'"),
        ({"rain": ["yes", "ye"]}, "no state 'ye'"),
        ({"rain": pd.Series(["yes", "ye"])}, "no state 'ye'"),
        ({"rain": pd.Series([["yes"], "no"])}, r"no state \['yes'\]"),
        ({"rain": 2}, "index 2 of 'rain' is out of range"),
        ({"rain": torch.tensor([0, 2])}, "index 2 of 'rain' is out of range"),
        ({"dice": [0]}, "'dice' has no state 0"),
        ({"rain": {"yes"}}, r"no state \{'yes'\}"),
        ({"rain": torch.ones(2, 2, dtype=torch.long)}, r"'rain' has shape \(2, 2\); expected"),
        ({"rain": np.array([["yes"]])}, r"'rain' has shape \(1, 1\); expected"),
        ({"rain": [["yes"], ["no"]]}, r"shape \(2, 1\).*likelihood \(2,\) or \(B, 2\)"),
        ({"rain": [["0.1", "0.9"]]}, r"shape \(1, 2\); expected"),
        ({"rain": [[0.1], [0.2, 0.3]]}, "parts of different shapes"),
        ({"rain": torch.ones(3) / 2}, r"shape \(2,\) or \(B, 2\), got shape \(3,\)"),
        ({"rain": torch.ones(2, 3)}, r"got shape \(2, 3\)"),
        ({"rain": torch.ones(1, 2, 2)}, r"got shape \(1, 2, 2\)"),
        ({"rain": np.array([-0.1, 1.0])}, "must be finite and not negative, got \\[-0.1, 1.0\\]"),
        ({"rain": np.array([[1.0, 1.0], [np.inf, 1.0]])}, "finite.*in row 1"),
        ({"rain": np.array([[1.0, NAN]])}, "finite.*in row 0"),
        ({"rain": pgnn.likelihood(np.zeros(2))}, "'rain' must be positive for some state"),
        ({"rain": np.array([[1.0, 1.0], [0.0, 0.0]])}, "positive for some state.*in row 1"),
        ({"height": "tall"}, "real variable 'height' must be numbers.*got str"),
        ({"height": "1.5"}, "must be numbers"),
        ({"height": [1.0, "2.0"]}, "must be numbers"),
        ({"height": pd.Series(["1.5"])}, "must be numbers"),
        ({"height": torch.ones(2, dtype=torch.complex64)}, "must be numbers"),
        ({"height": torch.ones(2, 1)}, r"'height' must have shape \(\) or \(B,\), got \(2, 1\)"),
        ({"place": 1.0}, r"'place' must have shape \(2,\) or \(B, 2\), got \(\)"),
        ({"place": torch.ones(2, 3)}, r"got \(2, 3\)"),
        ({"place": [1.0, None]}, "NaN in a part"),
        ({"height": float("inf")}, "'height' must be finite"),
    ],
)
def test_wrong_evidence(evidence: object, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        READER.read(evidence)


def test_unknown_variables_are_key_errors_with_a_readable_message() -> None:
    with pytest.raises(KeyError) as caught:
        READER.read({"rian": "yes"})
    assert isinstance(caught.value, UnknownVariable)
    assert str(caught.value) == (
        "unknown variable 'rian'; did you mean 'rain'; leave columns out by "
        "pgnn.observed(data, ignore=['rian'])"
    )


def test_evidence_cannot_be_changed() -> None:
    observed = READER.read({"rain": "yes"})
    with pytest.raises(AttributeError):
        observed.batched = True  # type: ignore[misc]


@given(st.data())
def test_all_forms_agree(data: st.DataObject) -> None:
    """The same rows as indices, labels, columns and rows one at a time give the same codes."""
    n = data.draw(st.integers(0, 5))
    table = np.array(
        [[data.draw(st.integers(-1, v.num_states - 1)) for v in READER.discrete] for _ in range(n)],
        dtype=np.int64,
    ).reshape(n, 3)
    labels = {v.name: list(v.decode(table[:, k])) for k, v in enumerate(READER.discrete)}
    columns = {
        v.name: pd.Categorical.from_codes(table[:, k], categories=list(v.states or ()))
        for k, v in enumerate(READER.discrete)
    }
    forms: list[RowEvidence] = [
        READER.read(pgnn.codes({v.name: table[:, k] for k, v in enumerate(READER.discrete)})),
        READER.read(pgnn.codes(torch.tensor(table))),
        READER.read(labels),
        READER.read(pd.DataFrame(labels)),
        READER.read(pd.DataFrame(columns)),
    ]
    for observed in forms:
        np.testing.assert_array_equal(observed.codes, table)
        assert observed.names == forms[0].names
    for row in range(n):
        one = READER.read({name: values[row] for name, values in labels.items()})
        np.testing.assert_array_equal(one.codes[0], table[row])


def test_a_vector_observed_in_part_where_its_conditional_integrates():
    """Against the normal densities of the numbers that were observed."""
    from scipy.stats import norm

    nan = float("nan")
    c, x = pgnn.Variable("c", 2), pgnn.Variable("x", shape=(2,))
    covariance = np.array([[[2.0, 0.5], [0.5, 1.0]], [[1.0, 0.3], [0.3, 3.0]]])
    gaussian = pgnn.Gaussian(x, [c], [[0.0, 1.0], [2.0, -1.0]], covariance)
    graph = nx.DiGraph([("c", "x")])
    model = pgnn.BayesianNetwork(graph, {"c": [0.3, 0.7], "x": gaussian})
    observed = np.array([[0.5, nan], [nan, 0.2], [nan, nan]])
    joint = [0.3, 0.7] * np.array(
        [
            norm.pdf(0.5, [0.0, 2.0], [2**0.5, 1.0]),
            norm.pdf(0.2, [1.0, -1.0], [1.0, 3**0.5]),
            [1, 1],
        ]
    )
    found = model.query("c", {"x": observed}).probs("c")
    np.testing.assert_allclose(found, joint / joint.sum(1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(
        model.log_prob({"x": observed}), np.log(joint.sum(1)), rtol=1e-9, atol=1e-12
    )
    counts = pgnn.Multinomial(x, [c], [[0.5, 0.5], [0.1, 0.9]])
    other = pgnn.BayesianNetwork(graph, {"c": [0.3, 0.7], "x": counts})
    with pytest.raises(EvidenceError, match="requires a conditional that integrates"):
        other.query("c", {"x": observed})


def test_mappings_in_a_list_are_rows() -> None:
    model = pgnn.BayesianNetwork([("a", "b")], {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.2, 0.8]]})
    with pytest.raises(EvidenceError, match=r"no state 0\.2"):  # two rows are no likelihood
        model.query("b", [{"a": 0.2}, {"a": 0.9}])
    told = model.query("b", [{"a": 0.0}, {"a": 1.0}])
    torch.testing.assert_close(told["b"].probs, torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double())
    assert model.query("b", [{}, {}, {}])["b"].probs.shape == (3, 2)
    assert model.query("b", [{}])["b"].probs.shape == (1, 2)
