"""Rows that contradict what a caller gave: a value that a variable was set to, or a table."""

from __future__ import annotations

from collections.abc import Sequence

from pgnn.errors import DataError, short_repr
from pgnn.factors.conditionals.conditional import Conditional


def contradiction(conditional: Conditional, place: Sequence[int] | None = None) -> DataError:
    """Return the error of rows to which a conditional that is not learned gives probability zero.

    After ``model.do({"x": 1})`` these are rows with another ``x``: they were not drawn under the
    intervention, and have probability zero.

    Args:
        conditional: The conditional, without parents and learnable parameters.
        place: The state that rows need, if known.

    Example:
        >>> from pgnn.factors.conditionals.constant import Constant
        >>> from pgnn.factors.variable import Variable
        >>> print(str(contradiction(Constant(Variable("dose"), 1.5))).split(";")[0])
        rows are impossible, since 'dose' is set to 1.5 and they observe another value
    """
    name = conditional.child.name
    if conditional.constant is not None:
        value = short_repr(conditional.constant.tolist())
        reason = f"{name!r} is set to {value} and they observe another value"
    elif place is not None:
        seen = (conditional.child.states or ())[place[-1]]
        reason = f"the probability of {name!r} = {seen!r} was given as zero"
    else:
        reason = f"the conditional of {name!r} was given and has probability zero there"
    return DataError(
        f"rows are impossible, since {reason}",
        f"drop those rows, or, after model.do(), use model.do([{name!r}]), which "
        "leaves its values to the rows",
    )
