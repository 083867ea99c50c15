"""README and pages stay true: snippets run, tables hold; so do the examples in docstrings."""

import ast
import contextlib
import doctest
import functools
import importlib
import inspect
import io
import pkgutil
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from importlib import resources
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

import pgnn
from pgnn.cli import main
from pgnn.errors import PgnnError
from pgnn.inference.posterior import Posterior

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {p.stem: p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").glob("*.md"))}
MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(pgnn.__path__, "pgnn.")
    if not found.name.endswith("__main__")
)
VERBS = {"query", "most_probable", "sample", "log_prob", "explain", "compile", "fit"}
VERBS |= {"filter", "smooth", "predict", "decode"}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def blocks(page: str = README) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.M | re.S)]


def commands() -> Iterator[list[str]]:
    for block in blocks():
        if block.language == "sh":
            for line in block.text.splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield words


@pytest.fixture(scope="module")
def readme_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the README's snippets find the file they read."""
    folder = tmp_path_factory.mktemp("readme")
    with resources.as_file(resources.files("pgnn") / "networks" / "asia.bif") as path:
        shutil.copy(path, folder / "asia.bif")
    return folder


@pytest.fixture(scope="module")
def readme_names(readme_folder: Path) -> dict[str, Any]:
    """The names that the README's Python snippets, run in order, leave behind."""
    return names_left_by(README, readme_folder)


@pytest.fixture(scope="module")
def names_of_pages(readme_folder: Path) -> Callable[[str], dict[str, Any]]:
    """The names that the snippets of a page leave behind; each page stands on its own."""
    return functools.cache(lambda page: names_left_by(PAGES[page], readme_folder))


def names_left_by(page: str, folder: Path) -> dict[str, Any]:
    """Run the Python snippets of a page in order, and compare what they print."""
    names: dict[str, Any] = {}
    printed = ""
    torch.manual_seed(0)  # weights of networks, which readers need not fix
    with contextlib.chdir(folder):
        for block in blocks(page):
            if block.language == "python":
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    exec(compile(block.text, "page", "exec"), names)
                printed = out.getvalue()
            elif block.language == "text" and printed:
                assert tidy(printed) == tidy(block.text)
                printed = ""
    return names


def tidy(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def test_readme_snippets_run_and_print_what_is_shown(readme_names: dict[str, Any]) -> None:
    assert {block.language for block in blocks()} <= {"python", "text", "sh"}
    assert isinstance(readme_names["model"], pgnn.BayesianNetwork)


@pytest.mark.parametrize("page", PAGES)
def test_page_snippets_run_and_print_what_is_shown(
    page: str, names_of_pages: Callable[[str], dict[str, Any]]
) -> None:
    assert {block.language for block in blocks(PAGES[page])} <= {"python", "text", "sh"}
    without = ("questions", "catalogue", "command_line", "index", "architecture")
    assert names_of_pages(page) or page in without


def test_lines_of_snippets_fit_the_column() -> None:
    pages = [README, *(p.read_text(encoding="utf-8") for p in (ROOT / "docs").rglob("*.md"))]
    lines = [
        line for page in pages for b in blocks(page) for line in b.text.splitlines()
        if b.language == "python"
    ]  # fmt: skip
    assert len(lines) > 500
    assert [line for line in lines if len(line) > 112] == []


def test_links_lead_somewhere() -> None:
    pages = [(ROOT, README)]
    for path in (ROOT / "docs").rglob("*.md"):
        pages.append((path.parent, path.read_text(encoding="utf-8")))
    for folder, page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page):
            assert (folder / target).exists(), target


def test_names_that_losses_belong_to_exist() -> None:
    table = PAGES["losses"].split("\n\n")[2].splitlines()
    cells = [line.strip("|").split("|")[2] for line in table[2:]]
    assert cells
    for name in re.findall(r"`(\w+)`", " ".join(cells)):
        assert hasattr(pgnn, name), name


def test_readme_example_is_twelve_lines() -> None:
    first = next(block for block in blocks() if block.language == "python")
    assert len(first.text.strip().splitlines()) <= 12


def test_readme_commands_of_pgnn_run(readme_folder: Path, capsys: Any) -> None:
    ours = [words for words in commands() if words[0] == "pgnn"]
    assert ours
    with contextlib.chdir(readme_folder):
        for words in ours:
            assert main(words[1:]) == 0, words
            assert "".join(capsys.readouterr())


