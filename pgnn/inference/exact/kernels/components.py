"""Connected components of the unobserved variables of rows, each summed over its states.

The observations separate the hidden variables of a row into components. A component is identified
by its variables and by the slices of its factors at the observed states; components that occur in
many rows are summed once.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import entry, inner

_LOOK = 256
"""Rows, or components, between two looks at the flag."""
_PRIME = 1099511628211


@inner
def _mixed(key, number):
    """A hash updated with one more integer."""
    return (key ^ (number + 1)) * _PRIME & 0x7FFFFFFFFFFFFFF


@inner
def _base(row, f, codes, scope_ptr, scope_var, stride, start):
    """Offset of a factor's slice at a row's observed states; whether some variable is hidden."""
    at, hidden = start[f], False
    for k in range(scope_ptr[f], scope_ptr[f + 1]):
        state = codes[row, scope_var[k]]
        if state < 0:
            hidden = True
        else:
            at += stride[k] * state
    return at, hidden


@inner
def _equal(ptr, array, i, first, last):
    """Whether new entries equal those of the ``i``-th component."""
    size, k = ptr[i + 1] - ptr[i], 0
    while k < size and array[ptr[i] + k] == array[first + k]:
        k += 1
    return size == last - first and k == size


@inner
def _component(
    row, first, h, f_end, codes, card, scope_ptr, scope_var, stride, start, var_ptr, var_factor,
    observed_factor, observed_variable, hidden, factor, base,
):  # fmt: skip
    """Write the component of a hidden variable; where it ends, its states and a key to it."""
    head, tail, states, key = h, h + 1, 1.0, 0
    hidden[h] = first
    observed_variable[first] = row
    while head < tail:
        v = hidden[head]
        head += 1
        states *= card[v]
        key = _mixed(key, v)
        for k in range(var_ptr[v], var_ptr[v + 1]):
            f = var_factor[k]
            if observed_factor[f] == row:
                continue
            observed_factor[f] = row
            factor[f_end] = f
            base[f_end], _ = _base(row, f, codes, scope_ptr, scope_var, stride, start)
            key = _mixed(key, base[f_end])
            f_end += 1
            for j in range(scope_ptr[f], scope_ptr[f + 1]):
                u = scope_var[j]
                if codes[row, u] < 0 and observed_variable[u] != row:
                    observed_variable[u] = row
                    hidden[tail] = u
                    tail += 1
    return tail, f_end, states, key


@entry
def split(
    codes, card, scope_ptr, scope_var, stride, start, var_ptr, var_factor, most, observed_factor,
    observed_variable, known_ptr, known, part_ptr, part, hidden_ptr, hidden, factor_ptr, factor,
    base, table, left, stop,
) -> int:  # fmt: skip
    """Find the components of all rows.

    Args:
        codes: ``(B, V)`` observed states, -1 where none.
        var_ptr: ``(V + 1,)`` first index of each variable's factors in ``var_factor``.
        most: Largest work of a row: states times factors, summed over its components. Rows with
            more work are omitted.
        observed_factor: ``(F,)`` scratch, filled with -1; ``observed_variable`` likewise ``(V,)``.
        known_ptr: ``(B + 1,)`` output: first entry of each row for factors without hidden
            variables.
        part_ptr: ``(B + 1,)`` output: first of each row's component indices in ``part``.
        hidden_ptr: Output: first of each component's variables in ``hidden``.
        factor_ptr: Output: first of each component's factors in ``factor``, with offsets in
            ``base``.
        table: Hash table of components, filled with -1; its length is a power of two.
        left: ``(B,)`` output: whether a row was omitted.

    Returns:
        Number of components.
    """
    parts, mask = 0, len(table) - 1
    for row in range(codes.shape[0]):
        if row % _LOOK == 0 and stop[0] != 0:
            return parts
        at, part_at, work = known_ptr[row], part_ptr[row], 0.0
        for f in range(len(start)):
            where, some = _base(row, f, codes, scope_ptr, scope_var, stride, start)
            if not some:
                known[at] = where
                at += 1
        for first in range(codes.shape[1]):
            if codes[row, first] >= 0 or observed_variable[first] == row:
                continue
            h = hidden_ptr[parts]
            tail, f_end, states, key = _component(
                row, first, h, factor_ptr[parts], codes, card, scope_ptr, scope_var, stride, start,
                var_ptr, var_factor, observed_factor, observed_variable, hidden, factor, base,
            )  # fmt: skip
            work += states * (1 + f_end - factor_ptr[parts])
            if work > most:
                left[row] = True
                at, part_at = known_ptr[row], part_ptr[row]
                break
            slot = key & mask
            while table[slot] >= 0 and not (
                _equal(hidden_ptr, hidden, table[slot], h, tail)
                and _equal(factor_ptr, base, table[slot], factor_ptr[parts], f_end)
            ):
                slot = (slot + 1) & mask
            if table[slot] < 0:
                table[slot] = parts
                parts += 1
                hidden_ptr[parts], factor_ptr[parts] = tail, f_end
            part[part_at] = table[slot]
            part_at += 1
        known_ptr[row + 1], part_ptr[row + 1] = at, part_at
    return parts


@inner
def _steps(i, scope_ptr, scope_var, stride, hidden_ptr, hidden, factor_ptr, factor, step):
    """Write the stride of each variable in each factor's table."""
    variables = hidden_ptr[i + 1] - hidden_ptr[i]
    for k in range(factor_ptr[i + 1] - factor_ptr[i]):
        f = factor[factor_ptr[i] + k]
        for d in range(variables):
            step[k, d] = 0
            for j in range(scope_ptr[f], scope_ptr[f + 1]):
                if scope_var[j] == hidden[hidden_ptr[i] + d]:
                    step[k, d] = stride[j]


