"""UAI models: every shared instance, round trips, malformed files."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgnn.errors import DataError
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.io import read_bif, read_uai, write_uai
from pgnn.io.source import Source
from pgnn.io.uai import NumberedTables, format_uai, numbering, parse_uai
from pgnn.io.uai_evidence import read_evidence, read_query
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField

# Instance, variables, tables, most states, observed, asked, as the data folder's README has them.
INSTANCES = [
    ("uai/pr_mar/Alchemy_11.uai", 440, 860, 2, 0, 0),
    ("uai/pr_mar/CSP_11.uai", 82, 462, 4, 0, 0),
    ("uai/pr_mar/CSP_12.uai", 67, 271, 4, 0, 0),
    ("uai/pr_mar/DBN_11.uai", 40, 440, 2, 0, 0),
    ("uai/pr_mar/DBN_12.uai", 42, 483, 2, 0, 0),
    ("uai/pr_mar/Grids_11.uai", 100, 300, 2, 0, 0),
    ("uai/pr_mar/Grids_12.uai", 100, 280, 2, 0, 0),
    ("uai/pr_mar/Grids_15.uai", 400, 1160, 2, 0, 0),
    ("uai/pr_mar/Grids_16.uai", 400, 1160, 2, 0, 0),
    ("uai/pr_mar/ObjectDetection_11.uai", 60, 225, 11, 0, 0),
    ("uai/pr_mar/ObjectDetection_12.uai.gz", 60, 210, 16, 0, 0),
    ("uai/pr_mar/ObjectDetection_14.uai.gz", 60, 210, 21, 0, 0),
    ("uai/pr_mar/Pedigree_11.uai", 385, 385, 3, 37, 0),
    ("uai/pr_mar/Pedigree_12.uai", 385, 385, 3, 37, 0),
    ("uai/pr_mar/Promedus_11.uai", 461, 461, 2, 8, 0),
    ("uai/pr_mar/Promedus_13.uai", 894, 894, 2, 4, 0),
    ("uai/pr_mar/Promedus_16.uai", 715, 715, 2, 5, 0),
    ("uai/pr_mar/Promedus_24.uai", 200, 200, 2, 4, 0),
    ("uai/pr_mar/Promedus_27.uai", 410, 410, 2, 5, 0),
    ("uai/pr_mar/Segmentation_11.uai", 228, 845, 2, 0, 0),
    ("uai/pr_mar/Segmentation_12.uai", 229, 851, 2, 0, 0),
    ("uai/pr_mar/Segmentation_13.uai", 235, 882, 2, 0, 0),
    ("uai/pr_mar/linkage_11.uai", 1077, 1077, 3, 0, 0),
    ("uai/pr_mar/linkage_14.uai", 448, 448, 5, 0, 0),
    ("uai/pr_mar/linkage_18.uai.gz", 1118, 1118, 7, 0, 0),
    ("uai/pr_mar/linkage_24.uai", 1289, 1289, 5, 0, 0),
    ("uai/pr_mar/relational_3.uai.gz", 1000, 2000, 2, 7, 0),
    ("uai/pr_mar/BN_69.uai.gz", 777, 777, 36, 0, 0),
    ("uai/pr_mar/2bitcomp_5.cnf.uai", 125, 310, 2, 0, 0),
    ("uai/pr_mar/c432.isc.cnf.uai", 196, 514, 2, 0, 0),
    ("uai/pr_mar/log-1.cnf.uai", 939, 3785, 2, 0, 0),
    ("uai/map/Segmentation_11.uai.gz", 228, 852, 21, 0, 0),
    ("uai/map/Grids_23.uai.gz", 1600, 4720, 2, 0, 0),
    ("uai/map/Promedas_12.uai.gz", 1766, 1766, 2, 15, 0),
    ("uai/map/wcsp_15.uai", 125, 736, 4, 0, 0),
    ("uai/map/ProteinFolding_15.uai.gz", 50, 536, 47, 0, 0),
    ("uai/mmap/Segmentation_12.uai", 231, 856, 2, 0, 118),
    ("uai/mmap/wcsp_15.uai", 125, 736, 4, 0, 84),
    ("uai/mmap/Grids_18.uai.gz", 1600, 4800, 2, 0, 130),
    ("uai/mmap/Promedas_12.uai.gz", 1766, 1766, 2, 15, 1180),
    ("uai_small/ChestClinic.uai", 8, 8, 2, 1, 0),
    ("uai_small/asia.uai", 8, 8, 2, 0, 0),
    ("uai_small/cancer.uai", 5, 5, 2, 1, 0),
    ("uai_small/grid4x4.uai", 16, 40, 2, 0, 0),
    ("uai_small/grid4x4_with_triplets.uai", 16, 44, 2, 0, 0),
    ("uai_small/pedigree1.uai", 334, 334, 4, 10, 0),
]

COINS = """BAYES
2
2 3
2
1 0
2 0 1

