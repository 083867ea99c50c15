"""Pieces of models, which can be saved as settings, restored from them, and checked."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from pgnn.errors import ChecksArguments, ModelError
from pgnn.factors.variable import Variable
from pgnn.limits import check_size, entries_of

MAX_LEARNABLE = 2**29
"""Bytes of one learnable array."""
Settings = dict[str, Any]
"""Arguments by name."""


class Restorable(metaclass=ChecksArguments):
    """An object that can be saved: it returns its settings, and is restored from them.

    The settings are keyword arguments of the constructor, without learnable parameters: text,
    numbers, tuples, mappings, arrays, tensors, variables, other restorable objects and torch
    modules.
    """

    def settings(self) -> Settings:
        """Return the settings; of a dataclass its fields."""
        instance: Any = self
        fields = dataclasses.fields(instance) if dataclasses.is_dataclass(instance) else ()
        return {f.name: vars(instance)[f.name] for f in fields}

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Restore an object from its settings.

        Args:
            settings: Those that :meth:`settings` returned.
            numbers: The saved ``state_dict()`` of a module. It is loaded afterwards; here it only
                has shapes that do not follow from the settings.
        """
        return cls(**settings)


KEPT = frozenset(
    (
        *("parameters", "named_parameters", "requires_grad_", "state_dict", "load_state_dict"),
        *("to", "double", "float", "cpu", "cuda", "train", "eval", "training"),
    )
)
"""What of torch's modules people use on models and their parts."""
_HIDDEN = frozenset(n for n in dir(nn.Module) if not n.startswith("_")) - KEPT
_FOR_ENGINES = frozenset(
    (
        *("argument_tensors", "cached", "cached_numbers", "refresh_parameters"),
        *("check_inputs", "read_inputs", "passes_gradients", "arguments_hint", "extra_repr"),
        *("tables", "is_split", "log_table", "has_independent_elements"),
        *("constant", "kind_name", "former_names", "parameter_table"),
        *("initialize_at_random", "unsound", "num_free"),
        *(
            "check_counts",
            "logit_rows",
            "possible",
            "structural_zeros",
            "declared_zeros",
            "admit_all",
        ),
    )
)
"""What engines, printing and messages ask for."""


class Listed(nn.Module, metaclass=ChecksArguments):
    """A module whose ``dir()`` has its own attributes, and few of torch's."""

    def __dir__(self) -> list[str]:
        defined = {
            name
            for kind in type(self).__mro__
            if kind is not nn.Module and kind is not object
            for name in vars(kind)
        }
        hidden = (_HIDDEN - defined) | _FOR_ENGINES
        names: list[str] = super().__dir__()  # type: ignore[no-untyped-call]
        return [name for name in names if name not in hidden]


class Piece(Listed, Restorable):
    """A local part of a model with parameters: a conditional or a potential."""

    noun: ClassVar[str]
    """What messages call it."""

    arguments_hint: ClassVar[str] = ", variables first, such as pgnn.Variable('x', 2)"

    log_numbers: ClassVar[tuple[str, ...]] = ()
    """Names of parameters and buffers that are logarithms: ``-inf`` is a zero there."""

    former_names: ClassVar[Mapping[str, str]] = {}
    """Present names of parameters by those that files of earlier versions have."""

    @property
    @abstractmethod
    def scope(self) -> tuple[Variable, ...]:
        """The variables of the piece."""

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """The name, or names, under which the caller of ``pgnn.load`` passes its module."""

    @property
    def kind_name(self) -> str:
        """What it is called above its table."""
        return type(self).__name__

    @property
    def is_unset(self) -> bool:
        """Whether it has learnable parameters and all of them are at their initial value, zero."""
        learnable = [p for p in self.parameters() if p.requires_grad]
        return bool(learnable) and not any(bool(p.detach().any()) for p in learnable)

    def num_free(self, parameter: Tensor) -> int:
        """Return the number of free entries of one of its parameters."""
        return parameter.numel()

    def unsound(self, name: str, numbers: Tensor) -> Tensor:
        """Return which entries of a parameter or buffer are invalid."""
        log = name.split(".")[0] in self.log_numbers
        return numbers.isnan() | (numbers.isposinf() if log else numbers.isinf())

    def check(self) -> None:
        """Check the parameters, which may have been changed from outside.

        Raises:
            ModelError: If one is ``NaN``, or infinite where that is not allowed.
        """
        inner = [m for m in self.modules() if m is not self and isinstance(m, Piece)]
        nested = {id(x) for m in inner for x in m.state_dict(keep_vars=True).values()}
        for part in inner:
            part.check()
        # buffers of networks are not checked: masks may be infinite
        for name, numbers in [*self.named_parameters(), *self.named_buffers(recurse=False)]:
            if (
                id(numbers) in nested
                or not numbers.is_floating_point()
                or bool(numbers.isfinite().all())
            ):
                continue
            bad = self.unsound(name, numbers)
            if bool(bad.any()):
                raise ModelError(
                    f"{name!r} of the {self.noun} of {self.key!r} has "
                    f"{numbers[bad].flatten()[0].item()} among its numbers",
                    "set it, or fit the model again",
                )


def learnable_zeros(what: str, shape: Sequence[int]) -> nn.Parameter:
    """Return learnable float64 zeros.

    Args:
        what: Their name in messages.
        shape: Shape of the array.

    Raises:
        Intractable: If there are too many.
    """
    check_size(f"learnable numbers of {what}", entries_of(shape), MAX_LEARNABLE,
               "Give it fewer parents, states or dimensions")  # fmt: skip
    return nn.Parameter(torch.zeros(tuple(shape), dtype=torch.float64))


@functools.cache
def signature_of(kind: type) -> inspect.Signature:
    """Return the signature of a class's constructor; cached, since inspection is slow."""
    return inspect.signature(kind)


def taken(kind: type, settings: Settings) -> Settings:
    """Return the settings that are arguments of a class's constructor."""
    parameters = signature_of(kind).parameters
    return {name: value for name, value in settings.items() if name in parameters}
