"""Arguments of the kernels of chains, and the exponential function."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from pgnn.inference.kernels.compiled import inlined_numeric, inner_numeric

Floats = NDArray[Any]


class Potentials(NamedTuple):
    """A chain in float32 or float64; the scales are always float64.

    Potentials are divided by the largest one, whose log is the scale; in log-space kernels they are
    logs, and the scales are not used.
    """

    initial: Floats
    """``(1 or B, K)``."""
    transition: Floats
    """``(1 or B, 1 or T - 1, K, K)``."""
    turned: Floats
    """The transposed transition: last two axes exchanged."""
    log_field: Floats
    """``(B, T, K)``."""
    lengths: Floats
    """``(B,)`` int64."""
    initial_scale: Floats
    """``(1 or B,)``."""
    transition_scale: Floats
    """``(1 or B, 1 or T - 1)``."""


class PathSums(NamedTuple):
    """Results of a forward or a forward-backward pass."""

    log_z: Floats
    """``(B,)`` float64."""
    trust: Floats
    """``(B,)`` float64: smallest overlap of both messages; small if numbers underflowed."""
    states: Floats
    """``(B, T, K)`` marginals or filtered probabilities; ``(0, 0, 0)`` if not requested."""
    increments: Floats
    """``(B, T)`` float64 log p(x_t | x_<t); ``(0, 0)`` if not requested."""
    pairs: Floats
    """Sums of products of the messages on both sides of a transition, without the factor of the
    transition itself; shaped like the transitions, or larger along axes that are not summed over.
    ``(0, 0, 0, 0)`` if not requested."""


_LOG2_E = 1.4426950408889634
_LN2 = {32: (0.693359375, -2.12194440e-4), 64: (0.6931471803691238, 1.9082149292705877e-10)}
_TERMS = {32: 7, 64: 13}
_LEAST = {32: -87.0, 64: -708.0}
_BIAS = {32: (127, 23), 64: (1023, 52)}


def exp_of(builder: Any, x: Any) -> Any:
    r"""Exponential of a non-positive number, or of the lanes of a vector, without branches.

    Uses :math:`e^x = 2^n e^r` with :math:`n = \lfloor x / \log 2 + 1/2 \rfloor` and the series of
    :math:`e^r`; zero if the result would be subnormal.
    """
    lanes = x.type.count if isinstance(x.type, ir.VectorType) else 0
    bits = 32 if isinstance(x.type.element if lanes else x.type, ir.FloatType) else 64
    number: Any = ir.VectorType(ir.IntType(bits), lanes) if lanes else ir.IntType(bits)

    def constant(kind: Any, value: float) -> Any:
        if lanes:
            return ir.Constant(kind, [ir.Constant(kind.element, value)] * lanes)
        return ir.Constant(kind, value)

    def real(value: float) -> Any:
        return constant(x.type, value)

    def fused(a: Any, b: Any, c: Any) -> Any:
        flags = ("contract",)
        return builder.fadd(builder.fmul(a, b, flags=flags), c, flags=flags)

    name = f"llvm.floor.v{lanes}f{bits}" if lanes else f"llvm.floor.f{bits}"
    floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(x.type, [x.type]), name)
    least = real(_LEAST[bits])
    inside = builder.fcmp_ordered(">=", x, least)
    value = builder.select(inside, x, least)
    n = builder.call(floor, (fused(value, real(_LOG2_E), real(0.5)),))
    rest = fused(n, real(-_LN2[bits][0]), value)
    rest = fused(n, real(-_LN2[bits][1]), rest)
    factorial, series = 1.0, []
    for k in range(_TERMS[bits]):
        factorial *= max(k, 1)
        series.append(1.0 / factorial)
    result = real(series[-1])
    for coefficient in series[-2::-1]:
        result = fused(result, rest, real(coefficient))
    bias, shift = _BIAS[bits]
    whole = builder.add(builder.fptosi(n, number), constant(number, bias))
    power = builder.bitcast(builder.shl(whole, constant(number, shift)), x.type)
    return builder.select(inside, builder.fmul(result, power), real(0.0))


def _exp_below(typing_context, x):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return exp_of(builder, arguments[0])

    return x(x), generate


exp_below: Any = intrinsic(_exp_below)
"""See :func:`exp_of`; branch-free, so that loops vectorise."""


LOST = {32: 1e-8, 64: 1e-103}
"""Bound on the loss to underflow in one step, relative to a normalised message. It is stored
multiplied by 1e28 (or 1e200 in float64), because it would itself underflow."""


@inlined_numeric
def harmless(itemsize):
    """Largest harmless loss relative to a message (1e-9 or 1e-17), in the scale of ``loss``."""
    return 1e19 if itemsize == 4 else 1e183


@inlined_numeric
def share_of(array, b):
    """Index ``b``, or 0 if the axis has size one."""
    return b if array > 1 else 0


@inner_numeric
def log_sum_of(x, at, num):
    """Log of the sum of the exponentials of ``x[at:at + num]``."""
    top = -math.inf
    for k in range(num):
        top = max(top, x[at + k])
    if top == -math.inf:
        return top
    total = 0.0
    for k in range(num):
        total += exp_below(x[at + k] - top)
    return top + math.log(total)
