"""The formats of networks beside BIF: read as second libraries read them, written and read back."""

import io
import itertools
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pgnn
from pgnn.errors import DataError, Intractable, PgnnError
from pgnn.io.description import Network, Table, describe
from pgnn.io.endings import ENDINGS
from pgnn.io.formats import FORMATS, by_name, recognised
from pgnn.io.source import Source
from tests.io.test_bif import names, same

NAMED = [f.name for f in FORMATS if not f.is_numbered]

# p(rain) = .8 .2; p(wet | rain) = .7 .2 .1, .1 .3 .6, written by hand in every format
EXAMPLES = {
    "bif": """network w {} variable rain { type discrete [ 2 ] { no, yes }; }
variable wet { type discrete [ 3 ] { dry, damp, soaked }; property latent = yes; }
probability ( rain ) { table 0.8, 0.2; }
probability ( wet | rain ) { (no) 0.7, 0.2, 0.1; (yes) 0.1, 0.3, 0.6; }""",
    "xmlbif": """<?xml version="1.0" encoding="US-ASCII"?>
<!DOCTYPE BIF [ <!ELEMENT BIF (NETWORK)*> <!ATTLIST BIF VERSION CDATA #REQUIRED> ]>
<BIF VERSION="0.3"><NETWORK><NAME>w</NAME>
<VARIABLE TYPE="nature"><NAME>rain</NAME><OUTCOME>no</OUTCOME><OUTCOME>yes</OUTCOME></VARIABLE>
<VARIABLE TYPE="nature"><NAME>wet</NAME><OUTCOME>dry</OUTCOME><OUTCOME>damp</OUTCOME>
<OUTCOME>soaked</OUTCOME><PROPERTY>latent = yes</PROPERTY><PROPERTY>x = (1, 2)</PROPERTY></VARIABLE>
<DEFINITION><FOR>wet</FOR><GIVEN>rain</GIVEN>
<TABLE>0.7 0.2 <!-- of no --> 0.1 0.1 0.3 0.6</TABLE></DEFINITION>
<DEFINITION><FOR>rain</FOR><TABLE>.8 .2</TABLE></DEFINITION></NETWORK></BIF>""",
    "net": """% a comment { (
net { node_size = (80 40); }
node rain { label = "; }"; states = ("no" "yes"); }
discrete node wet { states = ("dry" "damp" "soaked"); latent = "yes"; }
potential (rain) { data = ( .8 .2 ); }
potential (wet | rain) { data = (( 0.7 0.2 0.1 ) % no
 (.1 .3 .6)); }""",
    "dsl": """net w { // a comment
 node rain { TYPE = CPT; HEADER = { ID = rain; NAME = "the rain"; }; PARENTS = ();
  DEFINITION = { NAMESTATES = (no, yes); PROBABILITIES = (0.8, 0.2); }; };
 submodel s { HEADER = { ID = s; };
 node wet { TYPE = CPT; PARENTS = (rain); USER_PROPERTIES = { latent = "yes"; };
  DEFINITION = { NAMESTATES = (dry, damp, soaked); PROBABILITIES = (.7,.2,.1, .1,.3,.6); };
  DOCUMENTATION = { }; DOCUMENTATION = { }; }; };
 OBSERVATION_COST = { node rain { COSTS = (0); }; };
};""",
    "xdsl": """<?xml version="1.0" encoding="UTF-8"?>
<smile version="1.0" id="w"><nodes>
<cpt id="rain"><state id="no" /><state id="yes" /><probabilities>0.8 0.2</probabilities></cpt>
<submodel id="s"><cpt id="wet"><state id="dry" /><state id="damp" /><state id="soaked" />
<property id="latent">yes</property>
<parents>rain</parents><probabilities>.7 .2 .1 .1 .3 .6</probabilities></cpt></submodel>
</nodes><extensions><genie version="1.0"><node id="rain"><name>Rain</name></node></genie>
</extensions></smile>""",
}


def parse(text: str, name: str) -> Network:
    """What the reader of a format makes of a text."""
    kind = by_name(name)
    assert kind is not None
    return describe(kind.read(Source(text, "test"), False))


