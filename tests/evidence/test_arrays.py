"""Findings on arrays of variables and on their elements."""

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.unknown_variable import UnknownVariable
from pgnn.factors.elements import Elements
from pgnn.factors.variable import Variable

NAN = float("nan")
LABEL = Variable("label", ["cat", "dog"])
PIXEL = Variable("pixel", ["off", "on"], shape=(2, 3))
DICE = Variable("dice", [1, 2, 3], shape=(2,))
HEIGHT = Variable("height")
READER = EvidenceReader([LABEL, HEIGHT, PIXEL, DICE])
IMAGE = np.array([[0, 1, -1], [1, -1, 0]])
UNSEEN = [-1] * 6


def codes(evidence: object) -> list[list[int]]:
    return READER.read(evidence).codes.tolist()


@pytest.mark.parametrize(
    "value",
    [
        IMAGE,
        IMAGE.astype(np.int8),
        np.asfortranarray(IMAGE),
        torch.tensor(IMAGE),
        torch.tensor(IMAGE, dtype=torch.int16),
        np.where(IMAGE < 0, NAN, IMAGE),
        torch.tensor(np.where(IMAGE < 0, NAN, IMAGE), dtype=torch.bfloat16),
        [["off", "on", None], ["on", NAN, "off"]],
        (("off", "on", None), ("on", None, "off")),
        np.array([["off", "on", None], ["on", None, "off"]], dtype=object),
        [[0, 1, None], [1, -1, 0]],
        [[0, 1, NAN], [1, NAN, 0]],
        [[0.0, 1.0, NAN], [1.0, NAN, 0.0]],
        [np.array([0, 1, -1]), np.array([1, -1, 0])],
        [torch.tensor([0, 1, -1]), torch.tensor([1, -1, 0])],
    ],
)
def test_one_array_in_every_form(value: object) -> None:
    observed = READER.read({"pixel": value, "label": "dog"})
    assert observed.codes.tolist() == [[1, 0, 1, -1, 1, -1, 0, -1, -1]]
    assert observed.codes.dtype == np.int32
    assert (observed.batched, observed.num_rows, observed.names) == (False, 1, ("label", "pixel"))
    assert observed.soft is None


@pytest.mark.parametrize(
    "value",
    [
        np.stack([IMAGE, 0 * IMAGE]),
        torch.tensor(np.stack([IMAGE, 0 * IMAGE])),
        np.where(np.stack([IMAGE, 0 * IMAGE]) < 0, NAN, np.stack([IMAGE, 0 * IMAGE])),
        [IMAGE, 0 * IMAGE],
        [torch.tensor(IMAGE), torch.tensor(0 * IMAGE)],
        [[["off", "on", None], ["on", None, "off"]], [["off"] * 3] * 2],
        pd.Series([IMAGE, 0 * IMAGE]),
        pd.Series([[["off", "on", None], ["on", None, "off"]], [["off"] * 3] * 2]),
    ],
)
def test_a_batch_in_every_form(value: object) -> None:
    observed = READER.read({"pixel": value, "label": ["dog", None]})
    assert observed.codes[:, :7].tolist() == [[1, 0, 1, -1, 1, -1, 0], [-1] + [0] * 6]
    assert (observed.batched, observed.num_rows, observed.names) == (True, 2, ("label", "pixel"))


def test_truth_values() -> None:
    truth = IMAGE == 1
    expected = [[-1, 0, 1, 0, 1, 0, 0, -1, -1]]
    assert codes({"pixel": truth}) == codes({"pixel": torch.tensor(truth)}) == expected
    labelled = EvidenceReader([Variable("pixel", [True, False], shape=(2, 3))])
    assert labelled.read({"pixel": truth}).codes.tolist() == [[1, 0, 1, 0, 1, 1]]
    only = EvidenceReader([Variable("pixel", ["no", True], shape=(2,))])
    assert only.read({"pixel": np.array([True, True])}).codes.tolist() == [[1, 1]]
    with pytest.raises(EvidenceError, match="no state False"):
        only.read({"pixel": np.array([True, False])})


