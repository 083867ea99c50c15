"""Reads the source of the package: which room imports which, what loads when, size, docstrings.

Every rule is a function from a file's path and source to a list of complaints, so that each can
be shown to complain about a bad snippet.
"""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import NamedTuple

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
LAZY_PACKAGES = ("pgnn", "pgnn.factors", "pgnn.inference", "pgnn.io", "pgnn.models")
TYPE_GUARDS = ("TYPE_CHECKING", "typing.TYPE_CHECKING")

_BELOW = {"errors", "limits", "held_interrupts", "graphs", "factors", "evidence", "abilities"}
_CORE = _BELOW | {"tape", "neural", "models", "programs", "inference"}
# What each room (a folder or a module directly in pgnn/) may import, itself always included.
ALLOWED = {
    "errors": set(),
    "limits": {"errors"},
    "held_interrupts": set(),
    "tape": set(),
    "graphs": {"errors"},
    "factors": {"errors", "limits"},
    "abilities": {"errors", "factors"},
    "evidence": {"errors", "factors"},
    "neural": {"errors", "limits", "factors"},
    "models": _BELOW | {"neural"},
    "programs": _BELOW | {"tape", "models"},
    "inference": _BELOW | {"tape"},
    "metrics": _CORE,
    "divergences": _CORE,
    "estimators": _CORE | {"metrics"},
    "io": _CORE,
    "sensitivity": _CORE,
    "plot": _CORE | {"sensitivity"},
    "explorer": _CORE | {"io", "sensitivity"},
    "cli": _CORE | {"metrics", "io", "plot", "explorer", "__init__"},
    "__main__": {"cli"},
    "__init__": _CORE | {"metrics", "divergences", "io", "plot", "sensitivity"},
}
# What each room of inference may import of the others; the shared files, which lie in inference
# itself (""), stand below them all.
SHELVES: dict[str, set[str]] = {
    "": {"kernels"},
    "kernels": set(),
    "exact": {"kernels"},
    "propagation": {"kernels", "exact"},
    "mean_field": {"kernels", "exact"},
    "sampling": {"kernels", "exact", "mean_field"},
    "search": {"kernels", "exact", "sampling"},
    "chains": {"kernels"},
    "trees": set(),
    "particles": {"kernels"},
    "time": {"kernels", "exact", "chains", "particles"},
    "learning": {"kernels", "exact", "chains", "time"},
    "continuous": {"kernels", "exact", "learning", "mean_field"},
}
# Files that reach for rooms above them: who chooses among engines, and whose parts know of them.
# "*" is the package itself, which loads each engine when it is used.
CHOOSING = {
    "inference/automatic.py": {"exact", "*"},
    "inference/automatic_units.py": {"exact", "sampling"},
}
# Upward edges that exist for type checkers only: what verbs read and answer, in signatures.
TYPES = {
    "abilities": {"evidence", "inference"},
    "models": {"inference", "programs"},
    "programs": {"inference"},
}
# Upward edges that exist when a method is called, not when imported.
DEFERRED = {
    "models/model.py": {"inference", "io", "programs"},
    "models/learning_verbs.py": {"inference"},
    "neural/structured_attention.py": {"inference"},
    "neural/attention.py": {"inference"},
    # models over time have verbs that other models do not have
    "models/sequence_model.py": {"inference"},
    "models/repeated_slice.py": {"programs"},
    "models/hidden_markov_model.py": {"inference"},
    "models/conditional_random_field.py": {"inference"},
    "models/semi_markov_field.py": {"inference"},
    "models/autoregressive_model.py": {"inference"},
    "models/ctc.py": {"inference"},
    "models/naive_bayes.py": {"inference"},
    "models/scores/attribute_scores.py": {"inference"},
    "models/scores/history_scores.py": {"inference"},
    "models/amortised_network.py": {"inference"},
    "models/autoencoder.py": {"inference"},
    "models/vae.py": {"inference"},
    "models/stacked_autoencoder.py": {"inference"},
    "models/vector_quantised_autoencoder.py": {"inference"},
    "models/mixture.py": {"inference"},
    "models/model_mixture.py": {"inference"},
    "models/sequence_mixture.py": {"inference"},
    "models/chow_liu_tree.py": {"inference"},
    "models/latent_factors.py": {"inference"},
    "models/regression.py": {"inference"},
    "models/sparse_coding.py": {"inference"},
    "models/gaussian_markov_field.py": {"inference"},
    "models/bayesian_regression.py": {"inference"},
    "models/dynamic_bayesian_network.py": {"inference"},
    "models/linear_dynamical_system.py": {"inference"},
    "models/energy_model.py": {"inference"},
    "models/deep_boltzmann_machine.py": {"inference"},
    "models/deep_belief_network.py": {"inference"},
    "models/layered_belief_network.py": {"inference"},
    "models/hopfield.py": {"inference"},
    "models/adversarial_family.py": {"inference"},
    "programs/program.py": {"inference"},
    "programs/program_verbs.py": {"inference"},
    "inference/history.py": {"plot"},
    "inference/posterior.py": {"plot"},
}
# Libraries kept to some rooms (ends with "/") or files.
FENCES = {
    "networkx": ("graphs/", "models/", "programs/", "neural/graph_network.py"),
    "pyro": ("programs/",),
    "pgmpy": ("io/pgmpy.py",),
}
# Libraries that no module loads when it is imported, but for the files named.
LAZY: dict[str, tuple[str, ...]] = {
    "cloudpickle": (),
    "dask": (),
    "matplotlib": (),
    "narwhals": (),
    "numba": ("kernels/",),
    "pandas": (),
    "pgmpy": (),
    # what is about programs is itself imported late
    "pyro": (
        "programs/graph_program.py",
        "programs/guide.py",
        "programs/handlers.py",
        "programs/sequence_program.py",
        "programs/source.py",
    ),
    "safetensors": (),
    "scipy": (),
    "sklearn": (
        "estimators/__init__.py",
        "estimators/classifier.py",
        "estimators/declared_model.py",
        "estimators/sequence_tagger.py",
        "estimators/unit_features.py",
    ),
}


