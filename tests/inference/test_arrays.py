"""Arrays of variables, from evidence to answers, against enumeration of their elements."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import pgnn
from pgnn.errors import EvidenceError, ImpossibleEvidence
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.models.model import Inputs, Model
from tests import oracle

SHAPE = (3, 3)
NAN = float("nan")
CELLS = list(itertools.product(range(3), range(3)))


class Field(Model):
    """A grid of binary pixels, a label that sees one of them, a pair of dice, a lonely coin.

    The table of the dice has zeros; one factor is over three pixels.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self._variables = {
            v.name: v
            for v in (
                Variable("label", ["cat", "dog", "owl"]),
                Variable("pixel", ["off", "on"], shape=SHAPE),
                Variable("dice", [1, 2, 3], shape=(2,)),
                Variable("coin", 1),
            )
        }
        scopes: list[tuple[Any, ...]] = [("label", ("pixel", 1, 1)), ("label", ("dice", 0))]
        for i, j in CELLS:
            scopes += [(("pixel", i, j), ("pixel", i + 1, j))] if i < 2 else []
            scopes += [(("pixel", i, j), ("pixel", i, j + 1))] if j < 2 else []
        scopes += [(("pixel", 0, 0), ("pixel", 1, 1), ("pixel", 2, 2)), (("pixel", 2, 0),)]
        single = {v.name: v for v in self.elements.singles}
        self.cards = {name: v.num_states for name, v in single.items()}
        self.tables: list[oracle.Table] = [
            (scope, rng.gamma(1.0, size=[self.cards[n] for n in scope])) for scope in scopes
        ]
        self.tables.append(
            ((("dice", 0), ("dice", 1)), np.array([[0, 1, 2], [3, 0, 1.0], [1, 1, 0]]))
        )
        self._scopes = [[single[n] for n in scope] for scope, _ in self.tables]
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(torch.tensor(table), requires_grad=False) for _, table in self.tables
        )

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        return self._variables

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        return tuple(
            Factor(scope, w.log()) for scope, w in zip(self._scopes, self.weights, strict=True)
        )

    def joint(
        self, row: Mapping[Any, int] | None = None, soft: Mapping[Any, Any] | None = None
    ) -> oracle.Joint:
        return oracle.joint(self.cards, self.tables, row, soft)


MODEL = Field()
IMAGES = np.array(
    [
        [[0, -1, 1], [-1, -1, -1], [1, 0, -1]],
        [[-1, -1, -1], [-1, -1, -1], [-1, -1, -1]],
        [[1, 1, 0], [0, 1, 1], [1, 0, 0]],
    ]
)
LABELS = np.array([-1, 2, 0])


def row_of(image: np.ndarray, label: int = -1) -> dict[Any, int]:
    return {"label": label} | {("pixel", i, j): int(image[i, j]) for i, j in CELLS}


def pixels(joint: oracle.Joint) -> np.ndarray:
    """``(3, 3, 2)`` marginals of the pixels."""
    found = [oracle.marginal(joint, [("pixel", i, j)]) for i, j in CELLS]
    return np.array(found).reshape(*SHAPE, 2)


def test_an_array_is_one_variable() -> None:
    assert list(MODEL.query()) == ["label", "pixel", "dice", "coin"]
    assert list(MODEL.variables) == list(MODEL.query())


def test_marginals_have_the_shape_of_the_array() -> None:
    posterior = MODEL.query(None, {"pixel": IMAGES[0]})
    joint = MODEL.joint(row_of(IMAGES[0]))
    assert posterior["pixel"].batch_shape == SHAPE
    assert posterior.probs("dice").shape == (2, 3)
    np.testing.assert_allclose(posterior.probs("pixel"), pixels(joint), atol=1e-12)
    np.testing.assert_allclose(posterior.log_evidence, oracle.log_evidence(joint), atol=1e-12)
    for name in MODEL.cards:
        expected = oracle.marginal(joint, [name])
        np.testing.assert_allclose(posterior.probs(name), expected, atol=1e-12)
        assert posterior[name].batch_shape == ()
        assert name in posterior