def write(network: Network, name: str) -> str:
    out = io.StringIO()
    pgnn.write(pgnn.io.formats.to_bayesian_network(network), out, format=name)
    return out.getvalue()


@pytest.mark.parametrize("name", NAMED)
def test_examples(name: str) -> None:
    kind = recognised(EXAMPLES[name])
    assert kind is not None
    assert kind.name == name
    model = pgnn.read(io.StringIO(EXAMPLES[name]))
    assert model.variables["rain"].states == ("no", "yes")
    assert model.variables["wet"].states == ("dry", "damp", "soaked")
    assert tuple(model.latents) == ("wet",)
    expected = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
    np.testing.assert_allclose(model.conditionals["wet"].probs, expected, rtol=1e-15)
    np.testing.assert_allclose(model.conditionals["rain"].probs, [0.8, 0.2], rtol=1e-15)


@pytest.mark.parametrize("name", NAMED)
def test_by_content_whatever_the_file_is_called(name: str, tmp_path: Path) -> None:
    (tmp_path / "network.txt").write_text(EXAMPLES[name])
    assert set(pgnn.read(tmp_path / "network.txt").variables) == {"rain", "wet"}


def test_functions_of_the_parents() -> None:
    dsl = """net w { node a { TYPE = CPT; DEFINITION = { NAMESTATES = (no, yes);
        PROBABILITIES = (0.8, 0.2); }; };
    node b { TYPE = TRUTHTABLE; PARENTS = (a); DEFINITION = { NAMESTATES = (x, y, z);
        RESULTINGSTATES = (z, x); }; }; };"""
    xdsl = """<smile><nodes><cpt id="a"><state id="no"/><state id="yes"/>
        <probabilities>0.8 0.2</probabilities></cpt><deterministic id="b"><state id="x"/>
        <state id="y"/><state id="z"/><parents>a</parents>
        <resultingstates>z x</resultingstates></deterministic></nodes></smile>"""
    for text in (dsl, xdsl):
        model = pgnn.read(io.StringIO(text))
        assert model.conditionals["b"].probs.tolist() == [[0, 0, 1], [1, 0, 0]]
        with pytest.raises(DataError, match="'b' has no state 'zz'"):
            pgnn.read(io.StringIO(text.replace("z x", "zz x").replace("z, x)", "zz, x)")))


NOISY = """net w {
 node p { DEFINITION = { NAMESTATES = (on, off); PROBABILITIES = (0.3, 0.7); }; };
 node q { DEFINITION = { NAMESTATES = (high, none, low); PROBABILITIES = (0.2, 0.5, 0.3); }; };
 node c { TYPE = NOISY_MAX; PARENTS = (p, q); DEFINITION = { NAMESTATES = (bad, mild, absent);
  STRENGTHS = (0, 1, 0, 2, 1);
  PROBABILITIES = (.1, .3, .6, 0, 0, 1, .4, .4, .2, .05, .15, .8, 0, 0, 1, .01, .04, .95); }; };
};"""
NOISY_XML = """<smile><nodes>
<cpt id="p"><state id="on"/><state id="off"/><probabilities>0.3 0.7</probabilities></cpt>
<cpt id="q"><state id="high"/><state id="none"/><state id="low"/>
<probabilities>0.2 0.5 0.3</probabilities></cpt>
<noisymax id="c"><state id="bad"/><state id="mild"/><state id="absent"/><parents>p q</parents>
<strengths>0 1 0 2 1</strengths>
<parameters>.1 .3 .6 0 0 1 .4 .4 .2 .05 .15 .8 0 0 1 .01 .04 .95</parameters></noisymax>
</nodes></smile>"""


