"""Sums of rows of counts, and of their log factorials, in one pass."""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import numeric


@numeric
def add_rows(rows, labels, weights, log_factorial, totals, row_sums, row_logs) -> float:
    """Add each row to the total of its label; return the number of values outside the table.

    Args:
        rows: ``(N, D)`` counts.
        labels: ``(N,)`` row of ``totals`` to which each is added.
        weights: ``(N,)`` weights of the rows.
        log_factorial: Table of log factorials.
        totals: ``(K, D)`` sums, added to.
        row_sums: ``(N,)`` output: sums of the rows.
        row_logs: ``(N,)`` output: sums of log factorials.
    """
    last = np.float64(log_factorial.shape[0] - 1)
    wrong = 0.0
    for n in range(rows.shape[0]):
        row, total, weight = rows[n], totals[labels[n]], weights[n]
        numbers, logs = 0.0, 0.0
        for d in range(row.shape[0]):  # two loops, so that the first is vectorised
            inside = row[d] if (row[d] >= 0.0) & (row[d] <= last) else 0.0
            whole = np.int64(inside)
            number = np.float64(whole)
            wrong += 0.0 if number == row[d] else 1.0
            numbers += number
            logs += log_factorial[whole]
        for d in range(row.shape[0]):
            total[d] += weight * row[d]
        row_sums[n], row_logs[n] = numbers, logs
    return wrong
