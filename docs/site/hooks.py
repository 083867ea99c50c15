"""What MkDocs does beyond its settings: notebooks, pages of the reference, docstrings' markup."""

from __future__ import annotations

import base64
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient

import pgnn

sys.path.insert(0, str(Path(__file__).parent))
from figures import draws, figures, with_figures

FAMILIES = {
    "Fields and energy-based models": "boltzmann deep_b dense_hop energy gaussian_markov "
    "graph_random hopfield markov_random restricted",
    "Sequences": "bio conditional_random ctc dynamic hidden language linear_dynamical scores "
    "semi_markov sequence",
    "Generative models": "auto bidirectional cycle gan laplacian sparse stacked vae vector",
}
"""Pages of the reference of models, by the beginnings of the names of their files."""
ROOMS = {
    **{
        title: tuple(f"pgnn.models.{name}" for name in names.split())
        for title, names in FAMILIES.items()
    },
    "Models": ("pgnn.models", "pgnn.programs"),
    "Conditionals": ("pgnn.factors.conditionals",),
    "Potentials": ("pgnn.factors.potentials",),
    "Variables and factors": ("pgnn.factors",),
    "Evidence": ("pgnn.evidence",),
    "Learners": ("pgnn.inference.learning", "pgnn.inference.learner"),
    "Exact engines": ("pgnn.inference.exact",),
    "Engines for sequences": ("pgnn.inference.time",),
    "Continuous variables: MCMC and variational inference": ("pgnn.inference.continuous",),
    "Approximate engines": tuple(
        f"pgnn.inference.{room}"
        for room in ["mean_field", "particles", "propagation", "sampling", "search"]
    ),
    "Answers and base classes of engines": ("pgnn.inference",),
    "Files": ("pgnn.io",),
    "Errors": ("pgnn.errors",),
}
"""Pages of the reference, by the rooms that names come from; the first that fits."""
ROOMS_AS_A_WHOLE = (
    *[name for name in pgnn.__all__ if inspect.ismodule(getattr(pgnn, name))],
    "graphs",
    "estimators",
    "explorer",
)
"""Pages of the reference that have everything of a room."""
LINKED = ("catalogue.md", "which_engine.md")
"""Pages whose names in code lead to the reference."""
EXAMPLE = re.compile(r"`(?:examples/)?(\w+)\.py`")
"""Scripts that pages name."""
NAME = re.compile(r"`(\w+)`")
FIGURES: dict[str, dict[int, list[str]]] = {}
"""Files of the figures that snippets of pages draw, by page and number of the snippet."""
ROLE = re.compile(r":(?:class|meth|func|attr|mod|data|exc):`~?([^`]+)`")
MATH = re.compile(r":math:`([^`]+)`")
FORMULA = re.compile(r"^( *)\.\. math::(.*)$")
REPEATED = re.compile(r"(?:See|As) [^;]*\.$")
"""Docstrings of methods that say no more than those of a base class."""
HIDDEN = ("settings", "extra_repr", "default_engine", "default_learner")
"""Methods that users do not call."""
PROMPT = re.compile(r"^( *)>>> ")


def on_config(config: Any) -> Any:
    """Add pages that the navigation has not, those of the reference, and docstrings' markup."""
    listed = re.findall(r"[\w/]+\.md", str(config.nav))
    others = [p.name for p in sorted(Path(config.docs_dir).glob("*.md")) if p.name not in listed]
    if others:
        config.nav.append({"More": others})
    scripts = [{script.stem: f"examples/{script.stem}.md"} for script in examples(config)]
    config.nav.append({"Examples": scripts})
    names = sorted(reference(), key=lambda name: name != "models")  # models first
    config.nav.append({"Reference": [f"reference/{name}.md" for name in names]})
    config.markdown_extensions.append(DocstringMarkup())
    return config