2
 0.25 0.75

6
 0.5 0.5 0
 0.1 0.2 0.7
"""


def parse(text: str) -> NumberedTables:
    return parse_uai(Source(text, "test.uai"))


def same(a: NumberedTables, b: NumberedTables) -> bool:
    return (a.kind, a.num_states, a.scopes) == (b.kind, b.num_states, b.scopes) and all(
        np.array_equal(x, y) for x, y in zip(a.tables, b.tables, strict=True)
    )


@pytest.mark.parametrize(("name", "variables", "tables", "most", "observed", "asked"), INSTANCES)
def test_shared_instances(
    data_dir: Path, name: str, variables: int, tables: int, most: int, observed: int, asked: int
) -> None:
    found = parse_uai(Source.read(data_dir / name))
    assert (len(found.num_states), len(found.scopes)) == (variables, tables)
    assert max(found.num_states) == most
    assert same(parse(format_uai(found)), found)
    base = str(data_dir / name.removesuffix(".gz"))
    places = [Path(base + ".evid"), Path(base.removesuffix(".uai") + ".evid")]
    evidence = next((read_evidence(p) for p in places if p.is_file()), {})
    assert len(evidence) == observed
    assert all(0 <= state < found.num_states[k] for k, state in evidence.items())
    query = Path(base + ".query")
    assert (len(set(read_query(query))) if query.is_file() else 0) == asked


def test_last_variable_is_fastest_and_is_the_child() -> None:
    model = read_uai(io.StringIO(COINS))
    assert list(model.variables) == [0, 1]
    assert model.variables[1].states == (0, 1, 2)
    assert [v.name for v in model.conditionals[1].parents] == [0]
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]).double()
    torch.testing.assert_close(model.conditionals[1].probs, expected)


def test_bayes_asia_has_the_tables_of_the_bif(data_dir: Path) -> None:
    # The UAI file numbers its variables; each table of the BIF file is found by its numbers.
    chest = read_uai(data_dir / "uai_small/ChestClinic.uai")
    asia = read_bif(data_dir / "bn/asia.bif")

    def tables(model: BayesianNetwork) -> list[list[float]]:
        values = (c.factor().values.flatten().tolist() for c in model.conditionals.values())
        return sorted([round(x, 12) for x in sorted(v)] for v in values)

    assert tables(chest) == tables(asia)
    assert chest.graph.number_of_edges() == 8


def test_markov_is_plain_factors_in_log_space(data_dir: Path) -> None:
    model = read_uai(data_dir / "uai_small/asia.uai")
    factor = model.factors()[5]
    assert factor.names == (5, 3, 1)
    zero = -math.inf
    assert factor.log_values.tolist() == [[[0, 0], [0, zero]], [[zero, zero], [zero, 0]]]


def test_variable_in_no_table_is_kept() -> None:
    model = read_uai(io.StringIO("MARKOV 3 2 4 2 1 2 0 2 4 1 2 3 4"))
    assert set(model.variables) == {0, 1, 2}
    assert model.variables[1].num_states == 4
    total = sum(f.log_values.sum() for f in model.factors() if f.names == (1,))
    assert float(total) == 0.0


def test_bayes_file_of_unnormalised_rows_is_read_as_factors(data_dir: Path) -> None:
    with pytest.warns(UserWarning, match="do not sum to one.*read as plain factors"):
        model = read_uai(data_dir / "uai_small/pedigree1.uai")
    assert len(model.variables) == 334
    assert len(model.factors()) == 334


MALFORMED = [
    ("BAYES", "bayes", 1, 1, "expected 'BAYES' or 'MARKOV', got 'bayes'"),
    ("\n2\n2 3\n", "\nx\n2 3\n", 2, 1, "expected the number of variables, an integer from 1 up"),
    ("\n2\n2 3\n", "\n2\n2 0\n", 3, 3, "expected the number of states of a variable"),
    ("\n2\n2 3\n", "\n2\n2 3.0\n", 3, 3, "got '3.0'"),
    ("2 0 1\n", "2 0 2\n", 6, 5, "expected a variable of table 1, an integer from 0 to 1"),
    ("2 0 1\n", "2 1 1\n", 6, 3, "table 1 names a variable twice"),
    ("2 0 1\n", "2 1 0\n", 6, 1, "variable 0 is the last one of two tables"),
    ("\n1 0\n", "\n2 1 0\n", 5, 1, "expected no cycle, got"),
    ("1 0\n2 0 1\n", "0\n2 0 1\n", 5, 1, "no child"),
    ("\n6\n", "\n5\n", 11, 1, "expected 6 entries of table 1 over (0, 1), got 5"),
    ("0.2 0.7", "0.2 o.7", 13, 10, "expected an entry of table 1, a finite number not below 0"),
    ("0.2 0.7", "0.2 -0.7", 13, 10, "got '-0.7'"),
    ("0.2 0.7", "0.2 nan", 13, 10, "got 'nan'"),
    ("0.2 0.7", "0.2 0.7_0", 13, 10, "got '0.7_0'"),
    ("0.2 0.7", "0.2 inf", 13, 10, "got 'inf'"),
    ("0.2 0.7", "0.2 0.7 1", 13, 14, "expected the end of the file after 2 tables, got '1'"),
    ("0.2 0.7", "0.2", 14, 1, "got the end of the file after 5"),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "words"), MALFORMED)
def test_malformed(old: str, new: str, line: int, column: int, words: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(COINS.replace(old, new, 1))
    assert words in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column), str(caught.value)


def test_truncated_anywhere(data_dir: Path) -> None:
    text = (data_dir / "uai_small/grid4x4.uai").read_text()
    whole = parse(text)
    last = len(text.rstrip())
    positions_known = True
    for stop in range(0, len(text), 7):
        try:
            found = parse(text[:stop])
        except DataError as error:
            positions_known &= None not in (error.line, error.column)
        else:  # only the last number may have lost digits
            assert stop > text.rstrip().rfind(" ")
            assert found.scopes == whole.scopes
    assert positions_known
    assert same(parse(text[:last]), whole)


def test_missing_table_of_a_child() -> None:
    with pytest.raises(DataError, match="variable 1 is the last one of no table"):
        parse("BAYES 2 2 2 1 1 0 2 0.5 0.5")


@given(st.integers(0, 2**32))
def test_round_trip_of_random_factors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    variables = [Variable(k, int(rng.integers(1, 4))) for k in range(4)]
    factors = []
    for size in (1, 2, 3, 0, 4):
        scope = [variables[int(k)] for k in rng.permutation(4)[:size]]
        values = rng.normal(scale=5, size=[v.num_states for v in scope])
        values[rng.random(values.shape) < 0.2] = -math.inf
        factors.append(Factor(scope, torch.tensor(values)))
    text = io.StringIO()
    write_uai(MarkovRandomField(factors), text)
    again = read_uai(io.StringIO(text.getvalue())).factors()
    for old, new in zip(factors, again, strict=True):
        assert new.names == old.names
        torch.testing.assert_close(new.log_values, old.log_values, rtol=2**-50, atol=2**-51)


def test_named_network_is_numbered(data_dir: Path, tmp_path: Path) -> None:
    asia = read_bif(data_dir / "bn/asia.bif")
    write_uai(asia, tmp_path / "asia.uai.gz")
    again = read_uai(tmp_path / "asia.uai.gz")
    numbers = numbering(asia)
    for name, conditional in asia.conditionals.items():
        other = again.conditionals[numbers[name]]
        assert [v.name for v in other.parents] == [numbers[v.name] for v in conditional.parents]
        assert other.logits.equal(conditional.logits)
    assert numbering(again) == {k: k for k in range(8)}


def test_numbers_beyond_doubles_are_refused() -> None:
    a = Variable(0, 2)
    model = MarkovRandomField([Factor([a], torch.tensor([-800.0, 0.0]).double())])
    with pytest.raises(DataError, match=r"e\*\*-800, which is no double"):
        write_uai(model, io.StringIO())


# --- what other libraries write -----------------------------------------------------------------

CHILD = np.array([[[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], [[0.4, 0.6], [0.5, 0.5], [0.6, 0.4]]])
"""``(A, B, C)``: of two, three and two states."""
PYAGRUM = """BAYES
3
2 3 2
3
1 0   # A
1 1   # B
3 0 1 2   # C