def test_numbers_are_labels_in_every_container_where_labels_are_numbers() -> None:
    assert codes({"dice": [1, 3]})[0][7:] == [0, 2]
    assert codes({"dice": [1.0, 3.0]})[0][7:] == [0, 2]
    assert codes({"dice": np.array([1, 2])})[0][7:] == [0, 1]
    assert codes({"dice": pgnn.codes(np.array([1, 2]))})[0][7:] == [1, 2]
    assert codes({"dice": np.array([1, 2], dtype=object)})[0][7:] == [0, 1]
    assert [row[7:] for row in codes({"dice": [[1, 3], [2, None]]})] == [[0, 2], [1, -1]]


@pytest.mark.parametrize("value", [None, NAN, -1, pd.NA, np.array(-1), torch.tensor(NAN)])
def test_nothing_observed(value: object) -> None:
    observed = READER.read({"pixel": value})
    assert observed.codes.tolist() == [[-1] * 9]
    assert (observed.names, observed.batched) == ((), False)
    assert READER.read({"pixel": value, "label": ["cat", "dog"]}).codes.shape == (2, 9)


def test_rows_without_a_finding() -> None:
    expected = [[1, 0, 1, -1, 1, -1, 0], [-1] * 7]
    nested = [["off", "on", None], ["on", None, "off"]]
    for value in (
        [IMAGE, None],
        [torch.tensor(IMAGE), None],
        [nested, None],
        [IMAGE.tolist(), NAN],
    ):
        for given in (value, pd.Series(value)):
            observed = READER.read({"pixel": given, "label": ["dog", None]})
            assert observed.codes[:, :7].tolist() == expected
    observed = READER.read({"dice": [None, [[0.2, 0.1, 0.1]] * 2]})
    assert observed.soft is not None
    assert observed.soft[:, -6:].tolist() == [[1.0] * 6, [1.0, 0.5, 0.5] * 2]
    np.testing.assert_allclose(observed.soft_scale, [0, 2 * np.log(0.2)])
    truth = READER.read({"pixel": [None, IMAGE == 1]})
    assert truth.codes[:, 1:7].tolist() == [UNSEEN, (IMAGE == 1).astype(int).ravel().tolist()]


def test_empty_batches() -> None:
    for value in (np.zeros((0, 2, 3), dtype=int), torch.zeros(0, 2, 3, dtype=torch.long), []):
        observed = READER.read({"pixel": value})
        assert observed.codes.shape == (0, 9)
        assert observed.batched
    soft = READER.read({"pixel": np.zeros((0, 2, 3, 2))})
    assert soft.soft is not None
    assert soft.soft.shape == (0, 20)
    assert READER.read(pd.DataFrame({"pixel": pd.Series([], dtype=object)})).num_rows == 0
    unobserved = READER.read(pd.DataFrame({"pixel": [None, None]}))
    assert unobserved.codes.tolist() == [[-1] * 9] * 2


def test_single_elements() -> None:
    observed = READER.read({("pixel", 1, 0): "on", ("pixel", 0, 2): 0, "label": "cat"})
    assert observed.codes.tolist() == [[0, -1, -1, 0, 1, -1, -1, -1, -1]]
    assert observed.names == ("label", "pixel")
    batch = READER.read(
        {("pixel", 1, 0): ["on", None], ("dice", np.int64(1)): torch.tensor([3, 1])}
    )
    assert batch.codes.tolist() == [[-1, *UNSEEN[:3], 1, -1, -1, -1, 2], [-1, *UNSEEN, -1, 0]]
    soft = READER.read({("dice", 1): np.array([0.1, 0.2, 0.0])})
    assert soft.soft is not None
    assert soft.soft[0, -3:].tolist() == [0.5, 1.0, 0.0]
    assert soft.names == ("dice",)
    assert READER.read({("pixel", 1, 0): None}).names == ()


def test_data_frames_with_columns_of_elements_or_of_arrays() -> None:
    days = pd.Index(["mon", "tue"], name="day")
    columns = {("pixel", 0, 0): ["on", None], ("pixel", 1, 2): ["off", "on"]}
    frame = pd.DataFrame(columns, index=days)
    assert frame.columns.nlevels == 3  # pandas makes levels of tuples
    observed = READER.read(frame)
    assert observed.codes[:, 1:7].tolist() == [[1, *UNSEEN[:4], 0], [*UNSEEN[:5], 1]]
    assert observed.index is frame.index
    mixed = pd.DataFrame({"label": ["cat", "dog"], **columns})
    assert READER.read(mixed).codes[:, 0].tolist() == [0, 1]
    assert (READER.read(mixed).codes[:, 1:] == observed.codes[:, 1:]).all()
    lengths = pd.DataFrame({("pixel", 1, 2): ["off", "on"], ("dice", 1): [1, None]})
    assert READER.read(lengths).codes[:, [6, 8]].tolist() == [[0, 0], [1, -1]]
    arrays = READER.read(pd.DataFrame({"pixel": [IMAGE, None]}))
    assert arrays.codes[:, 1:7].tolist() == [IMAGE.ravel().tolist(), UNSEEN]
    floats = READER.read(pd.DataFrame({"dice": [None, np.array([[0.2, 0.1, 0.1]] * 2)]}))
    assert floats.soft is not None
    assert floats.soft[:, -6:].tolist() == [[1.0] * 6, [1.0, 0.5, 0.5] * 2]


