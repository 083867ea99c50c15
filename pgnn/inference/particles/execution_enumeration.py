"""Exact inference by enumerating all executions of a program."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import ExecutableModel
from pgnn.errors import Intractable, Unsupported
from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.beliefs import Beliefs, Best
from pgnn.inference.engine import Engine
from pgnn.inference.explanation import Explanation
from pgnn.inference.particles.executions import (
    executable,
    held_of,
    log_likelihoods,
    weighted_marginals,
)
from pgnn.inference.question import Question
from pgnn.limits import check_settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Held = Mapping[Hashable, Tensor]

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class ExecutionEnumeration(Engine):
    r"""Runs a program once for each combination of its discrete choices.

    .. math:: p(e) = \sum_z p(z, e), \qquad p(z_i = k \mid e) \propto \sum_{z : z_i = k} p(z, e)

    The answer is exact. Control flow may depend on choices, and a site may depend on all elements
    of a plate jointly; no tables are needed. The posterior of a site that is not in every execution
    is conditional on its presence. Latent real sites must not have descendants.

    Args:
        max_executions: Largest number of executions per row of evidence.

    Raises:
        ModelError: If ``max_executions`` is not positive.
        Intractable: If there are more.
        Unsupported: If the model is not a program, or a real latent site has descendants.

    Cost:
        One execution per combination of states, batched if the program has the same sites in all of
        them; otherwise one by one, with an additional execution per choice.

    References:
        Goodman and Stuhlmüller (2014), The design and implementation of probabilistic programming
        languages, chapter 5 (exploring the executions of a random computation).

    Example:
        >>> import pgnn, pyro, torch
        >>> from pyro.distributions import Bernoulli, Normal
        >>> def total():
        ...     with pyro.plate("three", 3):
        ...         z = pyro.sample("z", Bernoulli(torch.tensor([0.2, 0.5, 0.6])))
        ...     pyro.sample("x", Normal(z.sum(-1), 1.0))
        >>> posterior = pgnn.Program(total).query("z", {"x": 2.2}, engine=ExecutionEnumeration())
        >>> posterior.kind, f"{float(posterior.log_evidence):.6f}"
        ('exact', '-1.421077')
    """

    max_executions: int = 10_000

    def __post_init__(self) -> None:
        check_settings(self, max_executions=1)

    def infer(self, question: Question) -> Beliefs:
        """See :class:`Engine`."""
        runs = self._all_executions(question)
        elements = question.model.elements
        total = int(elements.offset[-1]) if len(elements) else 0
        marginals, log_evidence = np.full((len(runs), total), np.nan), np.empty(len(runs))
        for row, (codes, logs) in enumerate(runs):
            log_evidence[row] = _log_sum(logs)
            if np.isneginf(log_evidence[row]) or not total:
                continue
            weights = np.exp(logs - log_evidence[row])
            marginals[row] = weighted_marginals(elements, codes, weights)
        diagnostics = {"num_executions": max((len(c) for c, _ in runs), default=0)}
        return Beliefs(
            torch.from_numpy(marginals), torch.from_numpy(log_evidence), "exact", diagnostics
        )

    def maximize(self, question: Question, maximized: NDArray[np.bool_]) -> Best:
        """See :class:`Engine`; other variables are summed out."""
        rankings = [
            _ranked(codes, logs, maximized) for codes, logs in self._all_executions(question)
        ]
        states = np.stack([c[0] for c, _ in rankings])
        best = torch.from_numpy(np.array([x[0] for _, x in rankings]))
        return Best(torch.from_numpy(states), best, best)

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """See :class:`Engine`; also the ``k`` best."""
        if k == 1:
            return super().answer_most_probable(question, 1)
        targets, observed = question.targets, question.observed
        rows = len(observed.soft_scale)
        states = np.full((rows, k, len(targets.numbers)), -1, np.int64)
        values = np.full((rows, k), -np.inf)
        for row, (codes, logs) in enumerate(self._all_executions(question)):
            ranked, scores = _ranked(codes, logs, targets.mask)
            most = min(k, len(scores))
            states[row, :most] = ranked[:most][:, targets.numbers]
            values[row, :most] = scores[:most] + observed.soft_scale[row]
        return KBest(
            targets.variables,
            torch.from_numpy(states),
            torch.from_numpy(values),
            batched=observed.batched,
            index=observed.index,
        )

    def draw(self, question: Question, n: int, seed: int | None) -> tuple[Tensor, Tensor | None]:
        """See :class:`Engine`; independent draws."""
        rng = np.random.default_rng(seed)
        rows = []
        for row, (codes, logs) in enumerate(self._all_executions(question)):
            total = _log_sum(logs)
            self.check_rows(question, torch.tensor([total]), {}, f"row {row}")
            rows.append(codes[rng.choice(len(codes), n, p=np.exp(logs - total))])
        return torch.from_numpy(np.stack(rows, axis=1)), None

    def answer_log_prob(self, question: Question) -> Tensor:
        """See :class:`Engine`."""
        scale = torch.from_numpy(question.observed.soft_scale)
        return self.infer(question).log_evidence + scale

    def describe(self, question: Question) -> Explanation:
        """See :class:`Engine`."""
        executable(question, type(self).__name__)
        size = len(question.model.elements)
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason="the program is executed for each combination of its discrete choices",
            num_variables=size,
            memory_bytes=8.0 * self.max_executions * (size + 1),
        )

    def _all_executions(self, question: Question) -> list[tuple[Ints, Floats]]:
        """``(M, E)`` states in all executions of each row, and their ``(M,)`` log probabilities."""
        model: Any = executable(question, type(self).__name__)
        executions = []
        for row in range(question.num_rows):
            held = held_of(question, row)
            try:
                codes, logs = self._side_by_side(model, held)
            except Unsupported:
                codes, logs = self._one_by_one(model, held)
            executions.append((codes, logs + log_likelihoods(question, row, codes)))
        return executions

    def _side_by_side(self, model: Any, held: Held) -> tuple[Ints, Floats]:
        """All combinations of states in one batched execution."""
        elements = model.elements
        rest = {n: x for n, x in held.items() if n not in elements.first}
        known = np.full(len(elements), -1)
        for v in elements.variables:
            if v.name in held:
                known[np.asarray(elements.numbers(v.name)).ravel()] = held[v.name].reshape(-1)
        free = [int(k) for k in elements.card[known < 0]]
        number = math.prod(free)
        if number > self.max_executions:
            raise Intractable(
                f"the discrete choices have {number:,} combinations, at most "
                f"{self.max_executions:,} are enumerated",
                "use ExecutionSampling()",
            )
        codes = np.tile(known, (number, 1))
        codes[:, known < 0] = np.indices(free).reshape(len(free), number).T
        each = {
            v.name: torch.from_numpy(
                codes[:, np.asarray(elements.numbers(v.name)).ravel()].reshape(number, *v.shape)
            )
            for v in elements.variables
        }
        runs = []
        for seed in (0, 1):
            total = np.zeros(number)

            def weigh(term: Tensor, total: Floats = total) -> None:
                total += term.numpy()

            model.execute_together(rest, number, seed, weigh, each=each)
            runs.append(total)
        _check_same(*runs)
        return codes, runs[0]

    def _one_by_one(self, model: ExecutableModel, held: Held) -> tuple[Ints, Floats]:
        """Executions one by one; the states of a choice are enumerated when it is first reached."""
        elements: Any = model.elements  # type: ignore[attr-defined]
        states, logs, count = [], [], 0
        ahead: list[Held] = [held]
        while ahead:
            known = ahead.pop()
            count += 1
            if count > self.max_executions:
                raise Intractable(
                    f"after {count - 1:,} executions some combinations of choices have not been "
                    "enumerated",
                    "use ExecutionSampling()",
                )
            done = model.execute(known, 0)
            if done.unnamed:
                raise Unsupported(
                    f"site {done.unnamed[0]!r} was not known before", "use ExecutionSampling()"
                )
            open_ = next((v for v in _order(elements, done.values) if _is_open(v, known)), None)
            if open_ is not None:
                ahead += self._tried(open_, known)
                continue
            if np.isneginf(float(done.log_weight)):
                continue
            again = model.execute(known, 1)
            _check_same(np.array([float(done.log_weight)]), np.array([float(again.log_weight)]))
            codes = np.full(len(elements), -1, np.int64)
            for v in elements.variables:
                if v.name in done.values:
                    codes[elements.numbers(v.name)] = done.values[v.name].numpy(force=True)
            states.append(codes)
            logs.append(float(done.log_weight))
        if not states:
            return np.full((1, len(elements)), -1, np.int64), np.array([-np.inf])
        return np.stack(states), np.array(logs)

    def _tried(self, variable: Variable, known: Held) -> Iterator[Held]:
        """All joint states of the unobserved cells of one variable."""
        before = known.get(variable.name, torch.full(variable.shape, -1))
        cells = (before.reshape(-1) < 0).nonzero()[:, 0]
        if variable.num_states ** len(cells) > self.max_executions:
            raise Intractable(
                f"the {len(cells)} elements of {variable.name!r} have more than "
                f"{self.max_executions:,} joint states",
                "use ExecutionSampling()",
            )
        for choice in itertools.product(range(variable.num_states), repeat=len(cells)):
            value = before.reshape(-1).clone()
            value[cells] = torch.tensor(choice, dtype=value.dtype)
            yield {**known, variable.name: value.reshape(variable.shape)}


def _order(elements: Any, values: Held) -> list[Variable]:
    """The discrete variables of one execution, in the order in which it reached them."""
    known = {v.name: v for v in elements.variables}
    return [known[n] for n in values if n in known]


def _is_open(variable: Variable, known: Held) -> bool:
    codes = known.get(variable.name)
    return codes is None or bool((codes < 0).any())


def _check_same(one: Floats, other: Floats) -> None:
    """Raise an error if executions that differ only in real values have different weights."""
    if not np.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise Unsupported(
            "a latent real site has descendants, and cannot be enumerated",
            "use ExecutionSampling()",
        )


def _ranked(codes: Ints, logs: Floats, kept: NDArray[np.bool_]) -> tuple[Ints, Floats]:
    """The joint states of some elements, others summed out, most probable first."""
    states, inverse = np.unique(np.where(kept, codes, -1), axis=0, return_inverse=True)
    scores = np.full(len(states), -np.inf)
    np.logaddexp.at(scores, inverse.ravel(), logs)
    order = np.argsort(-scores, kind="stable")
    return states[order], scores[order]


def _log_sum(logs: Floats) -> float:
    return float(np.logaddexp.reduce(logs)) if len(logs) else -np.inf
