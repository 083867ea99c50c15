"""Tapes of elementwise arithmetic run by NumPy, which is faster than torch on small arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.tape.tape import Slot, Step, Tape, slots_in

Array = NDArray[Any]

_SAME = {"detach", "alias", "clone", "expand"}
"""What does not change numbers; shapes are broadcast at the end."""

_UNARY: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "log2": np.log2,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "square": np.square,
    "reciprocal": np.reciprocal,
    "abs": np.absolute,
    "sign": np.sign,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "floor": np.floor,
    "ceil": np.ceil,
    "isnan": np.isnan,
    "logical_not": np.logical_not,
}
_BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "atan2": np.arctan2,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
}


@dataclass(frozen=True, eq=False)
class ArrayTape:
    """A tape as operations of NumPy on numbered registers.

    Attributes:
        start: Initial values of the registers: constants.
        inputs: The registers of the inputs.
        noise: Shapes and dtypes of standard normal numbers, which are the last inputs.
        steps: Operations, the registers of their arguments and of their results.
        outputs: The registers of the outputs, their shapes and dtypes.
    """

    start: list[Any]
    inputs: tuple[int, ...]
    noise: tuple[tuple[tuple[int, ...], Any], ...]
    steps: tuple[tuple[Callable[..., Any], tuple[int, ...], int], ...]
    outputs: tuple[tuple[int, tuple[int, ...], Any], ...]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute the outputs.

        Args:
            inputs: Inputs of the tape, then the noise.
        """
        held = self.start.copy()
        for place, value in zip(self.inputs, inputs, strict=True):
            held[place] = value
        for operation, places, out in self.steps:
            if len(places) == 2:
                held[out] = operation(held[places[0]], held[places[1]])
            elif len(places) == 1:
                held[out] = operation(held[places[0]])
            else:
                held[out] = operation(*[held[k] for k in places])
        outputs = []
        for place, shape, kind in self.outputs:
            value = held[place]
            if value.shape != shape:
                value = np.broadcast_to(value, shape)
            outputs.append(value if value.dtype == kind else value.astype(kind))
        return outputs

    @classmethod
    def of(cls, tape: Tape, outputs: Sequence[Tensor]) -> ArrayTape | None:
        """Translate a tape.

        Args:
            tape: Without guards.
            outputs: Its outputs, for their shapes and dtypes.

        Returns:
            None if an operation is not elementwise, or draws other than standard normal numbers.
        """
        if tape.guards or not all(isinstance(o, Slot) for o in tape.outputs):
            return None
        return _Translation(tape).translated(outputs)

    def draw(self, rng: np.random.Generator) -> list[Array]:
        """Return the noise of one run."""
        return [rng.standard_normal(shape, dtype=kind) for shape, kind in self.noise]


class _Translation:
    """Translates the steps of a tape one by one."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.place = {k: k for k in range(tape.size)}  # of each slot
        self.start: list[Any] = [None] * tape.size
        self.steps: list[tuple[Callable[..., Any], tuple[int, ...], int]] = []
        self.noise: list[tuple[int, tuple[int, ...], Any]] = []
        self.exponents: dict[int, int] = {}  # of what each place is the exponential

    def translated(self, outputs: Sequence[Tensor]) -> ArrayTape | None:
        """Translate all steps; None if one cannot be translated."""
        if not all(self._add(step) for step in self.tape.steps):
            return None
        ends = [self.place[s.number] for s in slots_in(self.tape.outputs)]
        kinds = [(tuple(x.shape), x.detach().numpy().dtype) for x in outputs]
        return ArrayTape(
            self.start,
            (*self.tape.inputs, *(k for k, _, _ in self.noise)),
            tuple((shape, kind) for _, shape, kind in self.noise),
            tuple(self.steps),
            tuple((k, *kind) for k, kind in zip(ends, kinds, strict=True)),
        )

    def _add(self, step: Step) -> bool:
        if step.writes or not step.single or step.is_opaque:
            return False
        name, _, variant = str(step.operation).removeprefix("aten.").partition(".")
        args, kwargs, out = step.args, dict(step.kwargs), step.out[0]
        if name == "randn":
            kind = kwargs.get("dtype")
            if kind not in (torch.float64, torch.float32):
                return False
            shape = tuple(int(n) for n in args[0])
            numpy_kind = np.float64 if kind is torch.float64 else np.float32
            self.noise.append((out, shape, numpy_kind))
            return True
        if kwargs:
            return False
        if name in _SAME and isinstance(args[0], Slot):
            self.place[out] = self.place[args[0].number]
            return True
        return self._arithmetic(name, variant, args, out)

    def _arithmetic(self, name: str, variant: str, args: tuple[Any, ...], out: int) -> bool:
        if name in _UNARY and len(args) == 1:
            if name == "log" and isinstance(args[0], Slot):
                inner = self.exponents.get(self.place[args[0].number])
                if inner is not None:  # the logarithm of an exponential
                    self.place[out] = inner
                    return True
            if name == "exp" and isinstance(args[0], Slot):
                self.exponents[out] = self.place[args[0].number]
            return self._write(_UNARY[name], args, out)
        if name in _BINARY and len(args) == 2:
            if name in ("add", "sub") and self._is_zero(args[1]) and isinstance(args[0], Slot):
                self.place[out] = self.place[args[0].number]
                return True
            return self._write(_BINARY[name], args, out)
        if name == "pow" and len(args) == 2:
            if args[1] == 2 and variant == "Tensor_Scalar":
                return self._write(np.square, args[:1], out)
            return self._write(np.power, args, out)
        if name == "rsub" and len(args) == 2:
            return self._write(np.subtract, args[::-1], out)
        if name == "where" and len(args) == 3:
            return self._write(np.where, args, out)
        if name == "addcmul" and len(args) == 3:
            middle = len(self.start)
            self.start.append(None)
            self.place[middle] = middle
            return self._write(np.multiply, args[1:], middle) and self._write(
                np.add, (args[0], Slot(middle)), out
            )
        if name in ("sigmoid",) and len(args) == 1:
            return self._write(_sigmoid, args, out)
        return False

    def _write(self, operation: Callable[..., Any], args: Sequence[Any], out: int) -> bool:
        places = []
        for a in args:
            if isinstance(a, Slot):
                places.append(self.place[a.number])
                continue
            value = _constant(a)
            if value is None:
                return False
            places.append(len(self.start))
            self.start.append(value)
        self.steps.append((operation, tuple(places), out))
        return True

    def _is_zero(self, value: Any) -> bool:
        if isinstance(value, Slot):
            return False
        constant = _constant(value)
        return constant is not None and np.ndim(constant) == 0 and bool(constant == 0)


def lifted(tape: Tape) -> Tape:
    """Return the tape with standard normal numbers as its last inputs, instead of draws."""
    drawn = [s for s in tape.steps if str(s.operation) == "aten.randn.default"]
    steps = tuple(s for s in tape.steps if s not in drawn)
    return replace(tape, inputs=(*tape.inputs, *(s.out[0] for s in drawn)), steps=steps)


def _constant(value: Any) -> Any:
    """A constant as an array, or as a number if all entries are equal; None if it is neither."""
    if isinstance(value, bool | int | float):
        return value
    if not isinstance(value, Tensor):
        return None
    array = value.detach().numpy(force=True)
    if array.size and (array == array.flat[0]).all():
        return array.flat[0]
    return array


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))