def test_batches() -> None:
    posterior = MODEL.query(["pixel", "label"], {"pixel": IMAGES, "label": LABELS})
    assert posterior["pixel"].batch_shape == (3, *SHAPE)
    assert posterior.probs(("pixel", 1, 2)).shape == (3, 2)
    for b in range(3):
        joint = MODEL.joint(row_of(IMAGES[b], LABELS[b]))
        np.testing.assert_allclose(posterior.probs("pixel")[b], pixels(joint), atol=1e-12)
        np.testing.assert_allclose(posterior.log_evidence[b], oracle.log_evidence(joint))
    nothing = MODEL.query("pixel", {"pixel": IMAGES[:0]})
    assert nothing["pixel"].batch_shape == (0, *SHAPE)


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ("pixel", ["pixel"]),
        (("pixel", 0, 2), [("pixel", 0, 2)]),
        ([("pixel", 2, 1), "label", ("pixel", 0, 0)], [("pixel", 2, 1), "label", ("pixel", 0, 0)]),
        (["dice", ("pixel", 1, 1), "coin"], ["dice", ("pixel", 1, 1), "coin"]),
        (["dice", "pixel", "label"], ["dice", "pixel", "label"]),
        ([], []),
    ],
)
def test_targets_are_arrays_and_elements(targets: Any, names: list[Any]) -> None:
    evidence = {("dice", 1): 2, ("pixel", 2, 2): "on"}
    posterior = MODEL.query(targets, evidence)
    joint = MODEL.joint({("dice", 1): 1, ("pixel", 2, 2): 1})
    assert list(posterior) == names
    compiled = MODEL.compile(targets, list(evidence))
    answer = compiled(torch.tensor([1, 1]))
    assert compiled.targets == tuple(names)
    for name in names:
        for single in MODEL.elements.numbers(name).ravel().tolist():
            element = MODEL.elements.name(single)
            expected = oracle.marginal(joint, [element])
            np.testing.assert_allclose(posterior.probs(element), expected, atol=1e-12)
        table = answer.marginals[compiled.columns[name]]
        np.testing.assert_allclose(table, posterior.probs(name).ravel(), atol=1e-12)


def test_targets_that_overlap_or_do_not_exist() -> None:
    with pytest.raises(EvidenceError, match=r"\('pixel', 0, 1\) is named twice"):
        MODEL.query(["pixel", ("pixel", 0, 1)])
    with pytest.raises(EvidenceError, match=r"unknown variable \('pixel', 3, 1\); 'pixel' has the"):
        MODEL.query([("pixel", 3, 1)])
    with pytest.raises(EvidenceError, match=r"\('pixel', 0, 0\) is named twice"):
        MODEL.query(["label", "pixel", "pixel"])
    with pytest.raises(
        EvidenceError, match=r"unknown variable of this posterior \('pixel', 0, 0\)"
    ):
        MODEL.query("label").probs(("pixel", 0, 0))


