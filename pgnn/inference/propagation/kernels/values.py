"""Values computed from messages: the Bethe value, decoded states, sums over forests."""

from __future__ import annotations

from pgnn.inference.kernels.algebra import (
    logarithm,
    normalize,
    nothing,
    over,
    power,
    times,
)
from pgnn.inference.kernels.compiled import inner_numeric, numeric
from pgnn.inference.propagation.kernels.messages import factor_total, log_sum, message_into


@numeric
def bethe(algebra, wiring, numbers, rows, work, elements_part, value, stop):
    r"""Update the beliefs and write the (reweighted) Bethe value of the current messages.

    .. math:: \sum_i \log z_i + \sum_f \rho_f \log \sum_{x_f} \phi_f(x_f)^{1 / \rho_f}
        \prod_{i \in f} b_i(x_i) / m_{f \to i}(x_i), \qquad
        z_i = \sum_{x_i} \phi_i \prod_f m_{f \to i}^{\rho_f}

    Args:
        work: Working memory; no state is chosen.
        elements_part: ``(B,)`` output: the sum over elements.
        value: ``(B,)`` output: the sum over elements and factors.
        stop: Checked before each row.
    """
    factor, slot, element, inbox = wiring.factor, wiring.slot, wiring.element, wiring.inbox
    weight = numbers.weight
    for b in rows:
        table = numbers.table[b if numbers.table.shape[0] > 1 else 0]
        field, message, belief = numbers.field[b], numbers.message[b], numbers.belief[b]
        if stop[0]:
            return
        total = 0.0
        for i in range(element.shape[0] - 1):
            total += log_sum(algebra, element, inbox, i, field, weight, message, belief)
        elements_part[b] = total
        for f in range(factor.shape[0]):
            joint = factor_total(
                algebra, factor, slot, f, table, belief, message, work.state, work.scratch
            )
            rho = weight[f] if weight.shape[0] > 0 else 1.0
            total += rho * logarithm(algebra, joint)
        value[b] = total