@pytest.mark.parametrize("text", [NOISY, NOISY_XML])
def test_noisy_max(text: str) -> None:
    alone = {
        "p": [[0.1, 0.3, 0.6], [0, 0, 1]],
        "q": [[0.4, 0.4, 0.2], [0, 0, 1], [0.05, 0.15, 0.8]],
    }
    expected = np.zeros((2, 3, 3))
    for p, q, *effects in itertools.product(range(2), range(3), *[range(3)] * 3):
        weight = alone["p"][p][effects[0]] * alone["q"][q][effects[1]]
        expected[p, q, min(effects)] += weight * [0.01, 0.04, 0.95][effects[2]]
    model = pgnn.read(io.StringIO(text))
    np.testing.assert_allclose(model.conditionals["c"].probs, expected, atol=1e-15)
    for old, new, message in [
        ("0 2 1", "0 2 0", "'c': expected strengths of a parent to be an order of its 3 states"),
        ("0 2 1", "1 2 0", "'c': the order of strengths '1 2 0' can be read in two ways"),
        ("0 2 1", "0 2", "'c': expected 5 strengths, got 4"),
        (".04", ".14", "'c': expected distribution 6 of 6 of the noisy-max to sum to 1, got 1.1"),
        (".01", ".01 .5", "expected 18 numbers for 'c', got 19"),
    ]:
        between = ", " if text is NOISY else " "
        wrong = text.replace(old.replace(" ", between), new.replace(" ", between))
        with pytest.raises(DataError, match=message):
            pgnn.read(io.StringIO(wrong))
    counts = text.replace(".01", "1").replace(".04", "4").replace(".95", "95")
    counted = pgnn.read(io.StringIO(counts), normalise=True)
    np.testing.assert_allclose(counted.conditionals["c"].probs, expected, atol=1e-15)


# --- the folder of data -------------------------------------------------------------------------


def files_of_models(folder: Path) -> list[Path]:
    return sorted(
        path
        for room in ("bn_formats", "uai_small", "uai", "bn")
        for path in (folder / room).rglob("*")
        if path.name.removesuffix(".gz").rpartition(".")[2]
        in {e for ends in ENDINGS.values() for e in ends}
    )


def test_every_file_of_the_folder_is_read_or_refused_with_what_would_read_it(
    data_dir: Path,
) -> None:
    paths = files_of_models(data_dir)
    assert len(paths) > 80
    for path in paths:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*normalise=True divides them by their sums")
            if path.name == "test1.net":
                with pytest.raises(DataError, match="normalise=True divides each row by its sum"):
                    pgnn.read(path)
            model = pgnn.read(path, normalise=path.name == "test1.net")
        assert model.variables


AGRUM = ["Link.bifxml", "Water.bifxml", "alarm.bifxml", "alarm.dsl", "alarm.net", "dog.bifxml",
         "hailfinder.dsl", "insurance.bifxml", "Ling.dsl", "Water.dsl", "test3.net"]  # fmt: skip


def against_agrum(model: Any, path: Path) -> None:
    """Compare names, states and tables with what pyAgrum reads."""
    gum = pytest.importorskip("pyagrum")
    theirs = gum.loadBN(str(path))
    assert set(theirs.names()) == {str(name) for name in model.variables}
    for name, conditional in model.conditionals.items():
        labels = theirs.variable(str(name)).labels()
        assert tuple(labels) == conditional.child.states
        cpt = theirs.cpt(str(name))
        order = [cpt.names.index(v.name) for v in conditional.scope]
        table = np.transpose(cpt.toarray(), [len(order) - 1 - cpt_at for cpt_at in order])
        np.testing.assert_allclose(conditional.probs, table, atol=5e-5)


@pytest.mark.parametrize("name", AGRUM)
def test_tables_equal_those_of_pyagrum(data_dir: Path, name: str) -> None:
    path = data_dir / "bn_formats" / name
    against_agrum(pgnn.read(path), path)


@pytest.mark.parametrize(
    ("name", "ending"), [("xmlbif", "bifxml"), ("net", "net"), ("dsl", "dsl"), ("bif", "bif")]
)
def test_pyagrum_reads_what_is_written(
    data_dir: Path, tmp_path: Path, name: str, ending: str
) -> None:
    model = pgnn.read(data_dir / "bn/survey.bif")
    path = tmp_path / f"survey.{ending}"
    pgnn.write(model, path, format=name)
    against_agrum(model, path)


