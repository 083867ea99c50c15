"""Methods of engines that compute ordinary tensors, in subclasses too."""

from __future__ import annotations

from typing import Any, ClassVar

from pgnn.errors import ChecksArguments
from pgnn.factors.inference_mode import in_ordinary_mode


class OrdinaryVerbs(metaclass=ChecksArguments):
    """A class whose verbs, and those of its subclasses, are decorated by :func:`in_ordinary_mode`.

    Attributes:
        verbs: Names of the methods; a subclass may add some.

    Example:
        >>> import torch
        >>> class Engine(OrdinaryVerbs):
        ...     def query(self):
        ...         return torch.zeros(2)
        >>> with torch.inference_mode():
        ...     Engine().query().is_inference()
        False
    """

    verbs: ClassVar[tuple[str, ...]] = (
        "query",
        "most_probable",
        "sample",
        "log_prob",
        "explain",
        "compile",
    )

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for name in cls.verbs:
            if name in vars(cls):
                setattr(cls, name, in_ordinary_mode(vars(cls)[name]))
