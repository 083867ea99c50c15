"""The BIF reader and writer, on plain descriptions and as models."""

import gzip
import io
import time
import warnings
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.errors import DataError
from pgnn.io import read_bif, write_bif
from pgnn.io.bif import format_bif, parse_bif
from pgnn.io.description import Network, Table
from pgnn.io.source import Source
from pgnn.models import BayesianNetwork

# File, nodes, arcs, most states, free parameters, as the data folder's README has them.
NETWORKS = [
    ("bn/alarm.bif", 37, 46, 4, 509),
    ("bn/andes.bif", 223, 338, 2, 1157),
    ("bn/asia.bif", 8, 8, 2, 18),
    ("bn/cancer.bif", 5, 4, 2, 10),
    ("bn/diabetes.bif.gz", 413, 602, 21, 429409),
    ("bn/earthquake.bif", 5, 4, 2, 10),
    ("bn/hailfinder.bif", 56, 66, 11, 2656),
    ("bn/insurance.bif", 27, 52, 5, 1008),
    ("bn/link.bif", 724, 1125, 4, 14211),
    ("bn/mildew.bif.gz", 35, 46, 100, 540150),
    ("bn/munin.bif.gz", 1041, 1397, 21, 80592),
    ("bn/munin1.bif", 186, 273, 21, 15622),
    ("bn/munin4.bif.gz", 1038, 1388, 21, 80352),
    ("bn/sachs.bif", 11, 17, 3, 178),
    ("bn/survey.bif", 6, 6, 3, 21),
    ("bn/water.bif", 32, 66, 4, 10083),
    ("bn_formats/agrum_alarm.bif", 37, 46, 4, 509),
    ("bn_formats/agrum_asia.bif", 8, 8, 2, 18),
    ("bn_formats/agrum_hailfinder.bif", 56, 66, 11, 2656),
]

RAIN = """network weather {
  property author "a; b } c";
}
variable rain { type discrete [ 2 ] { no, yes }; }
variable wet { type discrete [ 3 ] { dry, damp, soaked }; property x = 1; }
probability ( rain ) { table 0.8, 0.2; }
probability ( wet | rain ) {
  (no) 0.7, 0.2, 0.1;
  (yes) 0.1, 0.3, 0.6;
}
"""


def parse(text: str) -> Network:
    return parse_bif(Source(text, "test.bif"))


def same(a: Network, b: Network) -> bool:
    return (
        dict(a.states) == dict(b.states)
        and list(a.tables) == list(b.tables)
        and all(
            t.parents == b.tables[n].parents and np.array_equal(t.values, b.tables[n].values)
            for n, t in a.tables.items()
        )
    )


@pytest.mark.parametrize(("name", "nodes", "arcs", "most", "free"), NETWORKS)
def test_shared_networks(
    data_dir: Path, name: str, nodes: int, arcs: int, most: int, free: int
) -> None:
    start = time.perf_counter()
    network = parse_bif(Source.read(data_dir / name))
    print(f"{name}: {1e3 * (time.perf_counter() - start):.0f} ms")  # noqa: T201
    assert len(network.states) == len(network.tables) == nodes
    assert sum(len(t.parents) for t in network.tables.values()) == arcs
    assert max(map(len, network.states.values())) == most
    assert network.num_free_parameters == free
    assert same(parse(format_bif(network)), network)


@pytest.mark.parametrize("name", ["bn/survey.bif", "bn/sachs.bif", "bn_formats/agrum_asia.bif"])
def test_tables_equal_pgmpy(data_dir: Path, name: str) -> None:
    from pgmpy.readwrite import BIFReader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = BIFReader(str(data_dir / name)).get_model()
    ours = parse_bif(Source.read(data_dir / name))
    assert set(ours.states) == set(other.nodes)
    for child, table in ours.tables.items():
        cpd = other.get_cpds(child)
        assert cpd.variables == [child, *table.parents]
        assert {v: tuple(cpd.state_names[v]) for v in cpd.variables} == {
            v: ours.states[v] for v in cpd.variables
        }
        np.testing.assert_allclose(np.moveaxis(cpd.values, 0, -1), table.values, atol=1e-15)


@pytest.mark.parametrize(
    "name", ["bn/water.bif", "bn/munin1.bif", "bn_formats/agrum_hailfinder.bif"]
)
def test_tables_equal_pyagrum(data_dir: Path, name: str) -> None:
    gum = pytest.importorskip("pyagrum")
    other = gum.loadBN(str(data_dir / name))
    ours = parse_bif(Source.read(data_dir / name))
    assert set(ours.states) == set(other.names())
    for child, table in ours.tables.items():
        cpt = other.cpt(child)
        # pyAgrum's array has the first name on the last axis.
        order = [cpt.names[::-1].index(n) for n in (*table.parents, child)]
        assert tuple(other.variable(child).labels()) == ours.states[child]
        np.testing.assert_allclose(cpt.toarray().transpose(order), table.values, atol=1e-7)


