"""The command ``pgnn``: ask a network file questions without writing Python.

Exit codes: 0 when the question was answered, 1 when it could not be (one line on standard error
says why), 2 when the command itself was written wrongly, 130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

EXAMPLES = """\
examples:
  pgnn demo
  pgnn info alarm.bif
  pgnn query asia.bif -e smoke=yes -e xray=yes -t lung
  pgnn query grid.uai --evidence-file grid.uai.evid --json
  pgnn explore alarm.bif
  pgnn impute alarm.bif patients.csv --draws 5 --seed 0 --to completed.csv
"""


INTERRUPTED = 130
"""What shells report of a command that Ctrl-C ended: 128 and the number of the signal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after ``pgnn``; those of the process by default.

    Returns:
        The exit code: 0 answered, 1 not answered, 130 interrupted.

    Raises:
        SystemExit: With code 2, if the words are no valid command; with 0 after ``--help``.
    """
    options = _parser().parse_args(arguments)
    from pgnn.errors import PgnnError

    messages = _Messages()
    logging.getLogger("pgnn").addHandler(messages)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (PgnnError, OSError, UnicodeError, MemoryError) as error:
        _complain(_describe(error))
        return 1
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    finally:
        logging.getLogger("pgnn").removeHandler(messages)
    return 0


class _Messages(logging.Handler):
    """Shows what the library logs as the command's other messages."""

    def emit(self, record: logging.LogRecord) -> None:
        _complain(record.getMessage())


def _complain(message: object) -> None:
    print("pgnn:", " ".join(str(message).split()), file=sys.stderr)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _complain(f"warning: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgnn",
        description="Exact answers from a Bayesian or Markov network in a file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    query = commands.add_parser("query", help="posterior probabilities given evidence")
    query.set_defaults(run=_query)
    _add_file(query)
    query.add_argument(
        "-e",
        "--evidence",
        action="append",
        default=[],
        type=_finding,
        metavar="NAME=STATE",
        help="a variable observed in a state; may be repeated",
    )
    query.add_argument("--evidence-file", metavar="EVID", help="evidence in UAI format")
    query.add_argument(
        "--sample", type=int, metavar="N", help="which sample of the evidence file, from 0"
    )
    query.add_argument(
        "-t",
        "--target",
        action="append",
        default=[],
        metavar="NAME",
        help="a variable to ask for; may be repeated (default: all that were not observed)",
    )
    query.add_argument("--mpe", action="store_true", help="most probable explanation too")

    info = commands.add_parser("info", help="size of a network and cost of exact answers")
    info.set_defaults(run=_info)
    _add_file(info)

    impute = commands.add_parser("impute", help="complete a table with holes")
    impute.set_defaults(run=_impute)
    impute.add_argument(
        "file",
        metavar="MODEL",
        help="a network, .bif, .bif.gz or .uai; or a model that was saved as .safetensors",
    )
    impute.add_argument("table", metavar="CSV", help="rows with empty cells; - is standard input")
    impute.add_argument("--to", metavar="CSV", help="where to write (default: standard output)")
    impute.add_argument(
        "--draws", type=int, metavar="N", help="draw so many tables, told apart by a column draw"
    )
    impute.add_argument("--seed", type=int, metavar="N", help="of the draws")
    impute.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column that is no variable and stays as it is; may be repeated",
    )

    explore = commands.add_parser("explore", help="ask a network by clicks, in a browser")
    explore.set_defaults(run=_explore)
    explore.add_argument(
        "file", metavar="FILE", help=".bif, .bif.gz, .uai or .safetensors; - is standard input"
    )
    explore.add_argument("--port", type=int, default=0, metavar="N", help="port (default: any)")
    explore.add_argument("--no-browser", action="store_true", help="print the address only")

    demo = commands.add_parser("demo", help="a tour of the Asia network that pgnn carries")
    demo.set_defaults(run=_demo)
    return parser