def test_soft_evidence_in_every_cell_and_its_gradient() -> None:
    rng = np.random.default_rng(3)
    likelihood = torch.tensor(rng.random((2, *SHAPE, 2)) + 0.1, requires_grad=True)
    one = torch.tensor([0.2, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    posterior = MODEL.query("pixel", {"pixel": likelihood, ("dice", 1): one})
    (total,) = posterior.log_evidence.sum()[None]
    total.backward()
    assert likelihood.grad is not None
    assert one.grad is not None
    expected = np.zeros(3)
    for b in range(2):
        soft = {("pixel", i, j): likelihood[b, i, j].detach().numpy() for i, j in CELLS}
        joint = MODEL.joint(None, soft | {("dice", 1): one.detach().numpy()})
        np.testing.assert_allclose(posterior.probs("pixel")[b].detach(), pixels(joint), atol=1e-12)
        found = float(posterior.log_evidence[b].detach())
        assert found == pytest.approx(oracle.log_evidence(joint), abs=1e-12)
        # d log Z / d likelihood = marginal / likelihood
        slope = pixels(joint) / likelihood[b].detach().numpy()
        np.testing.assert_allclose(likelihood.grad[b], slope, atol=1e-9)
        expected += oracle.marginal(joint, [("dice", 1)]) / one.detach().numpy()
    np.testing.assert_allclose(one.grad, expected, atol=1e-9)


def test_joint_tables_of_elements() -> None:
    posterior = MODEL.query("label", {("pixel", 0, 0): "on"})
    names = (("dice", 1), "label", ("pixel", 2, 1))
    table = posterior.joint(*names)
    assert table.names == names
    joint = MODEL.joint({("pixel", 0, 0): 1})
    np.testing.assert_allclose(table.values, oracle.marginal(joint, names), atol=1e-12)
    with pytest.raises(
        EvidenceError, match=r"'pixel' is an array; name elements.*\('pixel', 0, 0\)"
    ):
        posterior.joint("label", "pixel")


def test_most_probable_states() -> None:
    best = MODEL.most_probable({"pixel": IMAGES[0]})
    expected, value = oracle.mode(MODEL.joint(row_of(IMAGES[0])))
    assert float(best.log_prob) == pytest.approx(value, abs=1e-12)
    assert best["pixel"].shape == SHAPE
    assert best["pixel"].dtype.kind == "U"
    assert best["dice"].tolist() == [expected["dice", k] + 1 for k in range(2)]
    for i, j in CELLS:
        label = ["off", "on"][expected["pixel", i, j]]
        assert best["pixel"][i, j] == best["pixel", i, j] == label
    assert best["coin"] == 0
    assert (best.engine, best.upper_bound) == ("JunctionTree", best.log_prob)
    assert str(best).endswith("(exact, JunctionTree)")
    again = MODEL.query([], dict(best))
    assert float(again.log_evidence) == pytest.approx(value, abs=1e-12)
    batch = MODEL.most_probable({"pixel": IMAGES, "label": LABELS})
    assert batch["pixel"].shape == (3, *SHAPE)
    assert batch["pixel"].dtype == torch.int64
    assert batch.codes.shape == (3, 13)
    np.testing.assert_array_equal(batch["pixel"][2], IMAGES[2])
    for b in range(3):
        expected, value = oracle.mode(MODEL.joint(row_of(IMAGES[b], LABELS[b])))
        assert float(batch.log_prob[b]) == pytest.approx(value, abs=1e-12)
        assert batch["pixel"][b].ravel().tolist() == [expected["pixel", i, j] for i, j in CELLS]


def test_marginal_map_of_an_array_and_k_best() -> None:
    evidence = {("pixel", 0, 0): "on", "label": "owl"}
    joint = MODEL.joint({("pixel", 0, 0): 1, "label": 2})
    best = MODEL.most_probable(evidence, "dice")
    expected, value = oracle.marginal_map(joint, [("dice", 0), ("dice", 1)])
    assert float(best.log_prob) == pytest.approx(value, abs=1e-12)
    assert best["dice"].tolist() == [expected["dice", 0] + 1, expected["dice", 1] + 1]
    both = MODEL.most_probable(evidence, ["dice", ("pixel", 2, 0)])  # not in the model's order
    expected, value = oracle.marginal_map(joint, [("dice", 0), ("dice", 1), ("pixel", 2, 0)])
    assert float(both.log_prob) == pytest.approx(value, abs=1e-12)
    assert both["dice"].tolist() == [expected["dice", 0] + 1, expected["dice", 1] + 1]
    assert both["pixel", 2, 0] == ["off", "on"][expected["pixel", 2, 0]]
    ranked = MODEL.most_probable(evidence, k=3)
    values = [value for _, value in oracle.k_best(joint, 3)]
    np.testing.assert_allclose(ranked.log_prob, values, atol=1e-12)
    assert ranked[1]["pixel"].shape == SHAPE
    assert ranked.frame().shape == (3, 13)


def test_impossible_findings_name_elements() -> None:
    with pytest.raises(ImpossibleEvidence, match=r"\('dice', 0\)=1, \('dice', 1\)=1 cannot occur"):
        MODEL.query("label", {"dice": np.array([1, 1])})
    rows = MODEL.query("pixel", {"dice": np.array([[1, 1], [1, 2]])}, errors="nan")
    assert rows.probs("pixel").isnan().all(dim=3).all(dim=2).all(dim=1).tolist() == [True, False]
    lost = MODEL.most_probable({"dice": np.array([1, 1])}, errors="nan")
    assert lost["pixel"].tolist() == [[None] * 3] * 3
    assert "pixel[0]  None None None" in str(lost)


def test_samples_have_the_shape_of_the_array() -> None:
    n = 4000
    draws = MODEL.sample(n, {"pixel": IMAGES[0]}, seed=1)
    assert draws["pixel"].shape == (n, *SHAPE)
    assert draws["pixel", 1, 1].shape == (n,)
    observed = torch.tensor(IMAGES[0])
    assert bool((draws["pixel"] == observed)[:, observed >= 0].all())
    joint = MODEL.joint(row_of(IMAGES[0]))
    p = pixels(joint)[..., 1]
    # five standard errors of a mean of n independent draws, for each of 9 cells
    bound = 5 * np.sqrt(p * (1 - p) / n) + 1e-12
    assert (np.abs(draws["pixel"].double().mean(0).numpy() - p) <= bound).all()
    batch = MODEL.sample(5, {"pixel": IMAGES}, seed=1)
    assert batch["pixel"].shape == (5, 3, *SHAPE)
    assert batch["dice"].shape == (5, 3, 2)
    assert torch.equal(batch["pixel"], MODEL.sample(5, {"pixel": IMAGES}, seed=1)["pixel"])
    frame = MODEL.sample(5, seed=2).frame()
    assert list(frame.columns) == list(MODEL.cards)


def test_log_probabilities_of_complete_and_incomplete_rows() -> None:
    draws = MODEL.sample(6, seed=4)
    expected = [
        np.log(oracle.weight(MODEL.joint(), dict(zip(MODEL.cards, row, strict=True))))
        for row in draws.codes.tolist()
    ]
    for data in (pgnn.codes(draws.codes), pgnn.codes(draws.codes.numpy()), draws, draws.frame()):
        np.testing.assert_allclose(MODEL.log_prob(data), expected, atol=1e-12)
    lacking = draws.codes.clone()
    lacking[:, 3:7] = -1
    expected = [
        oracle.log_evidence(MODEL.joint(dict(zip(MODEL.cards, row, strict=True))))
        for row in lacking.tolist()
    ]
    np.testing.assert_allclose(MODEL.log_prob(pgnn.codes(lacking)), expected, atol=1e-12)
    with pytest.raises(EvidenceError, match="needs 13 columns, one for each element of the discr"):
        MODEL.log_prob(np.zeros((2, 4), dtype=int))


def test_frames_of_elements_are_evidence() -> None:
    frame = pd.DataFrame({("pixel", 0, 0): ["on", None], ("dice", 1): [None, 3]}, index=["a", "b"])
    posterior = MODEL.query(["label", "pixel"], frame)
    for b, row in enumerate(({("pixel", 0, 0): 1}, {("dice", 1): 2})):
        np.testing.assert_allclose(
            posterior.probs("pixel")[b], pixels(MODEL.joint(row)), atol=1e-12
        )
    table = posterior.frame()
    assert list(table.index) == ["a", "b"]
    assert table.shape == (2, 3 + 18)
    column = (("pixel", 2, 1), "on")
    np.testing.assert_allclose(table[column], posterior.probs(("pixel", 2, 1))[:, 1])


def test_compiled_queries_are_over_elements() -> None:
    query = MODEL.compile(["label", "pixel"], observed=["dice", ("pixel", 1, 1)])
    assert query.observed == (("dice", 0), ("dice", 1), ("pixel", 1, 1))
    assert query.columns == {"label": slice(0, 3), "pixel": slice(3, 21)}
    codes = torch.tensor([[0, 1, 1], [2, -1, -1], [-1, -1, 0]])
    answer = query(codes)
    for b, row in enumerate(codes.tolist()):
        joint = MODEL.joint(dict(zip(query.observed, row, strict=True)))
        table = answer.marginals[b, query.columns["pixel"]].reshape(*SHAPE, 2)
        np.testing.assert_allclose(table, pixels(joint), atol=1e-12)
        np.testing.assert_allclose(answer.log_evidence[b], oracle.log_evidence(joint))
        single = query(codes[b])
        np.testing.assert_allclose(single.marginals, answer.marginals[b], atol=1e-12)
    assert MODEL.compile("label").observed == tuple(MODEL.cards)
    element = MODEL.compile("label", observed=("pixel", 0, 0))
    assert element.observed == (("pixel", 0, 0),)


def test_plans_count_elements() -> None:
    told = MODEL.explain("label", {"pixel": IMAGES[2]}, engine=JunctionTree())
    assert told.num_variables == 13
    assert told.num_eliminated + told.num_sliced + told.num_pruned == 13


def test_gradients_with_respect_to_tables() -> None:
    model = Field(5)
    for w in model.weights:
        w.requires_grad_()
    log_z = model.query([], {"pixel": IMAGES}).log_evidence
    log_z.sum().backward()
    scope, table = model.tables[0]
    expected = sum(oracle.marginal(model.joint(row_of(image)), list(scope)) for image in IMAGES)
    np.testing.assert_allclose(model.weights[0].grad, expected / table, atol=1e-9)
