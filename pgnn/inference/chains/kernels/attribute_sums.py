"""Sums of the weight table's rows over the attributes of each step, and their gradient."""

from __future__ import annotations

from pgnn.inference.kernels.compiled import numeric


@numeric
def add_rows(numbers, values, table, out, stop):
    """Add the rows of the table of its attributes to each step.

    Args:
        numbers: ``(N, A)`` attribute indices, padded with -1.
        values: ``(N, A)`` attribute values, or ``(0, 0)`` if all are one.
        table: ``(F, K)`` weights.
        out: ``(N, K)`` output, added to.
        stop: Checked at each step.
    """
    for n in range(numbers.shape[0]):
        if stop[0]:
            return
        for a in range(numbers.shape[1]):
            f = numbers[n, a]
            if f < 0:
                continue
            if values.shape[0] == 0:
                for k in range(table.shape[1]):
                    out[n, k] += table[f, k]
            else:
                for k in range(table.shape[1]):
                    out[n, k] += values[n, a] * table[f, k]


@numeric
def spread_rows(numbers, values, gradient, out, stop):
    """Add each step's gradient to the rows of its attributes: the transpose of :func:`add_rows`.

    Args:
        numbers, values: See :func:`add_rows`.
        gradient: ``(N, K)`` upstream gradients.
        out: ``(F, K)`` output, added to.
        stop: Checked at each step.
    """
    for n in range(numbers.shape[0]):
        if stop[0]:
            return
        for a in range(numbers.shape[1]):
            f = numbers[n, a]
            if f < 0:
                continue
            if values.shape[0] == 0:
                for k in range(out.shape[1]):
                    out[f, k] += gradient[n, k]
            else:
                for k in range(out.shape[1]):
                    out[f, k] += values[n, a] * gradient[n, k]