def on_files(files: Files, config: Any) -> Files:
    """Write the pages of the reference, and of notebooks with what their cells show."""
    for name, text in reference().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    for script in examples(config):
        shown = f"# {script.stem}\n\n{fenced(script.read_text(encoding='utf-8'), 'python')}\n"
        files.append(File.generated(config, f"examples/{script.stem}.md", content=shown))
    for path in sorted(Path(config.docs_dir, "tutorials").glob("*.ipynb")):
        for name, content in notebook(path).items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    for path in sorted(Path(config.docs_dir).glob("*.md")):
        page = path.read_text(encoding="utf-8")
        for number, drawn in enumerate(figures(page) if draws(page) else []):
            for k, picture in enumerate(drawn):
                name = f"figures/{path.stem}-{number}-{k}.svg"
                files.append(File.generated(config, name, content=picture))
                FIGURES.setdefault(path.name, {}).setdefault(number, []).append(name)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Lead links to notebooks, names and scripts to their pages, and show what snippets draw."""
    if page.file.src_uri in LINKED:
        markdown = NAME.sub(lambda found: _link(found[1], found[1]) or found[0], markdown)
    if not page.file.src_uri.startswith(("examples/", "reference/")):
        page.meta.setdefault("search", {"boost": 2})  # guides before the reference
    if drawn := FIGURES.get(page.file.src_uri):
        markdown = with_figures(markdown, drawn)
    if "/" not in page.file.src_uri:
        scripts = {script.stem for script in examples(config)}
        markdown = EXAMPLE.sub(
            lambda found: (
                f"[{found[0]}](examples/{found[1]}.md)" if found[1] in scripts else found[0]
            ),
            markdown,
        )
    return re.sub(r"\]\((tutorials/\w+)\.ipynb\)", r"](\1.md)", markdown)


def notebook(path: Path) -> dict[str, str | bytes]:
    """Return the page of a notebook, which is run, and its pictures, by their files' names."""
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    document = nbformat.read(path, 4)
    NotebookClient(document, timeout=300, kernel_name="python3").execute()
    parts: list[str] = []
    files: dict[str, str | bytes] = {}
    for cell in document.cells:
        parts.append(cell.source if cell.cell_type == "markdown" else fenced(cell.source, "python"))
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                continue
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                picture = f"{path.stem}-{len(files) + 1}.png"
                files[picture] = base64.b64decode(data["image/png"])
                parts.append(f"![what the cell draws]({picture})")
            elif "text/html" in data:
                parts.append(f'<div class="output">\n{data["text/html"]}\n</div>')
            else:
                parts.append(fenced(data["text/plain"].rstrip(), "text"))
    parts.append(f"[This page as a notebook]({path.name})")
    return files | {f"{path.stem}.md": "\n\n".join(parts) + "\n"}


def examples(config: Any) -> list[Path]:
    """Return the scripts of examples."""
    return sorted(Path(config.docs_dir).parent.glob("examples/*.py"))


def fenced(text: str, language: str) -> str:
    """Return a block of code."""
    return f"```{language}\n{text}\n```"


def reference() -> dict[str, str]:
    """Return the pages of the reference by name: all public names of pgnn, each once."""
    left = [n for n in pgnn.__all__ if not inspect.ismodule(getattr(pgnn, n))]
    pages = {}
    for title, rooms in ROOMS.items():
        names = [n for n in left if getattr(pgnn, n).__module__.startswith(rooms)]
        left = [n for n in left if n not in names]
        entries = "\n\n".join(entry(name) for name in sorted(names))
        shared = f"{methods_of_models()}\n\n" if "pgnn.models" in rooms[0] else ""
        key = re.match(r"\w+", title)[0].lower()  # type: ignore[index]
        pages[key] = f"# {title}\n\n{shared}{entries}\n"
    if left:
        raise ValueError(f"no page of the reference has {left}")
    for room in ROOMS_AS_A_WHOLE:
        introduction = f"::: pgnn.{room}\n    options:\n      members: false\n"
        entries = "\n\n".join(f"::: {name}" for name in public_names(room))
        pages[room] = f"# pgnn.{room}\n\n{introduction}\n{entries}\n"
    return pages