def test_pyagrum_writes_the_first_parent_fastest_in_xdsl(data_dir: Path, tmp_path: Path) -> None:
    gum = pytest.importorskip("pyagrum")
    model = pgnn.read(data_dir / "bn/survey.bif")
    gum.saveBN(gum.loadBN(str(data_dir / "bn/survey.bif")), str(tmp_path / "survey.xdsl"))
    theirs = pgnn.read(tmp_path / "survey.xdsl")
    for child, conditional in model.conditionals.items():
        assert theirs.conditionals[child].scope == conditional.scope
        np.testing.assert_allclose(theirs.conditionals[child].probs, conditional.probs, atol=1e-6)


@pytest.mark.parametrize("name", ["xmlbif", "net", "xdsl"])
@pytest.mark.filterwarnings("ignore")
def test_pgmpy_reads_what_is_written(data_dir: Path, tmp_path: Path, name: str) -> None:
    from pgmpy import readwrite

    model = pgnn.read(data_dir / "bn/survey.bif")
    pgnn.write(model, tmp_path / "survey", format=name)
    reader = {"xmlbif": "XMLBIFReader", "net": "NETReader", "xdsl": "XDSLReader"}[name]
    theirs = pgnn.io.from_pgmpy(getattr(readwrite, reader)(str(tmp_path / "survey")).get_model())
    for child, conditional in model.conditionals.items():
        table = theirs.conditionals[child]
        order = [table.scope.index(v) for v in conditional.scope]
        np.testing.assert_allclose(conditional.probs, table.probs.permute(order), atol=1e-12)