def test_dialects_say_the_same() -> None:
    wanted = parse(RAIN)
    assert wanted.name == "weather"
    np.testing.assert_array_equal(wanted.tables["wet"].values, [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    body = RAIN[RAIN.index("variable") :]
    rows = "(no) 0.7, 0.2, 0.1;\n  (yes) 0.1, 0.3, 0.6;"
    variants = [
        body,
        RAIN.replace("weather", '"weather"').replace("rain", '"rain"'),
        RAIN.replace(", ", " , ").replace("discrete [ 2 ]", "discrete[2]"),
        RAIN.replace("{ dry, damp, soaked }", "{dry damp soaked}").replace(
            "wet | rain", "wet rain"
        ),
        RAIN.replace(rows, "table 0.7 0.1 0.2 0.3 0.1 0.6;"),
        RAIN.replace(rows, "(yes) .1 .3 .6; default 7e-1 2E-1 1e-1;"),
        RAIN.replace(rows, "(yes) .1 .3 .6; default .7 .5 .2 .3 .1 .2;"),
        RAIN.replace(rows, 'property a "(no) 1;"; ("yes") 0.1 0.3 0.6; (no) 0.7, 0.2, 0.1;'),
        RAIN.replace("{ no, yes }", '{ no, /* , maybe } */ yes } // "\n'),
        RAIN.replace("\n", "\r\n"),
        "\ufeff" + RAIN,
        body[body.index("prob") :] + body[: body.index("prob")],
    ]
    for text in variants:
        network = parse_bif(Source.read(io.BytesIO(text.encode())))
        assert same(network, wanted), text


def test_odd_states_unquoted() -> None:
    text = RAIN.replace("dry, damp, soaked", "<1.5, -3>=x, 10 - 20%").replace("{ no,", "{ n/o*,")
    network = parse(text.replace("(no)", "(n/o*)"))
    assert network.states["wet"] == ("<1.5", "-3>=x", "10 - 20%")
    assert network.states["rain"] == ("n/o*", "yes")


def test_quoted_names_hold_anything() -> None:
    text = RAIN.replace("{ no, yes }", r'{ "no; (a, b) // {", "\"yes\" \\ }" }')
    text = text.replace("(yes)", r'("\"yes\" \\ }")').replace("(no)", '("no; (a, b) // {")')
    network = parse(text)
    assert network.states["rain"] == ("no; (a, b) // {", '"yes" \\ }')
    assert network.tables["wet"].values[1, 2] == 0.6
    assert same(parse(format_bif(network)), network)


# What to replace in RAIN, by what, and then line, column and words of the error.
MALFORMED = [
    ("variable rain", "variabel rain", 4, 1, "expected 'network', 'variable' or 'probability'"),
    ("type discrete [ 2 ]", "type continuous [ 2 ]", 4, 22, "expected 'discrete'"),
    ("[ 2 ]", "[ 3 ]", 4, 39, "expected 3 states of 'rain', got 2: no, yes"),
    ("[ 2 ]", "[ two ]", 4, 33, "expected the number of states, got 'two'"),
    ("{ no, yes }", "{ no, no }", 4, 39, "has the state 'no' twice"),
    ("no, yes };", "no, yes }", 4, 49, "expected ';' after the states of 'rain', got '}'"),
    ("variable wet", "variable rain", 5, 10, "'rain' is declared twice"),
    ("variable wet { type", "variable wet { typ", 5, 16, "expected 'type', 'property' or '}'"),
    ("type discrete [ 2 ] { no, yes };", "", 4, 10, "'rain' has no type"),
    ("{ no, yes };", "{ no, yes }; type discrete[1]{a};", 4, 50, "has two types"),
    ("wet | rain", "wet | rian", 7, 21, "'rian' is not declared; did you mean 'rain'?"),
    ("wet | rain", "wat | rain", 7, 15, "'wat' is not declared; did you mean 'wet'"),
    ("wet | rain", "rain | rain", 7, 15, "'rain' has two probability blocks"),
    ("wet | rain", "wet | rain, rain", 7, 15, "'rain' is twice a parent of 'wet'"),
    ("wet | rain", "wet | rain | wet", 7, 15, "expected '( child | parent, ... )'"),
    ("( rain ) { table 0.8, 0.2;", "( rain | wet ) { default 0.8, 0.2;", 6, 15, "without cycles"),
    ("(yes)", "(ye)", 9, 4, "'rain' has no state 'ye'; did you mean 'yes'?"),
    ("(yes)", "(yes, no)", 9, 4, "expected 1 states, one for each parent of 'wet', got 2"),
    ("(yes)", "(no)", 9, 7, "row (no) of 'wet' occurs twice"),
    ("(yes)", "(yes", 9, 21, "expected ')' after the states of the parents"),
    ("(yes) 0.1, 0.3, 0.6;", "", 10, 1, "got 1; (yes) is missing and there is no 'default'"),
    ("0.1, 0.3, 0.6;", "0.1, 0.3;", 9, 9, "expected 3 numbers for 'wet', got 2"),
    ("0.1, 0.3, 0.6;", "0.1, 0.3, 0.6", 10, 1, "expected ';' after the numbers of 'wet', got '}'"),
    ("0.3, 0.6", "0.3o, 0.6", 9, 14, "expected a probability from 0 to 1, got '0.3o'"),
    ("0.3, 0.6", "nan, 0.6", 9, 14, "expected a probability from 0 to 1, got 'nan'"),
    ("0.3, 0.6", "-0.3, 1.2", 9, 14, "expected a probability from 0 to 1, got '-0.3'"),
    ("0.3, 0.6", "0.3_0, 0.6", 9, 14, "expected a probability from 0 to 1, got '0.3_0'"),
    ("0.3, 0.6", "0.3, 0.61", 9, 9, "row (yes) of 'wet' to sum to 1, got 1.01"),
    ("table 0.8, 0.2", "table 0.8", 6, 30, "expected 2 numbers for 'rain', got 1"),
    ("table 0.8, 0.2", "table 0.8, 0.3", 6, 30, "to sum to 1, got 1.1"),
    ("table 0.8, 0.2;", "table 0.8, 0.2; table 1 0;", 6, 40, "'rain' has two 'table' entries"),
    ("table 0.8, 0.2;", "table 0.8, 0.2; default 1 0;", 6, 24, "a 'table' and other entries"),
    ("table 0.8, 0.2;", "", 6, 25, "expected 'table' and 2 numbers"),
    ("table 0.8, 0.2;", "tabel 0.8, 0.2;", 6, 24, "expected '(', 'table', 'default' or '}'"),
    ("0.8, 0.2; }", "0.8, 0.2;", 7, 28, "closing the table of 'rain', got '{'"),
    ("variable wet", 'variable "wet', 5, 10, "its closing quote is missing"),
    ("weather {", "weather { /*", 1, 19, "this comment has no end"),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "words"), MALFORMED)
def test_malformed(old: str, new: str, line: int, column: int, words: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(RAIN.replace(old, new, 1))
    assert words in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column), str(caught.value)
    assert str(caught.value).startswith(f"test.bif:{line}:{column}: ")


def test_child_fastest_table_gets_a_hint() -> None:
    rows = "(no) 0.7, 0.2, 0.1;\n  (yes) 0.1, 0.3, 0.6;"
    with pytest.raises(DataError, match="but these fit child fastest"):
        parse(RAIN.replace(rows, "table 0.7 0.2 0.1 0.1 0.3 0.6;"))


def test_empty_and_unrelated_files() -> None:
    for text in ("", "network a {}", "{}", "<?xml version='1.0'?>", "MARKOV 2", "\0"):
        with pytest.raises(DataError):
            parse(text)


def test_truncated_alarm(data_dir: Path) -> None:
    text = (data_dir / "bn/alarm.bif").read_text()
    whole = parse(text)
    rng = np.random.default_rng(0)
    positions = {*rng.integers(0, len(text), 250).tolist(), *range(len(text) - 60, len(text))}
    survivors, positions_known = 0, True
    for stop in positions:
        try:
            network = parse(text[:stop])
        except DataError as error:
            positions_known &= None not in (error.line, error.column)
        else:
            survivors += 1
            assert same(network, whole)
    assert positions_known
    assert 0 < survivors < 10


def test_garbled_alarm(data_dir: Path) -> None:
    text = (data_dir / "bn/alarm.bif").read_text()
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(text), 250).tolist():
        junk = rng.choice(list('{}()[];,|"/*\\ 0a-')) * int(rng.integers(1, 3))
        try:
            network = parse(text[:at] + junk + text[at + int(rng.integers(0, 4)) :])
        except DataError:
            continue
        assert all(abs(t.values.sum(axis=-1) - 1).max() < 1e-3 for t in network.tables.values())