def test_readme_commands_of_make_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {words[1] for words in commands() if words[0] == "make"}
    assert {"demo", "test"} <= named <= targets


def test_readme_extras_and_files_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installs = [words for words in commands() if "install" in words]
    for words in installs:
        assert words[words.index("-c") + 1] == "constraints.txt"
        extras = re.findall(r"\[([\w,]+)\]", words[-1])
        assert set(",".join(extras).split(",")) - {""} <= set(project["optional-dependencies"])
    assert len(installs) >= 2
    where = README[README.index("## Repository") :]
    for path in re.findall(r"^\| `([\w./]+)` \|", where, re.M):
        assert (ROOT / path).exists(), path


class Claim(NamedTuple):
    """A cell of the README's table: a call on a kind of model, and who answers it."""

    question: str
    call: str
    family: str
    engine: str


def claims(title: str) -> list[Claim]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGES["questions"][PAGES["questions"].index(f"| {title} |") :]
        .split("\n\n")[0]
        .splitlines()
    ]
    families = rows[0][2:]
    return [
        Claim(question, call.strip("`"), family, engine)
        for question, call, *engines in rows[2:]
        for family, engine in zip(families, engines, strict=True)
    ]


class NamedEngine(ast.NodeTransformer):
    """Add ``engine=`` (``learner=`` to a fit) to every verb of a call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.used = False

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        verb = getattr(node.func, "attr", None)
        if verb in VERBS:
            keyword = "learner" if verb == "fit" else "engine"
            engine = ast.parse(f"pgnn.{self.name}()", mode="eval").body
            node.keywords.append(ast.keyword(keyword, engine))
            self.used = True
        return node


@pytest.fixture
def claim_names(readme_names: dict[str, Any]) -> dict[str, Any]:
    import pandas as pd
    import torch

    names = [*readme_names["model"].variables]
    every = pd.DataFrame([*product(["no", "yes"], repeat=len(names))], columns=names)
    return {
        "pgnn": pgnn,
        "torch": torch,
        "observed": {"wet": "yes"},
        "rows": readme_names["rows"],
        "complete": every[(every.wet == "no") | (every.rain == "yes") | (every.sprinkler == "yes")],
    }


def of_family(family: str, network: pgnn.BayesianNetwork) -> Any:
    """The README's network as a model of one of the table's families."""
    if family == "BayesianNetwork":
        tables = {name: part.factor().values for name, part in network.conditionals.items()}
        states = {name: variable.states for name, variable in network.variables.items()}
        return pgnn.BayesianNetwork(network.graph, tables, states=states).requires_grad_()
    if family == "Program":
        return pgnn.Program(of_family("BayesianNetwork", network).program())
    assert family == "MarkovRandomField"
    tables = [pgnn.TabularPotential(f.variables, f.values.detach()) for f in network.factors()]
    return pgnn.MarkovRandomField(tables).requires_grad_()


def name_of(claim: Claim) -> str:
    return f"{claim.question}-{claim.family}"


@pytest.mark.parametrize("claim", claims("Query"), ids=name_of)
def test_table_of_questions(
    claim: Claim, readme_names: dict[str, Any], claim_names: dict[str, Any]
) -> None:
    check(claim, {**claim_names, "model": of_family(claim.family, readme_names["model"])})


def check(claim: Claim, names: dict[str, Any]) -> None:
    """The engine that is named answers, and so it does where none is named."""
    if claim.engine == "-":
        with pytest.raises((PgnnError, AttributeError)):
            eval(claim.call, names)
        return
    naming = NamedEngine(claim.engine)
    tree = ast.fix_missing_locations(naming.visit(ast.parse(claim.call, mode="eval")))
    assert naming.used
    result = eval(compile(tree, "page", "eval"), names)
    plain = eval(claim.call, names)
    assert result is not None
    assert type(plain) is type(result)
    if isinstance(result, pgnn.Model):
        assert plain.history["learner"].startswith(claim.engine)
    for found in (result, plain):
        if isinstance(found, Posterior):
            assert found.kind == "exact"
            assert found.engine == claim.engine


def over_time(family: str, casino: pgnn.HiddenMarkovModel) -> Any:
    """The README's casino as a model of one of the families over time."""
    rolls, moves = casino.emissions["roll"].probs, casino.transitions.probs
    states = {n: v.states for n, v in casino.variables.items()}
    if family == "HiddenMarkovModel":
        model: Any = pgnn.HiddenMarkovModel(states["state"], {"roll": rolls}, [0.5, 0.5], moves)
    else:
        assert family == "DynamicBayesianNetwork"
        edges = [(("state", -1), "state"), ("state", "roll")]
        tables = {"state": moves, "roll": rolls}
        model = pgnn.DynamicBayesianNetwork(edges, tables, {"state": [0.5, 0.5]}, states)
    return model.requires_grad_()


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
@pytest.mark.parametrize("claim", claims("Over time"), ids=name_of)
def test_table_over_time(claim: Claim, names_of_pages: Callable[[str], dict[str, Any]]) -> None:
    names = {
        "pgnn": pgnn,
        "observed": {"roll": [0, 2, 5, 5, None, 5]},
        "told": {"roll": [0, 2, 5, 5], "state": ["fair", "fair", "loaded", "loaded"]},
        "model": over_time(claim.family, names_of_pages("sequences")["casino"]),
    }
    check(claim, names)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    module: ModuleType = importlib.import_module(name)
    failed, _ = doctest.testmod(
        module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, report=True
    )
    assert failed == 0


