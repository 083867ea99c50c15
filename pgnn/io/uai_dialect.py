"""The order of axes in UAI files that are signed by comments."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from pgnn.io.description import parents_backward
from pgnn.io.tokens import Tokens

_HEADER = "nbr Nodes"
_ORDER = re.compile(r"\{\s*(\d+(?:\s*,\s*\d+)*)\s*\}")


def axes_of_pyagrum(
    tokens: Tokens, count_at: int, scopes: Sequence[tuple[int, ...]], sizes: Sequence[int]
) -> list[tuple[int, ...]] | None:
    """Return the axes of each table of pyAgrum's MARKOV file, the fastest last, else ``None``.

    pyAgrum prints the variables of a scope in the order of a set, which says nothing, and those of
    the table in a comment, ``24 # {1, 0, 2}``, the fastest first. That comment, or ``# nbr Nodes``
    after the number of variables, tells who wrote the file.

    Args:
        tokens: The file.
        count_at: Index of the word that is the number of variables.
        scopes: The scope of each table.
        sizes: Index of the word that is the number of entries of each table.

    Raises:
        DataError: If the comment of one table is missing or names other variables.
    """
    orders = [_ORDER.fullmatch(tokens.comment_after(at)) for at in sizes]
    if tokens.comment_after(count_at) != _HEADER and not any(orders):
        return None
    axes = []
    for k, (scope, order) in enumerate(zip(scopes, orders, strict=True)):
        fastest_first = tuple(map(int, order[1].split(","))) if order else ()
        if sorted(fastest_first) != sorted(scope):
            got = repr("# " + tokens.comment_after(sizes[k])[:40]) if order else "none"
            raise tokens.error(
                sizes[k],
                f"expected a comment with the variables {scope} of table {k} in braces, the "
                f"fastest first, as pyAgrum writes it, got {got}; without any comment, a file is "
                "read as the format has it, last variable of the scope fastest",
            )
        axes.append(fastest_first[::-1])
    return axes


def is_bayes_of_pyagrum(tokens: Tokens, last: Sequence[int]) -> bool:
    """Return whether each scope is followed by the name of its child, as pyAgrum writes it.

    Args:
        tokens: The file.
        last: Index of the last word of each scope.
    """
    return bool(last) and all(tokens.comment_after(at) for at in last)


def transposed(values: np.ndarray, axes: tuple[int, ...], scope: tuple[int, ...]) -> np.ndarray:
    """The numbers of a table of some axes, with the axes of the scope.

    Args:
        values: Numbers in the order of the file, of the shape of the scope.
        axes: The variables, the fastest last.
        scope: The same variables in another order.
    """
    sizes = dict(zip(scope, values.shape, strict=True))
    return values.reshape([sizes[v] for v in axes]).transpose([axes.index(v) for v in scope])


def parents_fastest_first(values: np.ndarray) -> np.ndarray:
    """The same numbers, written with the first parent fastest, the child being the last axis."""
    return parents_backward(values.reshape(*values.shape[-2::-1], values.shape[-1]))