def test_numbers_without_names(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = pgnn.read(data_dir / "bn/asia.bif")
    out = io.StringIO()
    with caplog.at_level(logging.WARNING, logger="pgnn"):
        pgnn.write(model, out, format="fg")
    assert caplog.messages == [
        "a file of the format fg does not hold the names of the variables, the names of the "
        "states, the direction of the edges"
    ]
    again = pgnn.read(io.StringIO(out.getvalue()))
    codes = np.array([[0, 1, 0, 1, 1, 1, 0, 1], [0] * 8])
    rows = {name: pgnn.codes(codes[:, k]) for k, name in enumerate(model.variables)}
    numbers = {k: codes[:, k] for k in range(8)}
    np.testing.assert_allclose(again.log_prob(numbers), model.log_prob(rows), rtol=1e-12)


# --- there and back -----------------------------------------------------------------------------

words = names.filter(lambda name: name.strip() == name and name.isprintable() and name)


@settings(max_examples=10)
@given(
    st.lists(words, min_size=3, max_size=3, unique=True),
    st.lists(words, min_size=2, max_size=4, unique=True),
    st.integers(0, 2**32),
)
def test_names_states_and_latents_come_back(
    variables: list[str], states: list[str], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    size = len(states)
    parents = [(), (variables[0],), (variables[1], variables[0])]
    tables = {
        name: Table(name, above, rng.dirichlet(np.ones(size), [size] * len(above)).round(9))
        for name, above in zip(variables, parents, strict=True)
    }
    network = Network("w", dict.fromkeys(variables, tuple(states)), tables, (variables[1],))
    for name in NAMED:
        again = parse(write(network, name), name)
        assert same(again, network), name
        assert again.latents == network.latents, name


def test_names_that_xml_cannot_hold() -> None:
    table = Table(" a", (), np.array([0.5, 0.5]))
    network = Network("w", {" a": ("x\x00", "y")}, {" a": table})
    for name in ("bif", "net", "dsl"):
        assert same(parse(write(network, name), name), network)
    with pytest.raises(DataError, match="XML cannot hold the name ' a'"):
        write(network, "xmlbif")


def test_an_encoding_that_the_file_declares(tmp_path: Path) -> None:
    text = EXAMPLES["xmlbif"].replace("US-ASCII", "ISO-8859-1").replace("soaked", "naß")
    (tmp_path / "w.xml").write_bytes(text.encode("latin-1"))
    assert pgnn.read(tmp_path / "w.xml").variables["wet"].states[-1] == "naß"
    (tmp_path / "w.xml").write_bytes(text.encode("utf-16"))
    assert pgnn.read(tmp_path / "w.xml").variables["wet"].states[-1] == "naß"


# --- what is wrong ------------------------------------------------------------------------------

MALFORMED = [
    ("xmlbif", "0.3 0.6", "0.x 0.6", 8, 39, "expected a number not below 0, got '0.x'"),
    ("xmlbif", "0.3 0.6", "0.3", 8, 8, "expected 6 numbers for 'wet', got 5"),
    ("xmlbif", "0.3 0.6", "0.3 0.7", 7, 1, r"expected row \(yes\) of 'wet' to sum to 1, got 1.1"),
    ("xmlbif", "<GIVEN>rain", "<GIVEN>rian", 7, 1, "'rian' is not declared; did you mean 'rain'"),
    ("xmlbif", "nature", "utility", 4, 1, "'rain' is a utility node"),
    ("xmlbif", "<OUTCOME>damp", "<OUTCOME>dry", 5, 1, "'wet' has the state 'dry' twice"),
    ("xmlbif", "</DEFINITION>", "", 9, 50, "this is no XML: mismatched tag"),
    ("xmlbif", "<TABLE>.8 .2</TABLE>", "", 9, 1, "expected a <TABLE> of 'rain', got none"),
    ("net", "discrete node wet", "continuous node wet", 4, 1, "got 'continuous node wet'"),
    ("net", ".1 .3 .6", ".1 .3 z.6", 7, 9, "got 'z.6'"),
    ("net", "data = ( .8 .2 );", "model_data = (1);", 5, 1, "'rain': it is given by an expression"),
    ("net", "wet | rain", "wet rain", 6, 1, "a .uai file of plain factors"),
    ("net", '("no" "yes")', '("no" "yes"', 3, 37, "the parentheses of this value do not"),
    ("dsl", "TYPE = CPT; HEADER", "TYPE = DEMORGAN; HEADER", 2, 2, "'rain' is of the type DEMOR"),
    ("dsl", "(rain)", "(wet)", 5, 2, "expected a network without cycles, got wet -> wet"),
    ("xdsl", "<parents>rain", "<parents>rian", 4, 18, "'rian' is not declared"),
    ("xdsl", '<cpt id="rain">', "<cpt>", 3, 1, "expected <cpt id=...>, got no id"),
    ("xdsl", "<extensions>", '<dynamic numslices="3"/><extensions>', 7, 9, "<dynamic> has edges"),
    ("xdsl", "cpt", "equation", 3, 1, "'rain' is a <equation>; nodes <cpt>, <det"),
]


@pytest.mark.parametrize(("name", "old", "new", "line", "column", "message"), MALFORMED)
def test_malformed(name: str, old: str, new: str, line: int, column: int, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        parse(EXAMPLES[name].replace(old, new), name)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_weights_are_divided_where_that_is_asked_for() -> None:
    for name in NAMED:
        text = EXAMPLES[name].replace("0.8", "80").replace(".8", "80").replace("0.2;", "20;")
        text = (
            text.replace("80 .2", "80 20").replace("80 0.2", "80 20").replace("80, 0.2", "80, 20")
        )
        with pytest.raises(DataError, match=r"normalise=True|from 0 to 1"):
            pgnn.read(io.StringIO(text))
        model = pgnn.read(io.StringIO(text), normalise=True)
        np.testing.assert_allclose(model.conditionals["rain"].probs, [0.8, 0.2], rtol=1e-15)
        with pytest.raises(DataError, match=r"sums? to 0"):
            pgnn.read(io.StringIO(text.replace("80", "0").replace("20", "0")), normalise=True)
    model = pgnn.read(io.StringIO("BAYES 1 2 1 1 0 2 30 10"), normalise=True)
    np.testing.assert_allclose(model.conditionals[0].probs, [0.75, 0.25], rtol=1e-15)


FACTORS = "# two\n2\n\n2\n3 1\n2 3\n5\n0 1.5\n1 2\n2 3\n4 5\n5 0.5\n\n1\n3\n2\n1\n1 4\n"


def test_factor_graphs_of_libdai() -> None:
    model = pgnn.read(io.StringIO(FACTORS))
    assert [v.num_states for v in model.variables.values()] == [1, 3, 1, 2]
    pair, single = (f.log_values.exp() for f in list(model.factors())[:2])
    # the first variable, 3, is the fastest
    np.testing.assert_allclose(pair, [[1.5, 3, 5], [2, 0, 0.5]])
    np.testing.assert_allclose(single, [0, 4])
    out = io.StringIO()
    pgnn.write(model, out, format="fg")
    assert [f.names for f in pgnn.read(io.StringIO(out.getvalue())).factors()][:2] == [(3, 1), (3,)]
    for old, new, message in [
        ("\n1 4", "\n2 4", "the index of an entry of factor 1, an integer from 0 to 1, got '2'"),
        ("\n1 4", "\n1 x", "an entry of factor 1, a finite number not below 0, got 'x'"),
        ("2 3\n5", "2 3\n7", "not 0, an integer from 0 to 6, got '7'"),
        ("3\n2\n1\n", "3\n3\n1\n", "variable 3 has 3 states in factor 1 and 2 before"),
        ("1 2\n2 3", "1 2\n1 3", "factor 0 has an entry twice"),
        ("3 1", "3 3", "factor 0 names a variable twice"),
    ]:
        with pytest.raises(DataError, match=message):
            pgnn.read(io.StringIO(FACTORS.replace(old, new)))


# --- files that want to do harm -----------------------------------------------------------------

BOMB = """<?xml version="1.0"?><!DOCTYPE BIF [ <!ENTITY a "ha"> {} ]>
<BIF><NETWORK><NAME>&z;</NAME></NETWORK></BIF>"""
HOSTILE = {
    "bomb": BOMB.format("".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghy",
                                                                   "bcdefghyz", strict=True))),
    "file": BOMB.format('<!ENTITY z SYSTEM "file:///etc/passwd">'),
    "parameter": BOMB.format('<!ENTITY % z SYSTEM "file:///etc/passwd"> %z;'),
    "deep": "<BIF><NETWORK>" + "<A>" * 10**6,
    "deep blocks": "net { } node a " + "{ b " * 10**5,
    "elements": "<BIF><NETWORK>" + "<A/>" * 10**7 + "</NETWORK></BIF>",
    "a codec": '<?xml version="1.0" encoding="punycode"?><BIF>' + "é" * 10**5 + "</BIF>",
    "comments": "<BIF>" + "<!--" * 10**6,
    "quotes": "net { } node a { states = (" + '"a\\" ' * 10**5,
    "parents": "<smile><nodes>" + "".join(
        f'<cpt id="x{k}"><state id="a"/><state id="b"/><probabilities>.5 .5</probabilities></cpt>'
        for k in range(40)
    ) + '<cpt id="c"><state id="a"/><state id="b"/><parents>' + " ".join(f"x{k}" for k in range(40))
    + "</parents><probabilities>.5 .5</probabilities></cpt></nodes></smile>",
    "an index": "1\n1\n0\n1000000000\n1\n0 1\n",
    "a variable": "1\n1\n1000000000\n2\n1\n0 1\n",
    "many factors": "1000000000\n" + "2\n0 1\n8000 8000\n0\n" * 40,
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files(what: str) -> None:
    begin = time.process_time()
    with pytest.raises((DataError, Intractable)) as caught:
        pgnn.read(io.StringIO(HOSTILE[what]))
    assert "root:" not in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert time.process_time() - begin < 5


def test_nothing_of_the_machine_is_read() -> None:
    for what in ("file", "parameter", "bomb"):
        with pytest.raises(PgnnError, match=r"declares the entity '[az]'"):
            pgnn.read(io.StringIO(HOSTILE[what]))