def test_broken_bytes(tmp_path: Path) -> None:
    (tmp_path / "cut.bif.gz").write_bytes(gzip.compress(RAIN.encode())[:-20])
    with pytest.raises(DataError, match="gzip stream is broken"):
        read_bif(tmp_path / "cut.bif.gz")
    (tmp_path / "latin.bif").write_bytes(RAIN.replace("soaked", "naß").encode("latin-1"))
    with pytest.raises(DataError, match="0xdf") as caught:
        read_bif(tmp_path / "latin.bif")
    assert (caught.value.line, caught.value.column) == (5, 51)
    model = read_bif(tmp_path / "latin.bif", encoding="latin-1")
    assert model.variables["wet"].states == ("dry", "damp", "naß")
    with pytest.raises(FileNotFoundError):
        read_bif(tmp_path / "none.bif")


names = st.text(st.characters(codec="utf-8"), max_size=8)


@given(
    st.lists(names, min_size=3, max_size=3, unique=True),
    st.lists(names, min_size=2, max_size=4, unique=True),
    st.integers(0, 2**32),
)
def test_round_trip_of_any_names(variables: list[str], states: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = len(states)
    parents = [(), (variables[0],), (variables[1], variables[0])]
    tables = {
        name: Table(name, above, rng.dirichlet(np.ones(size), [size] * len(above)))
        for name, above in zip(variables, parents, strict=True)
    }
    network = Network("unknown", dict.fromkeys(variables, tuple(states)), tables)
    assert same(parse(format_bif(network)), network)


def test_bare_names_stay_bare() -> None:
    text = format_bif(parse(RAIN))
    assert '"' not in text
    assert "(yes) 0.1, 0.3, 0.6;" in text
    assert parse(text).name == "weather"


def test_labels_that_become_the_same_text_are_refused() -> None:
    table = Table("x", (), np.array([0.5, 0.5]))
    with pytest.raises(DataError, match=r"two states of 'x', 1 and '1'"):
        format_bif(Network("n", {"x": (1, "1")}, {"x": table}))


@pytest.mark.parametrize("name", ["bn/alarm.bif", "bn/insurance.bif", "bn_formats/agrum_asia.bif"])
def test_models_round_trip(data_dir: Path, tmp_path: Path, name: str) -> None:
    model = read_bif(data_dir / name)
    write_bif(model, tmp_path / "a.bif.gz")
    again = read_bif(tmp_path / "a.bif.gz")
    assert set(again.graph.edges) == set(model.graph.edges)
    printed = parse_bif(Source.read(data_dir / name))
    written = parse_bif(Source.read(tmp_path / "a.bif.gz"))
    for child, conditional in model.conditionals.items():
        other = again.conditionals[child]
        assert [v.name for v in other.parents] == [v.name for v in conditional.parents]
        assert other.child.states == conditional.child.states
        assert other.logits.equal(conditional.logits)
        np.testing.assert_array_equal(written.tables[child].values, printed.tables[child].values)
        np.testing.assert_allclose(other.probs.numpy(), printed.tables[child].values, atol=1e-6)


def test_streams() -> None:
    model = read_bif(io.StringIO(RAIN))
    text, data = io.StringIO(), io.BytesIO()
    write_bif(model, text, name="weather")
    write_bif(model, data, name="weather")
    assert text.getvalue().encode() == data.getvalue()
    assert same(parse(text.getvalue()), parse(RAIN))


def test_carried_asia(data_dir: Path) -> None:
    path = files("pgnn") / "networks" / "asia.bif"
    text = path.read_text()
    ours, theirs = parse(text), parse_bif(Source.read(data_dir / "bn/asia.bif"))
    assert text.endswith(format_bif(ours))
    assert dict(ours.states) == dict(theirs.states)
    for name, table in theirs.tables.items():
        assert ours.tables[name].parents == table.parents
        np.testing.assert_array_equal(ours.tables[name].values, table.values)


def test_variables_that_are_never_observed(tmp_path: Path) -> None:
    rows = [[0.1, 0.9], [0.4, 0.6]]
    model = BayesianNetwork([("h", "a")], {"h": [0.5, 0.5], "a": rows}, latents=["h"])
    write_bif(model, tmp_path / "model.bif")
    assert read_bif(tmp_path / "model.bif").latents == ["h"]
    text = (tmp_path / "model.bif").read_text()
    for other in ('property "latent = yes" ;', "property latent yes;", "property LATENT = true;"):
        spelled = text.replace("property latent = yes;", other)
        assert read_bif(io.StringIO(spelled)).latents == ["h"]
    without = text.replace("property latent = yes;", "property weight = yes;")
    assert read_bif(io.StringIO(without)).latents == []
