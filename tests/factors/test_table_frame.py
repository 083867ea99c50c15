"""Tables shown to people: data frames and text with the names of states."""

import numpy as np
import pandas as pd
import pytest
import torch

from pgnn import EvidenceError, Factor, Gaussian, ModelError, NoisyOr, Softmax, Tabular, Variable

RAIN, WET = Variable("rain", ["no", "yes"]), Variable("wet", ["dry", "damp", "wet"])
TABLE = [[0.7, 0.2, 0.1], [0.0, 0.00001, 0.99999]]


def test_a_conditional_has_its_parents_in_the_index():
    frame = Tabular(WET, [RAIN], TABLE).frame()
    assert frame.index.name == "rain"
    assert list(frame.index) == ["no", "yes"]
    assert frame.columns.name == "wet"
    assert list(frame.columns) == ["dry", "damp", "wet"]
    np.testing.assert_allclose(frame.to_numpy(), TABLE)
    two = Tabular(RAIN, [WET, Variable("x", 2)]).frame()
    assert two.index.names == ["wet", "x"]
    assert len(two) == 6
    assert len(Tabular(RAIN).frame()) == 1


def test_the_frame_makes_the_same_table_again():
    table = Tabular(WET, [RAIN], TABLE)
    np.testing.assert_allclose(Tabular(WET, [RAIN], table.frame()).probs, table.probs)


def test_print_shows_states_and_numbers():
    text = str(Tabular(WET, [RAIN], TABLE))
    assert text.splitlines()[0] == "p(wet | rain), Tabular"
    assert "yes" in text
    assert "0.7000" in text
    assert "1e-05" in text
    assert "p(rain), Tabular" in str(Tabular(RAIN, (), [0.25, 0.75]))
    long = Tabular(RAIN, [Variable("x", 100)])
    assert "and 76 more rows" in str(long)


def test_what_has_no_table_is_shown_as_before():
    for piece in (Gaussian(Variable("h"), [RAIN]), Softmax(RAIN, inputs={"light": 1})):
        assert str(piece) == repr(piece)
    assert "NoisyOr" in str(NoisyOr(RAIN, [Variable("a", 2)]))
    many = NoisyOr(RAIN, [Variable(f"a{k}", 2) for k in range(60)])
    assert str(many) == repr(many)


def test_frames_with_inputs_are_of_one_row():
    shade = Softmax(RAIN, inputs={"light": 1})
    assert shade.frame({"light": torch.zeros(1, 1)}).to_numpy().tolist() == [[0.5, 0.5]]
    with pytest.raises(EvidenceError, match="inputs of one row, got 2"):
        shade.frame({"light": torch.zeros(2, 1)})


def test_a_factor_has_a_row_for_each_joint_state():
    factor = Factor([RAIN, WET], torch.tensor(TABLE).double().log())
    frame = factor.frame()
    assert isinstance(frame.index, pd.MultiIndex)
    assert list(frame.columns) == ["value"]
    assert frame.loc[("no", "damp"), "value"] == pytest.approx(0.2)
    assert "damp" in str(factor)
    rows = Factor([WET], torch.tensor(TABLE).double().log())
    assert str(rows) == repr(rows)
    with pytest.raises(ModelError, match="a table for each row"):
        rows.frame()


class TestInformation:
    """Entropies against NumPy."""

    p = np.array([[0.2, 0.0], [0.3, 0.5]])
    q = np.array([[0.1, 0.2], [0.3, 0.4]])

    def factors(self) -> tuple[Factor, Factor]:
        a, b = Variable("a", 2), Variable("b", 2)
        # the second one has its axes the other way round, and any scale
        p = Factor([a, b], torch.from_numpy(3.0 * self.p).log())
        return p, Factor([b, a], torch.from_numpy(self.q.T.copy()).log())

    def test_entropy_and_divergence(self):
        p, q = self.factors()
        known = self.p > 0
        entropy = -(self.p[known] * np.log(self.p[known])).sum()
        cross = -(self.p[known] * np.log(self.q[known])).sum()
        assert float(p.entropy()) == pytest.approx(entropy)
        assert float(p.cross_entropy(q)) == pytest.approx(cross)
        assert float(p.kl_divergence(q)) == pytest.approx(cross - entropy)
        assert float(q.kl_divergence(p)) == np.inf

    def test_mutual_information(self):
        p, _ = self.factors()
        rows, columns = self.p.sum(1), self.p.sum(0)
        known = self.p > 0
        ratio = (self.p / np.outer(rows, columns))[known]
        expected = (self.p[known] * np.log(ratio)).sum()
        assert float(p.mutual_information(["a"])) == pytest.approx(expected)
        assert float(p.mutual_information(["b"])) == pytest.approx(expected)

    def test_batches_and_other_scopes(self):
        a = Variable("a", 2)
        rows = Factor([a], torch.tensor([[0.5, 0.5], [1.0, 0.0]]).double().log())
        torch.testing.assert_close(rows.entropy(), torch.tensor([np.log(2), 0.0]).double())
        with pytest.raises(EvidenceError, match="expected a factor over"):
            rows.kl_divergence(Factor([Variable("b", 2)], torch.zeros(2)))
