"""Sums of rows of whole numbers, and of the logs of their factorials, in one pass over them."""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import numeric


@numeric
def add_rows(rows, labels, weights, log_factorial, totals, row_sums, row_logs) -> float:
    """Add each row to the total of its label; return how many numbers are none of the table's.

    Args:
        rows: ``(N, D)`` numbers.
        labels: ``(N,)`` row of ``totals`` that each is added to.
        weights: ``(N,)`` what each counts.
        log_factorial: Logs of the first factorials, by number.
        totals: ``(K, D)``, added to.
        row_sums: ``(N,)`` sums of the rows, written.
        row_logs: ``(N,)`` sums of the logs of factorials, written.
    """
    last = np.float64(log_factorial.shape[0] - 1)
    wrong = 0.0
    for n in range(rows.shape[0]):
        row, total, weight = rows[n], totals[labels[n]], weights[n]
        numbers, logs = 0.0, 0.0
        for d in range(row.shape[0]):  # two loops, since the first is then done eight at a time
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