2
0.25 0.75
3
0.2 0.3 0.5
12
0.1 0.9 0.4 0.6 0.2 0.8 0.5 0.5 0.3 0.7 0.6 0.4
"""
PGMPY = """BAYES
3
2 3 2
3
1 0
1 1
3 1 0 2

2
0.25 0.75
3
0.2 0.3 0.5
12
0.1 0.2 0.3 0.4 0.5 0.6 0.9 0.8 0.7 0.6 0.5 0.4"""


def _child_given_parents(text: str) -> np.ndarray:
    """The distribution of the variable 2 for all states of 0 and 1."""
    model = read_uai(io.StringIO(text))
    sizes = [model.variables[k].num_states for k in range(2)]
    rows = np.indices(sizes).reshape(2, -1)
    found = model.query(2, {k: rows[k].tolist() for k in range(2)})[2].probs
    return found.numpy().reshape(*sizes, -1)


def test_pyagrum_has_the_first_parent_fastest() -> None:
    np.testing.assert_allclose(_child_given_parents(PYAGRUM), CHILD)
    plain = "\n".join(line.split("#")[0] for line in PYAGRUM.splitlines())
    written = CHILD.transpose(1, 0, 2).reshape(CHILD.shape)
    np.testing.assert_allclose(_child_given_parents(plain), written)  # as the format has it


def test_pgmpy_has_the_first_variable_fastest() -> None:
    with pytest.warns(UserWarning, match="as pgmpy writes them"):
        found = _child_given_parents(PGMPY)
    np.testing.assert_allclose(found, CHILD)


def test_pyagrum_itself(tmp_path: Path) -> None:
    gum = pytest.importorskip("pyagrum")
    net = gum.fastBN("a[2];b[3];c[2]")
    for parent in ("a", "b"):
        net.addArc(parent, "c")
    net.cpt("a").fillWith([0.25, 0.75])
    net.cpt("b").fillWith([0.2, 0.3, 0.5])
    for a in range(2):
        for b in range(3):
            net.cpt("c")[{"a": a, "b": b}] = CHILD[a, b].tolist()
    gum.saveBN(net, str(tmp_path / "net.uai"))
    np.testing.assert_allclose(_child_given_parents((tmp_path / "net.uai").read_text()), CHILD)


def test_pgmpy_itself() -> None:
    models = pytest.importorskip("pgmpy.models")
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.readwrite import UAIWriter

    net = models.DiscreteBayesianNetwork([("a", "c"), ("b", "c")])
    # it numbers variables by how many states they have, then by name
    child = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 3))
    net.add_cpds(
        TabularCPD("a", 2, [[0.25], [0.75]]),
        TabularCPD("b", 3, [[0.2], [0.3], [0.5]]),
        TabularCPD("c", 3, child.reshape(6, 3).T, ["a", "b"], [2, 3]),
    )
    with pytest.warns(UserWarning, match="as pgmpy writes them"):
        found = _child_given_parents(str(UAIWriter(net)))
    np.testing.assert_allclose(found, child, rtol=1e-6)
