"""Gibbs sampling: many chains, each element drawn in turn given all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.cells import plain_numbers
from pgnn.inference.beliefs import Beliefs
from pgnn.inference.diagnostics import BatchSums
from pgnn.inference.engine import Engine
from pgnn.inference.expansion import WRITTEN
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.linear_predictors import split_predictors
from pgnn.inference.loop import Info, iterate
from pgnn.inference.numba_support import has_numba
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.real_units import DRAWS, RealUnitTargets, WeightedStates
from pgnn.inference.sampling.block_chains import block_chains
from pgnn.inference.sampling.cpu_gibbs import TemperedTables
from pgnn.inference.sampling.possibility import proven_impossible
from pgnn.limits import POSITIVE, Interval, check_real, check_settings, check_size, check_work

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BATCHES = 16
# numbers kept for each column of each chain: sums, squares, halves
_ROOM = 2**25


class GibbsChains(Protocol):
    """Chains of some rows of evidence, wherever they run."""

    def start(self) -> Ints:
        """Find states of positive probability; 0, 1 (given up) or 2 (impossible) a row."""

    def run(self, sweeps: int) -> None:
        """Sweep without keeping anything."""

    def collect(self, kept: int, thin: int) -> tuple[Any, Any]:
        """Sweep, and return ``(rows * C, S)`` sums of conditionals and of their squares."""

    def trace(self, kept: int, thin: int) -> Any:
        """Sweep, and return ``(kept, rows * C, E)`` states."""


@dataclass(frozen=True)
class Gibbs(Engine):
    r"""Markov chains that draw one element at a time from its full conditional.

    .. math:: x_i \sim p(x_i \mid x_{-i})^{1/T} \propto
        \Bigl(\psi_i(x_i) \prod_{f \ni i} \psi_f(x_f)\Bigr)^{1/T}

    A sweep visits all elements that were not observed, colour by colour: elements of one colour
    share no factor. Marginals are averages of the full conditionals at the visits
    (Rao-Blackwellised), which vary less than counts of the states. Half of the chains begin at
    states drawn from the factors, half at any possible states, so that chains which can't leave
    the place where they began are observed to disagree: ``diagnostics["r_hat"]`` is then large, and
    a warning says so. There is no estimate of the log evidence: it is ``NaN``.

    ``diagnostics`` hold, for each row: ``"r_hat"``, the largest over all states of all elements;
    ``"effective_sample_size"``, the smallest; ``"standard_error"``, the largest;
    ``"converged"``, whether ``r_hat <= max_r_hat``; and ``"sweeps"``, of each chain.

    Args:
        chains: Chains ``C`` for each row of evidence.
        burn_in: Sweeps of each chain before anything is kept.
        samples: Kept sweeps of each chain, for marginals.
        thin: Only each so many-th sweep is kept, or drawn.
        temperature: ``T``, or one for each chain (then only to draw samples). Hard evidence
            stays as it is.
        seed: The same seed gives the same answers, on any number of threads.
        max_r_hat: More is called not converged.
        progress: Show a bar if it takes longer than a second.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        A matrix product for a block of units and sweep where dense matrices join them;
        ``O(E)`` for a sweep where the neighbours of an element have up to 131,072 joint states
        (the full conditionals are then tables), else a product of its factors' columns. Of
        :class:`Sigmoid` and :class:`Softmax` children with many parents the sums are kept: a visit
        costs the number of an element's children.

    References:
        Geman and Geman (1984), IEEE PAMI 6(6). Gelfand and Smith (1990), JASA 85(410), section
        2.3, for the marginals. Gonzalez, Low, Gretton and Guestrin (2011), AISTATS, for colours.
        Gelman et al. (2013), Bayesian Data Analysis, section 11.4, for R-hat.

    Example:
        >>> import pgnn
        >>> model = pgnn.BayesianNetwork(
        ...     [("rain", "wet")], {"rain": [0.8, 0.2], "wet": [[0.9, 0.1], [0.2, 0.8]]}
        ... )
        >>> answer = model.query("rain", {"wet": 1}, engine=Gibbs(seed=0))
        >>> print(f"{answer['rain'].probs[1]:.3f}")  # one element: its conditional is exact
        0.667
    """

    chains: int = 4
    burn_in: int = 500
    samples: int = 2000
    thin: int = 1
    temperature: float | Sequence[float] = 1.0
    seed: int | None = None
    max_r_hat: float = 1.05
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, chains=1, samples=4, thin=1, max_r_hat=Interval(1.0))
        object.__setattr__(self, "temperature", plain_numbers(self.temperature))
        if not isinstance(self.temperature, Sequence):
            check_real("temperature", self.temperature, POSITIVE)
            return
        for t in self.temperature:
            check_real("a temperature", t, POSITIVE)
        if len(self.temperature) != self.chains:
            raise ModelError(
                f"temperature must be one number, or {self.chains}, one a chain; got "
                f"{self.temperature!r}"
            )

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperature of each chain."""
        if isinstance(self.temperature, Sequence):
            return tuple(float(t) for t in self.temperature)
        return (float(self.temperature),) * self.chains

    def reason(self) -> str:
        """Say in a few words what the engine does, for :meth:`explain`."""
        return (
            f"{self.chains} chains a row, {self.burn_in} sweeps of burn-in and {self.samples} kept"
        )

    def answer_query(self, question: Question) -> Posterior:
        """See :class:`Engine`: real units are mixed given draws of the discrete ones."""
        reals = RealUnitTargets.of(question)
        if reals is None:
            return super().answer_query(question)
        whole = super().answer_query(question.about(reals.discrete))
        codes, _ = self.draw(question.about(None), DRAWS, self.seed)
        return reals.answer(question, whole, WeightedStates.drawn(codes))

    def infer(self, question: Question) -> Beliefs:
        """Average full conditionals over the chains.

        Raises:
            Unsupported: If chains have different temperatures.
            EvidenceError: If no possible state was found for some row.
        """
        rows, columns = question.num_rows, int(question.graph.elements.offset[-1])
        self._check_cost(question, self.samples, columns)
        if len(set(self.temperatures)) > 1:
            raise Unsupported(
                "marginals are of one temperature; chains of different temperatures can only "
                "draw: use sample(), or one temperature"
            )
        marginals = np.full((rows, columns), np.nan)
        figures = np.full((3, rows), np.nan)
        impossible, doubted = np.zeros((2, rows), dtype=np.bool_)
        for first, last in self._blocks(rows, columns):
            chains = self._chains(question, (first, last), self.seed)
            now = slice(first, last)
            impossible[now], doubted[now] = self._started(question, chains, now)
            sums = BatchSums(last - first, self.chains, columns)
            steps = _Collecting(chains, sums, self)
            iterate(steps, steps.num, progress=self.progress, label="Gibbs")
            marginals[first:last] = sums.mean()
            figures[:, first:last] = _figures(sums)
        _fill_observed(question, marginals)
        marginals[impossible | doubted] = np.nan
        figures[:, impossible | doubted] = np.nan
        return self._beliefs(question, marginals, figures, impossible)

    def draw(self, question: Question, n: int, seed: int | None) -> tuple[Tensor, None]:
        """Draw ``(n, B, E)`` states: draw ``d`` comes from chain ``d % C``.

        Draws of one chain are ``thin`` sweeps apart, and depend on each other.

        Raises:
            EvidenceError: If no possible state was found for some row.
        """
        rows, elements = question.num_rows, len(question.graph.elements)
        self._check_cost(question, -(-n // self.chains), elements)
        out = np.empty((n, rows, elements), dtype=np.int64)
        each = -(-n // self.chains)
        for first, last in self._blocks(rows, elements * max(each, 1)):
            chains = self._chains(question, (first, last), self.seed if seed is None else seed)
            impossible = np.zeros(rows, dtype=np.bool_)
            impossible[first:last], _ = self._started(question, chains, slice(first, last))
            self.refuse(question, impossible)
            chains.run(self.burn_in)
            trace = np.asarray(chains.trace(each, self.thin)).astype(np.int64)
            drawn = trace.reshape(each, last - first, self.chains, elements).swapaxes(1, 2)
            drawn = drawn.reshape(each * self.chains, last - first, elements)[:n]
            out[:, first:last] = drawn
        return torch.from_numpy(out), None

    def answer_log_prob(self, question: Question) -> Tensor:
        """See :meth:`Engine.answer_log_prob`; rows must be complete."""
        if not question.complete:
            raise self._cannot(
                "has no estimate of log evidence, so that rows must be complete",
                "JunctionTree(), BeliefPropagation() or ImportanceSampling()",
            )
        return super().answer_log_prob(question)

    # --- helpers ------------------------------------------------------------------------------

    def _check_cost(self, question: Question, kept: int, columns: int) -> None:
        """Check memory and time of some kept sweeps of each chain.

        Raises:
            Intractable: If they are too much.
        """
        chains = self.chains * max(question.num_rows, 1)
        what = f"{self.chains:,} chains of {question.num_rows:,} rows"
        check_size(what, chains + 8 * self.chains * columns, advice="Take fewer chains")
        visits = chains * (self.burn_in + kept * self.thin) * len(question.graph.elements)
        check_work(f"{what} and {self.burn_in + kept * self.thin:,} sweeps", visits,
                   "Take fewer chains, samples, or burn_in, or less thin")  # fmt: skip

    def _blocks(self, rows: int, columns: int) -> Iterator[tuple[int, int]]:
        """Rows in turn, so many that what their chains keep fits."""
        step = max(1, _ROOM // (8 * self.chains * max(columns, 1)))
        for first in range(0, rows, step):
            yield first, min(first + step, rows)

    def _chains(self, question: Question, rows: tuple[int, int], seed: int | None) -> GibbsChains:
        question = _with_small_tables(question)
        graph, tables = question.graph, TemperedTables(question, self.temperatures, rows)
        words = np.random.SeedSequence(seed).generate_state(2 * rows[1] * self.chains)
        seeds = words.view(np.uint64)[rows[0] * self.chains :]
        blocks = block_chains(tables, seeds)
        if blocks is not None:
            return blocks
        visits = self.burn_in + self.samples * self.thin
        if graph.device.type == "cpu" and has_numba():
            if graph.written_down:
                from pgnn.inference.sampling.cpu_gibbs import CpuChains

                return CpuChains(tables, seeds, visits)
            rest, predictors = split_predictors(graph.elements, graph.groups)
            if all(g.written_down for g in rest):
                from pgnn.inference.sampling.predictor_chains import PredictorChains

                tables = replace(tables, question=question.over(FactorGraph(graph.elements, rest)))
                return PredictorChains(tables, seeds, visits, predictors)
        from pgnn.inference.sampling.torch_gibbs import TorchChains

        return TorchChains(tables, seeds)

    def _started(self, question: Question, chains: GibbsChains, rows: slice) -> tuple[Mask, Mask]:
        """Start the chains of some rows; return which are impossible, and which in doubt.

        Raises:
            EvidenceError: If no possible state was found for some row, unless that is NaN.
        """
        outcome = chains.start()
        doubted = np.zeros(question.num_rows, dtype=np.bool_)
        doubted[rows] = outcome == 1
        impossible = proven_impossible(question, doubted)
        doubted &= ~impossible
        self.check_found(question, doubted)
        return impossible[rows] | (outcome == 2), doubted[rows]

    def _beliefs(
        self, question: Question, marginals: Floats, figures: Floats, impossible: Mask
    ) -> Beliefs:
        graph, (r_hat, size, error) = question.graph, figures
        converged = (r_hat <= self.max_r_hat) | impossible
        names = ("r_hat", "effective_sample_size", "standard_error", "converged")
        diagnostics: dict[str, Any] = {
            name: torch.from_numpy(np.ascontiguousarray(value))
            for name, value in zip(names, (r_hat, size, error, converged), strict=True)
        }
        diagnostics["sweeps"] = self.burn_in + self.samples * self.thin
        return Beliefs(
            torch.from_numpy(marginals).to(graph.device, graph.dtype),
            torch.from_numpy(np.where(impossible, -np.inf, np.nan)).to(graph.device, graph.dtype),
            diagnostics=diagnostics,
            advice="" if converged.all() else self._advice(r_hat[~converged], size[~converged]),
        )

    def _advice(self, r_hat: Floats, size: Floats) -> str:
        if np.isnan(r_hat).all():
            return "no state of positive probability was found there; ask JunctionTree()"
        return (
            f"the chains did not mix: R-hat is up to {np.nanmax(r_hat):.3g} (at most "
            f"{self.max_r_hat:g} is wanted) and the effective sample size down to "
            f"{np.nanmin(size):.3g}; take more samples= and burn_in=, or ask JunctionTree() or "
            "BeliefPropagation()"
        )


def _with_small_tables(question: Question) -> Question:
    """The question with tables of all that is small enough: no element is added."""
    graph = question.graph
    if graph.written_down:
        return question
    groups = [g.as_tables() if g.num_entries <= WRITTEN else g for g in graph.groups]
    return question.over(FactorGraph(graph.elements, groups))


class _Collecting:
    """Burn-in, then batches of kept sweeps; one step is one of them."""

    def __init__(self, chains: GibbsChains, sums: BatchSums, engine: Gibbs) -> None:
        self._chains, self._sums, self._thin = chains, sums, engine.thin
        batches = min(_BATCHES, engine.samples)
        batches -= batches % 2
        self._burn = np.diff(np.linspace(0, engine.burn_in, 5).astype(int)).tolist()
        self._kept = np.diff(np.linspace(0, engine.samples, batches + 1).astype(int)).tolist()
        self.num = len(self._burn) + len(self._kept)

    def init(self) -> int:
        """Return the number of the first step."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Burn in or keep some sweeps."""
        batch = state - len(self._burn)
        if batch < 0:
            if self._burn[state]:
                self._chains.run(self._burn[state])
        else:
            count = self._kept[batch]
            half = int(2 * batch >= len(self._kept))
            self._sums.add(half, count, *self._chains.collect(count, self._thin))
        return state + 1, Info()


def _figures(sums: BatchSums) -> tuple[Floats, Floats, Floats]:
    """Worst R-hat, effective sample size and standard error of each row."""
    rows, chains, columns = sums.shape
    if not columns:
        return np.ones(rows), np.full(rows, float(sum(sums.count) * chains)), np.zeros(rows)
    return (
        sums.r_hat().max(axis=1),
        sums.effective_sample_size().min(axis=1),
        sums.standard_error().max(axis=1),
    )


def _fill_observed(question: Question, marginals: Floats) -> None:
    """Write what needs no chain: observed elements, and those of a single state."""
    elements = question.graph.elements
    codes = np.where(elements.card == 1, 0, question.observed.codes)
    rows, observed = np.nonzero(codes >= 0)
    hidden = np.repeat(codes >= 0, elements.card, axis=1)
    marginals[hidden] = 0.0
    marginals[rows, elements.offset[observed] + codes[rows, observed]] = 1.0