def test_likelihoods_of_arrays() -> None:
    table = np.arange(1.0, 13.0).reshape(2, 3, 2)
    table[1, 1] = NAN
    before = table.copy()
    for value in (table, torch.tensor(table), table.tolist()):
        observed = READER.read({"pixel": value, "label": np.array([0.5, 0.25])})
        assert observed.soft is not None
        top = np.array([2.0, 4, 6, 8, 1, 12])
        filled = np.where(np.isnan(table), 1.0, table).reshape(6, 2)
        expected = np.ones(20)
        expected[:14] = np.concatenate([[1, 0.5], (filled / top[:, None]).ravel()])
        np.testing.assert_allclose(observed.soft, [expected], rtol=1e-15)
        np.testing.assert_allclose(observed.soft_scale, [np.log(top).sum() + np.log(0.5)])
        assert observed.codes.tolist() == [[-1] * 9]
        assert (observed.names, observed.batched) == (("label", "pixel"), False)
    np.testing.assert_array_equal(table, before)
    rows = READER.read({"pixel": np.stack([table, 2 * before]), "dice": np.array([1, -1])})
    assert rows.soft is not None
    np.testing.assert_allclose(rows.soft[0, 2:14], rows.soft[1, 2:14])
    np.testing.assert_allclose(rows.soft_scale[1] - rows.soft_scale[0], 5 * np.log(2))
    assert rows.codes[:, 7:].tolist() == [[0, -1]] * 2


def test_lists_of_numbers_are_likelihoods_where_the_shape_says_so() -> None:
    observed = READER.read({"dice": [[0.2, 0.1, 0.1], [0.0, 1.0, 0.5]]})
    assert observed.soft is not None
    assert observed.soft[0, -6:].tolist() == [1.0, 0.5, 0.5, 0.0, 1.0, 0.5]


def test_floats_that_could_be_either_are_refused() -> None:
    reader = EvidenceReader([Variable("x", 2, shape=(2,))])
    both = np.array([[NAN, NAN], [0.0, 1.0]])
    with pytest.raises(EvidenceError, match="may be states of rows or likelihoods"):
        reader.read({"x": both})
    with pytest.raises(EvidenceError, match="may be states of rows or likelihoods"):
        reader.read({"x": np.array([[1.0, 1.0], [0.0, 1.0]])})
    soft = reader.read({"x": np.array([[1.0, 1.0], [0.0, 0.5]])})
    assert soft.soft is not None
    assert not soft.batched
    assert reader.read({"x": both[[0, 1, 1]]}).codes.tolist() == [[-1, -1], [0, 1], [0, 1]]