@pytest.mark.parametrize("name", pgnn.__all__)
def test_public_names_are_described(name: str) -> None:
    thing = getattr(pgnn, name)
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return
    text = inspect.getdoc(thing) or ""
    assert text, name


VERBS_OF_ENGINES = {
    "query": lambda model, engine: model.query(engine=engine),
    "most_probable": lambda model, engine: model.most_probable(engine=engine),
    "sample": lambda model, engine: model.sample(2, seed=0, engine=engine),
}


OVER_TIME = {
    "query": lambda model, engine: model.query(evidence=observed_of(model), engine=engine),
    "most_probable": lambda model, engine: model.most_probable(observed_of(model), engine=engine),
    "sample": lambda model, engine: model.sample(2, observed_of(model), seed=0, engine=engine),
}


def observed_of(model: Any) -> dict[str, Any]:
    return {"roll": [0, 2, 5, 5]} if "roll" in model.variables else {}


def engine_claims() -> list[tuple[str, str, str]]:
    """Cells of the table of engines: an engine, a verb, what is said of it."""
    page = PAGES["questions"]
    lines = page[page.index("| Engine |") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    verbs = [verb.strip("`") for verb in rows[0][1:4]]
    return [
        (row[0].strip("`"), verb, said)
        for row in rows[2:]
        for verb, said in zip(verbs, row[1:4], strict=True)
    ]


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
@pytest.mark.parametrize(("engine", "verb", "said"), engine_claims())
def test_table_of_engines(
    engine: str,
    verb: str,
    said: str,
    readme_names: dict[str, Any],
    names_of_pages: Callable[[str], dict[str, Any]],
) -> None:
    called, _, where = engine.partition("`, of programs")
    made = eval(called, {name: getattr(pgnn, name) for name in pgnn.__all__})
    model = readme_names["model"]
    models = [pgnn.Program(model.program())] if engine != called else [model]
    if where:
        models.append(names_of_pages("sequences")["casino"])
    ask = VERBS_OF_ENGINES[verb] if not where else OVER_TIME[verb]
    for own in models:
        if said == "-":
            with pytest.raises(pgnn.Unsupported):
                ask(own, made)
        else:
            assert ask(own, made) is not None


def catalogue() -> list[list[str]]:
    """Rows of the tables of the catalogue: what, in pgnn, example, tests."""
    lines = PAGES["catalogue"].splitlines()
    rows = [[c.strip() for c in ln.strip("|").split("|")] for ln in lines if ln.startswith("|")]
    return [r for r in rows if r[1] != "In pgnn" and not set(r[0]) <= set("-")]


@pytest.mark.parametrize("row", catalogue(), ids=lambda row: row[0])
def test_catalogue(row: list[str]) -> None:
    _, names, example, tests = row
    if names == "not yet":
        assert not example
        assert not tests
        return
    for name in names.strip("`").split("`, `"):
        functools.reduce(getattr, name.split("."), pgnn)
    assert not example or (ROOT / example.strip("`")).exists(), example
    assert (ROOT / tests.strip("`")).exists(), tests