def entry(name: str) -> str:
    """Return the entry of a public name, without methods that are described by a base class."""
    thing = getattr(pgnn, name)
    hidden = [*HIDDEN]
    if inspect.isclass(thing):
        members = {n: inspect.unwrap(m) for n, m in vars(thing).items() if inspect.isfunction(m)}
        hidden += [
            n for n, m in members.items() if REPEATED.match(inspect.cleandoc(m.__doc__ or ""))
        ]
        if issubclass(thing, pgnn.Engine) and thing is not pgnn.Engine:
            hidden += [n for n in members if hasattr(pgnn.Engine, n)]
    names = "|".join(sorted({n for n in hidden if n[0] != "_"}))
    return f'::: pgnn.{name}\n    options:\n      filters: ["!^_", "!^({names})$"]\n'


def methods_of_models() -> str:
    """Return a line with links to the methods that all models have."""
    names = [n for n, m in vars(pgnn.Model).items() if inspect.isfunction(m) and n[0] != "_"]
    shown = [n for n in names if n not in (*HIDDEN, "factors", "factor_groups", "num_free")]
    links = ", ".join(f"[`{n}`][pgnn.Model.{n}]" for n in shown)
    return (
        f"Every model has the methods of [`Model`][pgnn.Model]: {links}, `fit` and `partial_fit`."
    )


def public_names(room: str) -> list[str]:
    """Return the public names of a room; of a function that has the name of its file, with both."""
    package = importlib.import_module(f"pgnn.{room}")
    names = []
    for name in package.__all__:
        home = f"{package.__name__}.{name}"
        names.append(f"{home}.{name}" if home in sys.modules else home)
    return names


def on_post_build(config: Any) -> None:
    """Check that each public name has an entry in the reference.

    Raises:
        ValueError: If there is none, with the names.
    """
    folder = Path(config.site_dir, "reference")
    entries = set(
        re.findall(r'id="(pgnn[\w.]+)"', "".join(p.read_text() for p in folder.iterdir()))
    )
    names = [f"pgnn.{n}" for n in pgnn.__all__ if not inspect.ismodule(getattr(pgnn, n))]
    names += [name for room in ROOMS_AS_A_WHOLE for name in public_names(room)]
    if missing := [n for n in names if n not in entries]:
        raise ValueError(f"the reference has no entry of {missing}")


class DocstringMarkup(Extension):
    """Formulas and references to names, as docstrings have them for Sphinx; examples as code."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - the name that Markdown calls
        """Convert the lines after white space was normalised (30), before code is read (25)."""
        md.preprocessors.register(_Markup(md), "docstring_markup", 28)


class _Markup(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return [*self._converted(iter(lines))]

    def _converted(self, lines: Iterator[str]) -> Iterator[str]:
        line = next(lines, None)
        while line is not None:
            if block := FORMULA.match(line):
                rest, after = _indented(lines, block[1] + "    ")
                yield from ("", block[1] + self._math(" ".join([block[2], *rest]), "block"), "")
            elif block := PROMPT.match(line):
                rest, after = _indented(lines, block[1])
                yield from (f"{block[1]}```pycon", line, *rest, f"{block[1]}```", "")
            else:
                yield self._inline(line)
                after = next(lines, None)
            line = after

    def _inline(self, line: str) -> str:
        line = MATH.sub(lambda found: self._math(found[1], "inline"), line)
        return ROLE.sub(_role, line)

    def _math(self, formula: str, display: str) -> str:
        html = convert(formula.strip(), display=display)
        if display == "block":
            html = f'<div class="formula">{html}</div>'
        return str(self.md.htmlStash.store(html))


def _indented(lines: Iterator[str], indent: str) -> tuple[list[str], str | None]:
    """Lines that are indented so far and not blank, and the one after them."""
    block, line = [], next(lines, None)
    while line is not None and line.strip() and line.startswith(indent):
        block.append(line)
        line = next(lines, None)
    return block, line


def _role(role: re.Match[str]) -> str:
    """Return what a role refers to, as a link if it is public."""
    last = role[1].split(".")[-1]
    text = last if "~" in role[0] or "." not in role[1] else role[1]
    return _link(text, last) or f"`{text}`"


def _link(text: str, name: str) -> str | None:
    """Return a link to the entry of a public name of pgnn in the reference, if it has one."""
    return f"[`{text}`][pgnn.{name}]" if name in pgnn.__all__ else None