def test_soft_tensors_keep_their_gradient() -> None:
    table = torch.rand(2, 3, 2, dtype=torch.float64) + 0.1
    table[0, 1] = NAN
    table.requires_grad_()
    one = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
    observed = READER.read({"pixel": table, ("dice", 1): one, "label": ["cat", "dog"]})
    assert set(observed.soft_tensors) == {"pixel", ("dice", 1)}
    assert observed.soft_tensors["pixel"].shape == (2, 2, 3, 2)
    single = observed.soft_elements()
    assert set(single) == {*(("pixel", i, j) for i in range(2) for j in range(3)), ("dice", 1)}
    assert single["pixel", 0, 1].tolist() == [[1.0, 1.0]] * 2
    assert single["dice", 1].shape == (2, 3)
    sum(x.sum() for x in single.values()).backward()  # type: ignore[union-attr]
    assert table.grad is not None
    assert table.grad[:, :, 0].tolist() == [[2.0, 0.0, 2.0], [2.0] * 3]
    parts = [torch.full((2, 3), 0.5, requires_grad=True), None]
    listed = READER.read({"dice": parts}).soft_tensors["dice"]
    assert listed.tolist() == [[[0.5] * 3] * 2, [[1.0] * 3] * 2]
    assert listed.requires_grad
    longer = READER.read({"pixel": table}).over({"x": torch.zeros(4, 1)})
    assert longer.soft_tensors["pixel"].shape == (4, 2, 3, 2)
    assert longer.codes.shape == (4, 9)


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        ({"pixel": "on"}, r"array of 6 variables.*shape \(2, 3\), got 'on' alone.*\('pixel', 0, 0"),
        ({"pixel": 1}, "got 1 alone"),
        ({"pixel": True}, "got True alone"),
        ({"pixel": np.array(1)}, "got 1 alone"),
        ({"pixel": torch.tensor(0)}, "got 0 alone"),
        ({"pixel": {"on"}}, "got {'on'} alone"),
        ({"pixel": IMAGE.T}, r"must have shape \(2, 3\) or \(B, 2, 3\) of states.*got \(3, 2\)"),
        ({"pixel": IMAGE[0]}, r"got \(3,\)"),
        ({"pixel": IMAGE[None, None]}, r"got \(1, 1, 2, 3\)"),
        ({"pixel": [["on"], ["on", "off"]]}, "parts of different shapes"),
        ({"pixel": [IMAGE, IMAGE.T]}, "got parts of different shapes"),
        ({"pixel": [torch.tensor(IMAGE), torch.tensor(IMAGE.T)]}, "got parts of different shapes"),
        ({"dice": pd.Series([1, 2])}, "got a column of 2 cells that are no arrays"),
        ({"pixel": IMAGE + 1}, "state index 2 of 'pixel' is out of range"),
        ({"pixel": [["on", "off", "of"]] * 2}, "no state 'of'; did you mean 'off'"),
        ({"pixel": np.full((2, 3), 0.5)}, "'pixel' must be state indices, got fractional"),
        ({"pixel": np.ones((4, 2, 3)) / 2}, "fractional numbers"),
        ({"pixel": np.ones((3, 2))}, "states must be labels or integers"),
        ({"pixel": np.zeros((2, 3, 2))}, r"must be positive for some state.* at \(0, 0\)"),
        (
            {"pixel": np.stack([np.ones((2, 3, 2)), np.eye(6, 2).reshape(2, 3, 2)])},
            r"positive for some state, got \[0.0, 0.0\] in row 1 at \(0, 2\)",
        ),
        ({"pixel": np.where(np.eye(6, 2) > 0, NAN, 1.0).reshape(2, 3, 2)}, r"finite.* at \(0, 0\)"),
        ({"pixel": -np.ones((2, 3, 2))}, r"finite and not negative, got \[-1.0, -1.0\] at \(0, 0"),
        (
            {("pixel", 2, 0): "on"},
            r"unknown variable \('pixel', 2, 0\); 'pixel' has the shape \(2,",
        ),
        ({("label", 0): "cat"}, r"unknown variable \('label', 0\)"),
        ({("pixel", 0, 0): ["on"], "pixel": IMAGE}, "'pixel' is given as a whole, and its element"),
        ({"pixel": np.stack([IMAGE] * 3), "label": ["cat"] * 2}, "3 rows|2 rows"),
    ],
)
def test_wrong_evidence(evidence: object, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        READER.read(evidence)


def test_unknown_elements_are_key_errors() -> None:
    with pytest.raises(UnknownVariable):
        READER.read(pd.DataFrame({("pixel", 0, 7): ["on"]}))


def test_named_axes_are_not_supported() -> None:
    with pytest.raises(Unsupported, match="named axis"):
        EvidenceReader([Variable("word", 5, shape=("T",))])


def test_large_arrays_make_no_variable_for_each_element(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Variable("image", 16, shape=(500, 500))

    def refuse(*_: object) -> None:
        raise AssertionError("an element was made")

    monkeypatch.setattr(Variable, "_single", refuse)
    monkeypatch.setattr(Elements, "singles", property(refuse))
    reader = EvidenceReader([image])
    found = reader.read({"image": np.arange(250_000).reshape(500, 500) % 16})
    assert (found.codes[0] == np.arange(250_000) % 16).all()
    assert found.names == ("image",)
    likelihood = np.ones((500, 500, 16))
    assert reader.read({"image": likelihood}).names == ("image",)
