"""Structures of models that are named on the command line instead of a file."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Collection, Iterable
from typing import Any

from pgnn.cli.arguments import CommandParser

OPTIONS = ("--edges", "--naive-bayes", "--chow-liu")


def add_structures(parser: CommandParser) -> None:
    """Add the options that stand in place of the file of a model."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--edges",
        type=edges_of,
        metavar="EDGES",
        help="in place of FILE: the edges of a Bayesian network, such as 'a>b, b>c'",
    )
    group.add_argument(
        "--naive-bayes",
        metavar="CLASS",
        help="in place of FILE: all other columns are features, independent given this one",
    )
    group.add_argument(
        "--chow-liu",
        action="store_true",
        help="in place of FILE: the maximum likelihood tree (Chow and Liu)",
    )
    parser.alternatives = OPTIONS
    parser.advice = (
        "; give the FILE of a model and a table, or a table and a structure: --naive-bayes CLASS, "
        "--chow-liu or --edges 'a>b, b>c'"
    )


def edges_of(text: str) -> list[tuple[str, str]]:
    """Return the edges that a text lists.

    Raises:
        ArgumentTypeError: If it does not list edges.

    Example:
        >>> edges_of("rain>wet, wet>slippery>fall")
        [('rain', 'wet'), ('wet', 'slippery'), ('slippery', 'fall')]
    """
    edges = []
    for part in text.split(","):
        names = [name.strip() for name in part.split(">")]
        if len(names) < 2 or not all(names):
            raise argparse.ArgumentTypeError(f"expected edges such as 'a>b, b>c', got {text!r}")
        edges += [*itertools.pairwise(names)]
    return edges


def has_structure(options: argparse.Namespace) -> bool:
    """Return whether a structure is named."""
    return bool(options.edges or options.naive_bayes or options.chow_liu)


def structured(options: argparse.Namespace, frame: Any) -> Any:
    """Return the model that the options name, over the columns of a table.

    Columns of numbers that are not all whole are real variables with normal distributions.

    Raises:
        DataError: If a variable is no column, or would be real where states are needed.
    """
    import pgnn

    columns = [name for name in frame.columns if name not in options.ignore]
    reals = {name for name in columns if _is_real(frame[name])}
    if options.naive_bayes:
        _check([options.naive_bayes], columns, "--naive-bayes")
        _check_states([options.naive_bayes], reals, "--naive-bayes: the class")
        features = {name: pgnn.Gaussian if name in reals else None for name in columns}
        del features[options.naive_bayes]
        return pgnn.NaiveBayes(None, features, name=options.naive_bayes)
    edges = options.edges
    if options.chow_liu:
        _check_states(columns, reals, "--chow-liu: the column")
        tree = pgnn.ChowLiuTree(pgnn.states_of(frame[columns]))
        graph = tree.fit(frame[columns], progress=False).graph
        edges, columns = list(graph.edges), list(graph)
    else:
        columns = [*dict.fromkeys(name for edge in edges for name in edge)]
        _check(columns, frame.columns, "--edges")
    continuous = [name for name in columns if name in reals]
    conditionals: dict[Any, Any] = dict.fromkeys(continuous, pgnn.Gaussian)
    for parent, child in edges:
        if child not in reals:
            _check_states([parent], reals, f"--edges: {child!r} has states, and so its parent")
        elif parent in reals:
            conditionals[child] = pgnn.LinearGaussian
    states: dict[Any, Any] = pgnn.states_of(frame[columns], ignore=continuous)
    return pgnn.BayesianNetwork(edges, conditionals, states=states)


def _is_real(column: Any) -> bool:
    """Whether a column has numbers that are not whole."""
    known = column.dropna()
    return known.dtype.kind == "f" and bool((known % 1 != 0).any())


def _check_states(names: Iterable[str], reals: Collection[str], what: str) -> None:
    from pgnn.errors import DataError

    for name in names:
        if name in reals:
            raise DataError(
                f"{what} {name!r} must have states, but has numbers that are not whole",
                "write labels in their place, such as low and high",
            )


def _check(names: Iterable[str], columns: Collection[Any], option: str) -> None:
    from pgnn.errors import DataError, closest

    for name in names:
        if name not in columns:
            raise DataError(f"{option}: the table has no column {name!r}{closest(name, columns)}")