# An expression that is a model: a name or an attribute that ends so.
IS_MODEL = re.compile(r"(^|[._])(model|network|field)$")


class Import(NamedTuple):
    """One imported module; ``when`` it happens: at "load", in a "call", or only for "types"."""

    line: int
    module: str
    when: str


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


@cache
def imports(path: str, source: str) -> tuple[Import, ...]:
    return tuple(_imports(parsed(source).body, path, "load"))


def _imports(nodes: list[ast.AST], path: str, when: str) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) in TYPE_GUARDS:
            yield from _imports(node.body, path, "types" if when == "load" else when)
            yield from _imports(node.orelse, path, when)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(list(ast.iter_child_nodes(node)), path, "call")
        else:
            for module in _modules(node, path):
                yield Import(node.lineno, module, when)
            yield from _imports(list(ast.iter_child_nodes(node)), path, when)


def _modules(node: ast.AST, path: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        folders = ["pgnn", *PurePosixPath(path).parts[:-1]]
        base = folders[: len(folders) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        if module != "pgnn":
            return [module]
        # `from pgnn import graphs` imports a room, `from pgnn import Variable` the whole package
        return [f"pgnn.{a.name}" if a.name in ALLOWED else "pgnn" for a in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
        ("import_module", "__import__")
    ):
        return [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
    return []


def room_of_file(path: str) -> str:
    first = PurePosixPath(path).parts[0]
    return first.removesuffix(".py")


def room_of_module(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def is_inside(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or (place[-1] == "/" and place in path) for place in places)


def wrong_rooms(path: str, source: str) -> list[str]:
    room = room_of_file(path)
    if room not in ALLOWED:
        return [f"{path}: the design has no room {room!r}"]
    complaints = []
    for line, module, when in imports(path, source):
        if module != "pgnn" and not module.startswith("pgnn."):
            continue
        target = room_of_module(module)
        allowed = ALLOWED[room] | {room}
        allowed |= TYPES.get(room, set()) if when == "types" else set()
        allowed |= DEFERRED.get(path, set()) if when == "call" else set()
        if target not in allowed:
            complaints.append(f"{path}:{line}: {room} must not import {module}")
    return complaints


def shelf_of(parts: tuple[str, ...]) -> str:
    return parts[1] if len(parts) > 1 and parts[1] in SHELVES else ""


def shelf_of_module(module: str) -> str:
    return "*" if module == "pgnn.inference" else shelf_of(tuple(module.split(".")[1:]))


def wrong_shelves(path: str, source: str) -> list[str]:
    parts = PurePosixPath(path).parts
    if parts[0] != "inference":
        return []
    if "kernels" in parts:
        allowed = {"kernels", shelf_of(parts)}
    else:
        allowed = SHELVES[shelf_of(parts)] | {"", shelf_of(parts)} | CHOOSING.get(path, set())
    return [
        f"{path}:{line}: {shelf_of(parts) or 'a shared file'} must not import {module}"
        for line, module, when in imports(path, source)
        if f"{module}.".startswith("pgnn.inference.") and when != "types"
        if shelf_of_module(module) not in allowed
    ]


def broken_fences(path: str, source: str) -> list[str]:
    return [
        f"{path}:{line}: {module} is for {', '.join(FENCES[library])} only"
        for line, module, _ in imports(path, source)
        if (library := module.split(".")[0]) in FENCES and not is_inside(path, FENCES[library])
    ]


def eager_imports(path: str, source: str) -> list[str]:
    return [
        f"{path}:{line}: import {module} inside the function that uses it"
        for line, module, when in imports(path, source)
        if when == "load"
        and (library := module.split(".")[0]) in LAZY
        and not is_inside(path, LAZY[library])
    ]


def too_long(path: str, source: str) -> list[str]:
    lines = len(source.splitlines())
    return [f"{path}: {lines} lines; split it by idea"] if lines > MAX_LINES else []


def undocumented(path: str, source: str) -> list[str]:
    tree = parsed(source)
    own = [] if ast.get_docstring(tree) else [f"{path}: the module has no docstring"]
    return own + list(_undocumented(tree, path, ""))


def _undocumented(parent: ast.Module | ast.ClassDef, path: str, prefix: str) -> Iterator[str]:
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        decorators = [ast.unparse(d).split(".")[-1] for d in node.decorator_list]
        if node.name.startswith("_") or {"overload", "override", "setter"} & set(decorators):
            continue
        if not ast.get_docstring(node):
            yield f"{path}:{node.lineno}: {prefix}{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node, path, f"{node.name}.")


def asks_for_attributes(path: str, source: str) -> list[str]:
    """Engines, learners, files, metrics and plots ask a model for abilities, never by attribute."""
    if room_of_file(path) not in ("inference", "models", "io", "metrics", "plot"):
        return []
    return [
        f"{path}:{node.lineno}: ask isinstance(model, an ability of pgnn.abilities) instead of "
        f"{ast.unparse(node)}"
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("hasattr", "getattr")
        and IS_MODEL.search(ast.unparse(node.args[0]))
    ]


def private_protocols(path: str, source: str) -> list[str]:
    """What a model looks like is said once, in pgnn.abilities."""
    return [
        f"{path}:{node.lineno}: {node.name} belongs to pgnn/abilities"
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.ClassDef)
        and "Protocol" in [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
        and any(
            isinstance(part, ast.FunctionDef) and part.name in ("variables", "factors", "unroll")
            for part in node.body
        )
    ]


RULES = [
    wrong_rooms,
    wrong_shelves,
    broken_fences,
    eager_imports,
    too_long,
    undocumented,
    asks_for_attributes,
    private_protocols,
]


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    package = ROOT / "pgnn"
    found = {
        file.relative_to(package).as_posix(): file.read_text(encoding="utf-8")
        for file in sorted(package.rglob("*.py"))
    }
    assert "errors.py" in found
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_package(rule, sources):
    complaints = [c for path, source in sources.items() for c in rule(path, source)]
    assert not complaints, "\n" + "\n".join(complaints)


def circles(sources: dict[str, str]) -> list[list[str]]:
    """Files that import each other in a circle, whenever it happens, but for type checkers."""
    modules = {module_of(path): path for path in sources}
    graph = nx.DiGraph()
    for path, source in sources.items():
        for _, module, when in imports(path, source):
            target = module if module in modules else module.rpartition(".")[0]
            if target in modules and when != "types":
                graph.add_edge(path, modules[target])
    return sorted(sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1)


def module_of(path: str) -> str:
    parts = PurePosixPath("pgnn", path).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def test_no_file_imports_itself_through_others(sources):
    assert circles(sources) == []


def test_circles_are_found():
    files = {
        "a.py": "from pgnn.b import x\nfrom pgnn.c import x",
        "b.py": "def f():\n    from pgnn.d.e import x",
        "c.py": "if TYPE_CHECKING:\n    import pgnn.a",
        "d/__init__.py": "",
        "d/e.py": "import pgnn.a",
    }
    assert circles(files) == [["a.py", "b.py", "d/e.py"]]
    assert circles(files | {"b.py": ""}) == []


def unused_licences(sources: dict[str, str]) -> list[str]:
    """Exceptions to the order that no file makes use of (any more)."""
    upward, shelves, libraries = set(), set(), set()
    for path, source in sources.items():
        for _, module, when in imports(path, source):
            library = module.split(".")[0]
            libraries.add((library, path, when))
            if library == "pgnn":
                upward.add((path if when == "call" else room_of_file(path), room_of_module(module)))
            if f"{module}.".startswith("pgnn.inference.") and when != "types":
                shelves.add((path, shelf_of_module(module)))

    def is_used(library: str, place: str, moments: tuple[str, ...]) -> bool:
        return any(
            name == library and when in moments and is_inside(path, (place,))
            for name, path, when in libraries
        )

    always = ("load", "call", "types")
    return [
        *(f"TYPES: {a} -> {b}" for a in TYPES for b in TYPES[a] if (a, b) not in upward),
        *(f"DEFERRED: {a} -> {b}" for a in DEFERRED for b in DEFERRED[a] if (a, b) not in upward),
        *(f"CHOOSING: {a} -> {b}" for a in CHOOSING for b in CHOOSING[a] if (a, b) not in shelves),
        *(f"FENCES: {a}: {b}" for a in FENCES for b in FENCES[a] if not is_used(a, b, always)),
        *(f"LAZY: {a}: {b}" for a in LAZY for b in LAZY[a] if not is_used(a, b, ("load",))),
    ]


def test_every_licence_is_used(sources):
    assert unused_licences(sources) == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("inference/history.py", "", "DEFERRED: inference/history.py -> plot"),
        ("inference/history.py", "import pgnn.plot", "DEFERRED: inference/history.py -> plot"),
        ("inference/automatic.py", "", "CHOOSING: inference/automatic.py -> exact"),
        ("abilities/over_time.py", "", "TYPES: abilities -> evidence"),
        ("io/pgmpy.py", "", "FENCES: pgmpy: io/pgmpy.py"),
        ("programs/guide.py", "def f():\n    import pyro", "LAZY: pyro: programs/guide.py"),
    ],
)
def test_unused_licences_are_found(path, source, complaint, sources):
    assert complaint in unused_licences(sources | {path: source})


def heavy_modules_after(statement: str) -> list[str]:
    """What a fresh interpreter has loaded of the lazy libraries after one statement."""
    code = f"import sys; {statement}; print(*[m for m in {sorted(LAZY)} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_import_loads_nothing_heavy():
    assert heavy_modules_after("import scipy") == ["scipy"]
    assert heavy_modules_after("from pgnn import *") == []


@pytest.mark.parametrize("name", [*LAZY_PACKAGES, "pgnn.cli"])
def test_packages_load_names_when_they_are_used(name):
    code = f"import sys, {name}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", LAZY_PACKAGES)
def test_names_of_packages_are_those_of_their_stubs(name):
    package = importlib.import_module(name)
    file = Path(package.__file__).with_suffix(".pyi")
    (stub,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
    )
    assert {*stub} == {*dir(package)} >= {*package.__all__}
    assert len(stub) == len({*stub})
    for public in stub:
        # a file of the name would hide a function or class once it is imported
        thing = getattr(package, public)
        is_file = (file.parent / f"{public}.py").exists() or (file.parent / public).is_dir()
        assert isinstance(thing, ModuleType) == is_file, public


GOOD = [
    ("graphs/a.py", "import networkx as nx\nfrom pgnn.errors import ModelError"),
    ("graphs/a.py", "from pgnn.graphs.b import c\nfrom . import b\nfrom ..errors import closest"),
    ("inference/exact/plan.py", "from pgnn.factors.factor import Factor\nimport torch"),
    ("inference/exact/kernels/sweep.py", "import numba\nfrom numba import njit"),
    ("inference/a.py", "def f():\n    import scipy.sparse"),
    ("inference/a.py", "class A:\n    def f(self):\n        from pandas import DataFrame"),
    ("inference/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
    (
        "models/model.py",
        "def f():\n    from pgnn.inference.exact.junction_tree import JunctionTree",
    ),
    ("models/a.py", "if TYPE_CHECKING:\n    from pgnn.inference.posterior import Posterior"),
    ("inference/exact/plan.py", "from pgnn.inference.exact.kernels import ordering"),
    ("inference/learning/gradient.py", "from pgnn.inference.chains.chain import Chain"),
    ("inference/automatic.py", "from pgnn import inference as engines"),
    ("io/pgmpy.py", "def f():\n    import pgmpy.models\n    from pgnn.models import Model"),
    ("cli.py", "import pgnn\nfrom pgnn import read"),
    ("__init__.py", "from pgnn.io import read"),
]


@pytest.mark.parametrize(("path", "source"), GOOD)
def test_good_imports_pass(path, source):
    assert [c for rule in RULES[:4] for c in rule(path, source)] == []


BAD = [
    (wrong_rooms, "errors.py", "from pgnn.graphs import moral_graph"),
    (wrong_rooms, "graphs/a.py", "import pgnn.factors.factor"),
    (wrong_rooms, "graphs/a.py", "def f():\n    from pgnn.factors import factor"),
    (wrong_rooms, "graphs/a.py", "from ..factors import factor"),
    (wrong_rooms, "graphs/a.py", "from .. import factors"),
    (wrong_rooms, "graphs/a.py", "from pgnn import factors"),
    (wrong_rooms, "factors/a.py", "from pgnn.models.model import Model"),
    (wrong_rooms, "factors/a.py", "from pgnn import Variable"),
    (wrong_rooms, "factors/a.py", "importlib.import_module('pgnn.models')"),
    (wrong_rooms, "inference/a.py", "from pgnn.models.bayesian_network import BayesianNetwork"),
    (wrong_rooms, "inference/a.py", "def f():\n    import pgnn.models.bayesian_network"),
    (wrong_rooms, "inference/a.py", "if TYPE_CHECKING:\n    from pgnn.models import Model"),
    (wrong_rooms, "models/model.py", "from pgnn.inference.exact.junction_tree import JunctionTree"),
    (wrong_rooms, "models/a.py", "def f():\n    from pgnn.inference import posterior"),
    (wrong_rooms, "factors/a.py", "from pgnn.graphs import moral_graph"),
    (wrong_rooms, "abilities/core.py", "from pgnn.evidence.sequence_evidence import Sequences"),
    (wrong_rooms, "evidence/frames.py", "from pgnn.inference import posterior"),
    (wrong_rooms, "graphs/a.py", "from pgnn.evidence import Table"),
    (wrong_rooms, "factors/a.py", "from pgnn.evidence.frames import is_frame"),
    (wrong_rooms, "evidence/a.py", "from pgnn.models import Model"),
    (wrong_rooms, "utils/a.py", ""),
    (wrong_shelves, "inference/a.py", "from pgnn.inference.exact.plan import Plan"),
    (wrong_shelves, "inference/chains/kernels/a.py", "from pgnn.inference.exact.kernels import b"),
    (wrong_shelves, "inference/exact/a.py", "from pgnn.inference.sampling import gibbs"),
    (wrong_shelves, "inference/exact/a.py", "from pgnn import inference"),
    (wrong_shelves, "inference/chains/a.py", "def f():\n    import pgnn.inference.time.unrolling"),
    (broken_fences, "inference/a.py", "import networkx"),
    (broken_fences, "io/bif.py", "def f():\n    import networkx as nx"),
    (broken_fences, "models/bayesian_network.py", "def f():\n    import pyro.distributions"),
    (broken_fences, "inference/a.py", "if TYPE_CHECKING:\n    from pyro import poutine"),
    (broken_fences, "io/bif.py", "def f():\n    from pgmpy.models import BayesianModel"),
    (eager_imports, "inference/a.py", "import pandas as pd"),
    (eager_imports, "evidence/frames.py", "import narwhals as nw"),
    (eager_imports, "inference/a.py", "class A:\n    from scipy import sparse"),
    (eager_imports, "inference/a.py", "try:\n    import numba\nexcept ImportError:\n    pass"),
    (eager_imports, "inference/a.py", "if not TYPE_CHECKING:\n    import numba"),
    (eager_imports, "plot/a.py", "import matplotlib.pyplot as plt"),
    (eager_imports, "io/pgmpy.py", "from pgmpy import models"),
    (eager_imports, "programs/program.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import pyro"),
    (eager_imports, "io/checkpoint.py", "from safetensors.torch import save_file"),
    (eager_imports, "metrics.py", "sk = __import__('sklearn')"),
    (asks_for_attributes, "inference/time/a.py", "if hasattr(model, 'chain'): ..."),
    (asks_for_attributes, "inference/learning/a.py", "x = getattr(self._model, 'order', ())"),
    (asks_for_attributes, "io/checkpoint.py", "f(lambda: hasattr(asked.model, 'durations'))"),
    (asks_for_attributes, "metrics.py", "getattr(network, 'conditionals', {})"),
    (
        private_protocols,
        "inference/a.py",
        "class Sliced(Protocol):\n    def variables(self): ...",
    ),
    (
        private_protocols,
        "inference/a.py",
        "class Sliced(typing.Protocol[T]):\n    def unroll(self): ...",
    ),
    (too_long, "graphs/a.py", "x = 1\n" * (MAX_LINES + 1)),
    (undocumented, "graphs/a.py", "x = 1"),
    (undocumented, "graphs/a.py", '"""Doc."""\ndef public(): ...'),
    (undocumented, "graphs/a.py", '"""Doc."""\nclass Public:\n    x = 1'),
    (undocumented, "graphs/a.py", '"""Doc."""\nclass Public:\n    """D."""\n    def f(self): ...'),
]


@pytest.mark.parametrize(("rule", "path", "source"), BAD)
def test_bad_snippets_are_caught(rule, path, source):
    assert len(rule(path, source)) == 1


def test_private_and_generated_names_need_no_docstring():
    source = """'Doc.'
def _f(): ...
class _C:
    def g(self): ...
class D:
    'Doc.'
    def __len__(self): ...
    @x.setter
    def x(self, value): ...
"""
    assert undocumented("graphs/a.py", source) == []