@inner
def _advance(i, card, hidden_ptr, hidden, counter, index, step, factors):
    """Advance to the next joint state; return whether there is one."""
    d = hidden_ptr[i + 1] - hidden_ptr[i] - 1
    while d >= 0:
        n = card[hidden[hidden_ptr[i] + d]]
        counter[d] += 1
        if counter[d] < n:
            for k in range(factors):
                index[k] += step[k, d]
            return True
        for k in range(factors):
            index[k] -= step[k, d] * (n - 1)
        counter[d] = 0
        d -= 1
    return False


@entry
def sum_components(
    card, scope_ptr, scope_var, stride, hidden_ptr, hidden, factor_ptr, factor, base, log_values,
    step, index, counter, terms, log_z, weights, counts, counting, stop,
):  # fmt: skip
    """Sum each component over its states, and add its expected counts.

    Args:
        log_values: All log tables, flat.
        step: ``(factors, variables)`` scratch for the largest component; ``index`` and ``counter``
            likewise, and ``terms`` for all its states.
        log_z: ``(C,)`` output: log sums.
        weights: ``(C,)`` weight of each component.
        counts: Shaped like ``log_values``, added to: weighted expected counts of the factors.
        counting: Whether to compute expected counts.
    """
    for i in range(len(log_z)):
        if i % _LOOK == 0 and stop[0] != 0:
            return
        factors = factor_ptr[i + 1] - factor_ptr[i]
        if counting and not weights[i] > 0.0:
            continue
        _steps(i, scope_ptr, scope_var, stride, hidden_ptr, hidden, factor_ptr, factor, step)
        for k in range(factors):
            index[k] = base[factor_ptr[i] + k]
        counter[:] = 0
        n, top, more = 0, -np.inf, True
        while more:
            total = 0.0
            for k in range(factors):
                total += log_values[index[k]]
            terms[n] = total
            top = max(top, total)
            n += 1
            more = _advance(i, card, hidden_ptr, hidden, counter, index, step, factors)
        if top == -np.inf:
            log_z[i] = top
            continue
        total = 0.0
        for s in range(n):
            terms[s] = np.exp(terms[s] - top)
            total += terms[s]
        log_z[i] = top + np.log(total)
        if not counting:
            continue
        for k in range(factors):  # after the last state the counter is at the first one
            index[k] = base[factor_ptr[i] + k]
        for s in range(n):
            posterior = terms[s] / total * weights[i]
            for k in range(factors):
                counts[index[k]] += posterior
            _advance(i, card, hidden_ptr, hidden, counter, index, step, factors)