class _Version(argparse.Action):
    """Prints the version; the library is loaded for that alone."""

    def __init__(self, option_strings: Sequence[str], dest: str, **rest: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **rest)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import pgnn

        print(f"pgnn {pgnn.__version__}")
        parser.exit()


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=".bif, .bif.gz or .uai; - is standard input")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _finding(text: str) -> str:
    if "=" not in text.strip("="):
        raise argparse.ArgumentTypeError(f"expected NAME=STATE, got {text!r}")
    return text


def _query(options: argparse.Namespace) -> None:
    model = _read(options.file)
    evidence = _evidence(model, options)
    targets = [_lookup(name, model.variables, "variable") for name in options.target]
    unobserved = [name for name in model.variables if name not in evidence]
    posterior = model.query(targets or unobserved or None, evidence)
    mode = model.most_probable(evidence) if options.mpe else None
    if options.json:
        print(json.dumps(_answer(model, evidence, posterior, mode), indent=2))
        return
    print(posterior.table())
    print(f"log evidence {float(posterior.log_evidence):z.6f} ({posterior.kind})")
    if mode is not None:
        print(f"\n{mode}")


def _info(options: argparse.Namespace) -> None:
    model = _read(options.file)
    facts = _facts(model)
    explanation = model.explain()
    if options.json:
        print(json.dumps({**facts, "plan": dataclasses.asdict(explanation)}, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<{width}}  {value:,}")
    print(f"\nall posteriors without evidence\n{explanation}")


def _impute(options: argparse.Namespace) -> None:
    import pgnn

    saved = options.file.endswith(".safetensors")
    model = pgnn.load(options.file) if saved else _read(options.file)
    table = sys.stdin if options.table == "-" else options.table
    target = sys.stdout if options.to is None else options.to
    model.impute(
        table, draws=options.draws, to=target, ignore=options.ignore, seed=options.seed
    )  # fmt: skip


def _explore(options: argparse.Namespace) -> None:
    from pathlib import Path

    import pgnn
    from pgnn.explorer.server import explore

    saved = options.file.endswith(".safetensors")
    model = pgnn.load(options.file) if saved else _read(options.file)
    name = Path(options.file).name.split(".")[0]
    explore(model, name=name, port=options.port, browser=not options.no_browser)


def _demo(options: argparse.Namespace) -> None:
    from importlib import resources

    with resources.as_file(resources.files("pgnn") / "networks" / "asia.bif") as path:
        model = _read(str(path))
    evidence = {"smoke": "yes", "xray": "yes"}
    print("The Asia network (Lauritzen and Spiegelhalter, 1988): what does a smoker have whose")
    print("X-ray shows something?\n")
    print(">>> model.query(evidence={'smoke': 'yes', 'xray': 'yes'})")
    print(model.query(evidence=evidence))
    print("\n>>> model.most_probable({'smoke': 'yes', 'xray': 'yes'})")
    print(model.most_probable(evidence))
    print("\n>>> model.explain(evidence={'smoke': 'yes', 'xray': 'yes'})")
    print(model.explain(evidence=evidence))


def _read(path: str) -> Any:
    import pgnn

    if path != "-":
        return pgnn.read(path)
    if sys.stdin is None:
        raise pgnn.DataError("standard input is closed, got None; name a file instead")
    return pgnn.read(sys.stdin.buffer)


def _evidence(model: Any, options: argparse.Namespace) -> dict[Any, Any]:
    """Turn a UAI evidence file and findings as typed into evidence for ``model``."""
    from pgnn.errors import EvidenceError

    evidence = {}
    if options.evidence_file is not None:
        evidence = _numbered_evidence(model, options.evidence_file, options.sample)
    for text in options.evidence:
        name, state = _split(text, {str(name) for name in model.variables})
        known = _lookup(name, model.variables, "variable")
        label = _lookup(state, model.variables[known].states, f"state of {name!r}")
        if evidence.setdefault(known, label) != label:
            raise EvidenceError(
                f"{name!r} was observed as {str(evidence[known])!r} and as {state!r}"
            )
    return evidence


def _numbered_evidence(model: Any, path: str, sample: int | None) -> dict[Any, Any]:
    from pgnn.errors import EvidenceError
    from pgnn.io.uai import numbering
    from pgnn.io.uai_evidence import read_evidence

    names = {number: name for name, number in numbering(model).items()}
    evidence = {}
    for number, state in read_evidence(path, sample).items():
        if number not in names:
            raise EvidenceError(f"{path}: variable {number} of {len(names)}, numbered from 0")
        labels = model.variables[names[number]].states
        if state >= len(labels):
            raise EvidenceError(f"{path}: state {state} of variable {number} with {len(labels)}")
        evidence[names[number]] = labels[state]
    return evidence


def _split(text: str, names: set[str]) -> tuple[str, str]:
    """Split ``NAME=STATE`` where NAME is a variable, for names and states may contain ``=``."""
    cuts = [k for k, letter in enumerate(text) if letter == "=" and text[:k] in names]
    cut = cuts[0] if cuts else text.index("=", 1)
    return text[:cut], text[cut + 1 :]


def _lookup(text: str, known: Iterable[Any], kind: str) -> Any:
    """Return the one of ``known`` that is written ``text``: 3, say, for ``"3"``."""
    from pgnn.errors import EvidenceError, closest

    known = list(known)
    for candidate in known:
        if str(candidate) == text:
            return candidate
    raise EvidenceError(f"unknown {kind} {text!r}{closest(text, known)}")


def _answer(model: Any, evidence: Mapping[Any, Any], posterior: Any, mode: Any) -> dict[str, Any]:
    """Everything that ``pgnn query`` found out, in types that JSON has."""
    log_evidence = float(posterior.log_evidence)
    answer: dict[str, Any] = {
        "kind": posterior.kind,
        "engine": posterior.engine,
        "log_evidence": log_evidence if math.isfinite(log_evidence) else None,
        "diagnostics": _json_values(posterior.diagnostics),
        "evidence": {str(name): str(state) for name, state in evidence.items()},
        "posterior": {
            str(name): {
                str(label): float(probability)
                for label, probability in zip(
                    model.variables[name].states, posterior[name].probs, strict=True
                )
            }
            for name in posterior
        },
    }
    if mode is not None:
        bound = None if mode.upper_bound is None else float(mode.upper_bound)
        answer["most_probable"] = {
            "engine": mode.engine,
            "log_prob": float(mode.log_prob),
            "upper_bound": bound,
            "proved": bound is not None and bound - float(mode.log_prob) < 1e-9,
            "states": {str(name): str(state) for name, state in mode.items()},
        }
    return answer


def _num_arcs(model: Any) -> int:
    """Edges from parents to children; of other models, pairs of variables that share a factor."""
    from pgnn.abilities import DirectedModel
    from pgnn.graphs.interaction import interaction_graph

    if isinstance(model, DirectedModel):
        return sum(len(c.parents) for c in model.conditionals.values())
    scopes = (scope for g in model.factor_groups() for scope in g.scopes.tolist())
    return int(interaction_graph(scopes).number_of_edges())


def _json_values(diagnostics: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can hold of what an engine has to say: text, truth values and finite numbers."""
    kept = {}
    for name, value in diagnostics.items():
        one = value
        if not isinstance(value, str | bool | int | float):
            try:
                (one,) = np.asarray(value).reshape(-1).tolist()
            except (TypeError, ValueError, RuntimeError):  # several numbers, or none
                continue
        if isinstance(one, str | bool | int) or (isinstance(one, float) and math.isfinite(one)):
            kept[str(name)] = one
    return kept


def _facts(model: Any) -> dict[str, int]:
    states = [variable.num_states for variable in model.variables.values()]
    return {
        "nodes": len(states),
        "arcs": _num_arcs(model),
        "states": sum(states),
        "most_states": max(states, default=0),
        "free_parameters": model.num_free_parameters,
    }


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
