"""Verbs that accept a partitioned data frame and answer with another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pgnn.abilities import UnrollableModel
from pgnn.errors import Unsupported
from pgnn.evidence.partitioned_frame import PartitionedFrame, is_partitioned, located_errors

if TYPE_CHECKING:
    from pgnn.models.model import Model

Verb = TypeVar("Verb", bound=Callable[..., Any])


def over_partitions(verb: Verb) -> Verb:
    """Decorate a verb of models to answer a Dask frame by a frame, partition by partition."""

    @wraps(verb)
    def distributed(model: Model, *arguments: Any, **settings: Any) -> Any:
        places: list[tuple[int | str, Any]] = [*enumerate(arguments), *settings.items()]
        for place, value in places:
            if is_partitioned(value):
                rest = [None if k == place else x for k, x in enumerate(arguments)]
                others = {k: x for k, x in settings.items() if k != place}
                question = PartitionQuestion(model, distributed, rest, others, place)
                return question.answered(value)
        return verb(model, *arguments, **settings)

    return cast(Verb, distributed)


@dataclass(frozen=True)
class PartitionQuestion:
    """A verb and its arguments except for the rows.

    The answer for a pandas frame is a pandas frame or series with its index. Spark accepts such a
    function too: ``frame.mapInPandas(lambda parts: map(question, parts), schema)``.

    Args:
        model: The model that answers.
        verb: One of the verbs of its class.
        arguments: Arguments of the verb, by position.
        settings: Arguments of the verb, by name.
        place: Position or name of the argument for the rows.

    Example:
        >>> import pandas as pd
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([], {"coin": [0.25, 0.75]}, states={"coin": ["head", "tail"]})
        >>> question = PartitionQuestion(model, BayesianNetwork.query, ["coin", None], {}, 1)
        >>> question(pd.DataFrame(index=[7]))
           coin=head  coin=tail
        7       0.25       0.75
    """

    model: Model
    verb: Callable[..., Any]
    arguments: Sequence[Any]
    settings: Mapping[str, Any]
    place: int | str

    def __call__(self, rows: Any) -> Any:
        """Return the answer for the rows of one partition."""
        import pandas as pd

        arguments, settings = list(self.arguments), dict(self.settings)
        if isinstance(self.place, int):
            arguments[self.place] = rows
        else:
            settings[self.place] = rows
        with located_errors(rows):
            answer = self.verb(self.model, *arguments, **settings)
        if not hasattr(answer, "frame"):
            return pd.Series(answer.numpy(force=True), index=rows.index, name=self.verb.__name__)
        frame = answer.frame()
        if frame.columns.nlevels > 1:
            frame.columns = [f"{variable}={state}" for variable, state in frame.columns]
        return frame

    def answered(self, frame: Any) -> Any:
        """Return the lazy frame of the answers for each partition.

        Raises:
            Unsupported: If the model is over time, or a row has several answers.
        """
        if isinstance(self.model, UnrollableModel):
            raise Unsupported(
                f"{type(self.model).__name__} reads sequences, which partitions of rows would cut",
                "give each sequence on its own, such as by frame.groupby(...).apply(...)",
            )
        if self.settings.get("inputs") is not None or self.settings.get("k", 1) != 1:
            raise Unsupported("a partitioned frame is answered only without inputs= and for k=1")
        return PartitionedFrame(frame).mapped(self)