@numeric
def decode(algebra, wiring, numbers, rows, order, work, states, stop):
    """Choose the states of the elements sequentially, each given those chosen before.

    On a tree, in an order in which every element but the first has an earlier neighbour, the states
    are jointly optimal even if beliefs are tied.

    Args:
        order: ``(E,)`` elements.
        states: ``(B, E)`` output.
        stop: Checked before each row.
    """
    factor, slot, element, inbox = wiring.factor, wiring.slot, wiring.element, wiring.inbox
    weight, state, scratch = numbers.weight, work.state, work.scratch
    product = 3 * (scratch.shape[0] // 4)
    for b in rows:
        table = numbers.table[b if numbers.table.shape[0] > 1 else 0]
        field, message, belief = numbers.field[b], numbers.message[b], numbers.belief[b]
        if stop[0]:
            return
        for i in range(state.shape[0]):
            state[i] = -1
        for i in order:
            o, num = element[i, 0], element[i, 1]
            for x in range(num):
                scratch[product + x] = field[o + x]
            for p in range(element[i, 2], element[i + 1, 2]):
                f = inbox[p, 2]
                rho = weight[f] if weight.shape[0] > 0 else 1.0
                at = message_into(
                    algebra, factor, slot, f, inbox[p, 1], table, belief, message, state, scratch
                )
                normalize(algebra, scratch, at, num)
                for x in range(num):
                    part = power(algebra, scratch[at + x], rho)
                    scratch[product + x] = times(algebra, scratch[product + x], part)
                normalize(algebra, scratch, product, num)
            best = 0
            for x in range(1, num):
                if scratch[product + x] > scratch[product + best]:
                    best = x
            if not scratch[product + best] > nothing(algebra):  # no state is possible
                for x in range(num):
                    if belief[o + x] > belief[o + best]:
                        best = x
            state[i] = best
        for i in range(state.shape[0]):
            states[b, i] = state[i]
            state[i] = -1


@inner_numeric
def _find(parent, i):
    """Return the root of an element's component, by path halving."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numeric
def spanning_forest(wiring, order, parent, observed, member) -> int:
    """Select factors in an order, skipping those that would close a loop.

    Args:
        wiring: Wiring of the graph.
        order: ``(F,)`` factors.
        parent: ``(E,)`` working memory.
        observed: ``(E,)`` working memory; zeros before and after.
        member: ``(F,)`` output: whether a factor is selected.

    Returns:
        Number of selected factors.
    """
    factor, slot = wiring.factor, wiring.slot
    for i in range(parent.shape[0]):
        parent[i] = i
    picked = 0
    for f in order:
        first, last = factor[f, 0], factor[f, 0] + factor[f, 1]
        apart = True
        for s in range(first, last):
            root = _find(parent, slot[s, 3])
            apart = apart and observed[root] == 0
            observed[root] = 1
        for s in range(first, last):
            observed[_find(parent, slot[s, 3])] = 0
        member[f] = apart
        if apart:
            picked += 1
            root = _find(parent, slot[first, 3])
            for s in range(first + 1, last):
                parent[_find(parent, slot[s, 3])] = root
    return picked


@numeric
def breadth_first(wiring, member, order, reached, through) -> int:
    """Traverse the factors of a forest, component by component.

    Args:
        wiring: Wiring of the graph.
        member: ``(F,)`` whether a factor is in the forest.
        order: ``(E,)`` output: elements in the order of the traversal.
        reached: ``(E,)`` output: the slot by which an element is reached, -1 if it is a root.
        through: ``(F,)`` output: for each factor in order the slot nearest to the root.

    Returns:
        Number of factors in the forest.
    """
    factor, slot, element, inbox = wiring.factor, wiring.slot, wiring.element, wiring.inbox
    num = element.shape[0] - 1
    for i in range(num):
        reached[i] = -2
    end, factors = 0, 0
    for root in range(num):
        if reached[root] != -2:
            continue
        reached[root] = -1
        order[end] = root
        at, end = end, end + 1
        while at < end:
            i = order[at]
            at += 1
            for p in range(element[i, 2], element[i + 1, 2]):
                f = inbox[p, 2]
                if not member[f] or inbox[p, 1] == reached[i]:
                    continue
                new = False
                for s in range(factor[f, 0], factor[f, 0] + factor[f, 1]):
                    j = slot[s, 3]
                    if reached[j] == -2:
                        reached[j] = s
                        order[end] = j
                        end += 1
                        new = True
                if new:
                    through[factors] = inbox[p, 1]
                    factors += 1
    return factors


@numeric
def forest_sums(
    algebra, wiring, numbers, rows, member, reached, through, work, ones, share, value, stop
):
    r"""Add the log of the sum of the reparameterised distribution of one forest.

    .. math:: \prod_i b_i(x_i) \prod_{f \in T} \phi_f(x_f)^{1 / \rho_f}
        \prod_{i \in f} m_{f \to i}(x_i)^{-1}

    Args:
        member: ``(F,)`` the factors of the forest ``T``.
        reached: ``(E,)``, as written by :func:`breadth_first`.
        through: ``(|T|,)``, likewise.
        work: Working memory.
        ones: ``(2, max(M, S))``: units, and working memory for the elements' products.
        share: Weight of the forest.
        value: ``(B,)`` added to.
        stop: Checked before each row.
    """
    factor, slot, element, inbox = wiring.factor, wiring.slot, wiring.element, wiring.inbox
    unit_message, local, scratch = ones[0], ones[1], work.scratch
    for b in rows:
        table = numbers.table[b if numbers.table.shape[0] > 1 else 0]
        message, belief = numbers.message[b], numbers.belief[b]
        if stop[0]:
            return
        total = 0.0
        for i in range(element.shape[0] - 1):
            o, num = element[i, 0], element[i, 1]
            for x in range(num):
                local[o + x] = belief[o + x]
            for p in range(element[i, 2], element[i + 1, 2]):
                if member[inbox[p, 2]]:
                    m = inbox[p, 0]
                    for x in range(num):
                        local[o + x] = over(algebra, local[o + x], message[m + x])
                    total += logarithm(algebra, normalize(algebra, local, o, num))
        for k in range(through.shape[0] - 1, -1, -1):
            s = through[k]
            i = slot[s, 3]
            o, num = slot[s, 0], slot[s, 2]
            f = inbox[element[i, 2], 2]
            for p in range(element[i, 2], element[i + 1, 2]):
                if inbox[p, 1] == s:
                    f = inbox[p, 2]
            at = message_into(
                algebra, factor, slot, f, s, table, local, unit_message, work.state, scratch
            )
            for x in range(num):
                local[o + x] = times(algebra, local[o + x], scratch[at + x])
            total += logarithm(algebra, normalize(algebra, local, o, num))
        for i in range(element.shape[0] - 1):
            if reached[i] == -1:
                total += logarithm(algebra, normalize(algebra, local, element[i, 0], element[i, 1]))
        value[b] += share * total
