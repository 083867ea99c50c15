"""Annealed importance sampling: log Z between a stochastic lower and a stochastic upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.cells import plain_numbers
from pgnn.inference.beliefs import Beliefs
from pgnn.inference.diagnostics import weighted_sample_size
from pgnn.inference.engine import Engine
from pgnn.inference.expansion import WRITTEN
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.local_search import score, unsettled
from pgnn.inference.loop import Info, iterate
from pgnn.inference.question import Question
from pgnn.inference.sampling.chain_starts import (
    chain_rows,
    exact_draws,
    log_normalisers,
    most_likely_states,
    streams_of,
    walled,
)
from pgnn.inference.sampling.compilation import KERNELS
from pgnn.inference.sampling.possibility import proven_impossible
from pgnn.inference.threads import Stop, in_threads, interruptible
from pgnn.inference.wiring import LocalWiring
from pgnn.limits import Interval, check_real, check_settings, check_size, check_work, whole_number

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Codes = NDArray[np.int32]

_STEPS = 50
_VISIT = 20.0  # nanoseconds
# log distance below a factor's smallest finite value that replaces its zeros along the path
_WALL = 20.0


class PathChains(NamedTuple):
    """The state of chains: ``(C, E)`` states, ``(C,)`` random streams and log weights."""

    states: Codes
    streams: NDArray[np.uint64]
    log_weights: Floats


@dataclass(frozen=True, eq=False)
class AnnealingPath:
    r"""Distributions :math:`p_\beta \propto e^{h(x) + \beta U(x)}` for each row of evidence.

    Attributes:
        graph: The factors.
        wiring: Wiring of the graph.
        tables: ``(1, T)`` or ``(B, T)`` log values of U, finite.
        fields: ``(B, S)`` unary log potentials h, evidence included.
        free: ``(B, E)`` elements to sample.
        betas: Inverse temperatures from 0 to 1.
        sweeps: Number of sweeps at each inverse temperature.
        log_start: ``(B,)`` log partition function at inverse temperature 0, including the model's
            constant; ``-inf`` if an element has no possible state.
    """

    graph: FactorGraph
    wiring: LocalWiring
    tables: Floats
    fields: Floats
    free: Mask
    betas: Floats
    sweeps: int
    log_start: Floats

    @classmethod
    def prepare(cls, question: Question, betas: Floats, sweeps: int) -> AnnealingPath:
        """Read a query."""
        graph, fields = question.graph, np.ascontiguousarray(question.log_field())
        constant = graph.log_constant.detach().cpu().double().numpy()
        start = constant + log_normalisers(fields, graph.elements.offset).sum(axis=1)
        return cls(
            graph,
            graph.local_wiring,
            walled(graph, _WALL),
            fields,
            unsettled(graph, fields) & ~np.isneginf(start)[:, None],
            betas,
            sweeps,
            start,
        )

    def walk(self, at: PathChains, chains: int, betas: Floats, sweeps: int) -> None:
        """Move chains along some inverse temperatures, in place; in reverse if these decrease."""
        from pgnn.inference.sampling.kernels.annealing import follow_path

        backward = bool(betas[-1] < betas[0])
        cost = _VISIT * sweeps * len(betas) * at.states.size
        # forward, backward
        follow = KERNELS.choose(follow_path, 2 * cost * len(self.betas) / len(betas))

        def run(part: Ints, stop: Stop) -> None:
            follow(
                self.wiring, self.tables, self.fields, self.free, part, betas, backward, sweeps,
                *at, stop,
            )  # fmt: skip

        in_threads(run, chain_rows(len(self.fields), chains), cost)

    def violated(self, states: Codes) -> Mask:
        """``(B, C)`` whether ``(B, C, E)`` states are impossible."""
        rows, chains = states.shape[:2]
        flat = states.reshape(rows * chains, states.shape[2])
        value = score(self.graph, self.fields, flat, np.repeat(np.arange(rows), chains))
        return np.asarray(~np.isfinite(value).reshape(rows, chains))

    def smoothed(self, states: Codes, shares: Floats) -> Floats:
        """``(B, S)`` averages of each element's full conditional.

        Args:
            states: ``(B, C, E)`` states, possible where the weight is positive.
            shares: ``(B, C)`` normalised weights.
        """
        from pgnn.inference.sampling.kernels.annealing import smooth

        rows, chains = shares.shape
        marginals = np.zeros(self.fields.shape)
        flat = np.ascontiguousarray(states).reshape(rows * chains, states.shape[2])
        tables = np.ascontiguousarray(self.graph.log_tables)
        number, share = chain_rows(rows, chains), np.ascontiguousarray(shares.ravel())
        cost = _VISIT * flat.size
        average = KERNELS.choose(smooth, cost)

        def run(stop: Stop) -> None:
            average(self.wiring, tables, self.fields, number, share, flat, marginals, stop)

        interruptible([run], cost=cost)
        return marginals


@dataclass(frozen=True, eq=False)
class PathWalk:
    """Chains along an annealing path, as an iterative method: each step is a part of the path.

    Attributes:
        path: The annealing path.
        at: The initial chains, changed in place.
        chains: Number of chains per row.
        betas: Inverse temperatures along the path.
    """

    path: AnnealingPath
    at: PathChains
    chains: int
    betas: Floats

    @property
    def size(self) -> int:
        """Number of temperatures in one step."""
        return max(_STEPS, -(-(len(self.betas) - 1) // _STEPS))

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return -(-(len(self.betas) - 1) // self.size)

    def init(self) -> int:
        """Return the number of completed temperatures."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Advance along a part of the path."""
        part = self.betas[state : state + self.size + 1]
        self.path.walk(self.at, self.chains, part, self.path.sweeps)
        return state + len(part) - 1, Info(values={"inverse temperature": float(part[-1])})


# below this effective sample size neither estimates nor standard errors are reliable
_ENOUGH = 5.0
_ADVICE = "take more temperatures"


@dataclass(frozen=True)
class AnnealedImportanceSampling(Engine):
    r"""Partition function by annealed importance sampling, forward and in reverse.

    Each chain starts from the normalised product of the unary potentials,
    :math:`p_0 \propto e^{h(x)}`, and is moved by Gibbs sweeps along
    :math:`p_\beta \propto e^{h(x) + \beta U(x)}`, U the sum of the other log factors. Its weight
    :math:`\log w = \sum_t (\beta_t - \beta_{t-1}) U(x_{t-1})` has :math:`E[w] = Z / Z_0`, so that
    :math:`E[\log w] + \log Z_0 \le \log Z`: in expectation a lower bound. In reverse, chains
    start from the model itself, and minus their log weights bound log Z from above in
    expectation. The answer's log evidence is :math:`\log Z_0 + \log \bar w`; marginals are
    conditionals given the rest of the final states, weighted.

    Along the path, zeros of a factor are replaced by a log value 20 below its smallest finite one;
    a chain that ends in an impossible state has weight zero, so that both bounds hold.
    Diagnostics, ``(B,)`` each: ``lower`` and ``upper`` with ``lower_error`` and ``upper_error``;
    ``standard_error`` of the log evidence (delta method); ``effective_sample_size``,
    :math:`(\sum w)^2 / \sum w^2`. ``exact_reverse`` is whether the reverse chains started from
    exact samples of the junction tree. If the treewidth is too large for that, they start from the
    final states, resampled, and ``upper`` is only as reliable as those.

    Args:
        chains: Number of chains per row of evidence.
        temperatures: Number of evenly spaced steps; or inverse temperatures from 0 to 1.
        sweeps: Number of sweeps at each inverse temperature.
        reverse: Whether to run the reverse chains.
        seed: Random seed of the draws; the same seed gives the same answer.
        progress: Whether to show a progress bar if it takes longer than a second.

    Raises:
        ModelError: If a setting is not positive, or temperatures do not increase from 0 to 1.

    Cost:
        ``chains * temperatures * sweeps`` visits of every element per row, twice with ``reverse``;
        see :class:`~pgnn.inference.sampling.annealing.Annealing`.

    References:
        Neal (2001), Annealed importance sampling; Burda, Grosse & Salakhutdinov (2015) and
        Grosse, Ghahramani & Adams (2015) for the reverse.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> found = model.query("a", {"b": 1}, engine=AnnealedImportanceSampling(seed=0))
        >>> float(abs(found.log_evidence.exp() - 0.45)) < 0.01
        True
    """

    chains: int = 100
    temperatures: int | Sequence[float] = 1000
    sweeps: int = 1
    reverse: bool = True
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, chains=1, sweeps=1)
        object.__setattr__(self, "temperatures", plain_numbers(self.temperatures))
        if not isinstance(self.temperatures, Sequence):
            number = whole_number("temperatures", self.temperatures, 1, ModelError)
            check_size(f"{number:,} temperatures", number, advice="Take fewer")
            return
        for beta in self.temperatures:
            check_real("an inverse temperature", beta, Interval(0.0, 1.0))
        betas = self.betas
        if len(betas) < 2 or betas[0] != 0.0 or betas[-1] != 1.0 or (np.diff(betas) <= 0.0).any():
            raise ModelError(
                "temperatures must be a positive number of steps, or inverse temperatures "
                f"that increase from 0 to 1, got {self.temperatures}"
            )

    @property
    def betas(self) -> Floats:
        """Inverse temperatures from 0 to 1."""
        if isinstance(self.temperatures, Sequence):
            return np.array(self.temperatures, dtype=np.float64)
        return np.linspace(0.0, 1.0, self.temperatures + 1)

    def reason(self) -> str:
        """See the base class."""
        return "annealed importance sampling" + (", forward and in reverse" * self.reverse)

    def infer(self, question: Question) -> Beliefs:
        """See :meth:`Engine.infer`."""
        columns, question = question.graph.offset[-1], question.expanded(WRITTEN)
        self._check_cost(question, self.chains)
        path = AnnealingPath.prepare(question, self.betas, self.sweeps)
        forward, backward = np.random.default_rng(self.seed).integers(2**63, size=2).tolist()
        shape = (question.num_rows, self.chains)
        states, log_weights = self._forward(path, shape, forward)
        total = _log_mean(log_weights)
        weights = np.exp(log_weights - _finite(log_weights.max(axis=1))[:, None])
        lost = np.isneginf(total)
        mean = np.where(lost, 1.0, weights.mean(axis=1))
        size = weighted_sample_size(weights.sum(axis=1), (weights**2).sum(axis=1))
        shares = np.where(lost[:, None], 0.0, weights / (mean[:, None] * self.chains))
        marginals = path.smoothed(states, shares)
        marginals[lost] = np.nan
        start = path.log_start
        impossible = proven_impossible(question, lost)
        diagnostics = {
            "lower": start + log_weights.mean(axis=1),
            "lower_error": _error(log_weights),
            "standard_error": np.where(lost, np.nan, _error(weights) / mean),
            "effective_sample_size": size,
            "converged": (size >= min(_ENOUGH, self.chains)) | impossible,
        }
        if self.reverse:
            diagnostics |= self._backward(question, path, states, shares, backward)
        log_evidence = np.where(lost & ~impossible, np.nan, start + total)
        self.check_found(question, lost & ~impossible)
        return Beliefs(
            torch.from_numpy(marginals[:, :columns]).to(question.graph.dtype),
            torch.from_numpy(log_evidence).to(question.graph.dtype),
            kind="estimate",
            diagnostics=diagnostics,
            advice=_ADVICE,
        )

    def draw(self, question: Question, n: int, seed: int | None) -> tuple[Tensor, Tensor]:
        """See :meth:`Engine.draw`: final states with their log weights."""
        num_elements, question = len(question.model.elements), question.expanded(WRITTEN)
        self._check_cost(question, n)
        path = AnnealingPath.prepare(question, self.betas, self.sweeps)
        number = int(np.random.default_rng(self.seed if seed is None else seed).integers(2**63))
        states, log_weights = self._forward(path, (question.num_rows, n), number)
        lost = np.asarray(np.isneginf(log_weights).all(axis=1) & (n > 0))
        impossible = proven_impossible(question, lost)
        self.refuse(question, impossible)
        self.check_found(question, lost & ~impossible)
        return (
            torch.from_numpy(states[..., :num_elements].transpose(1, 0, 2).astype(np.int64)),
            torch.from_numpy(np.ascontiguousarray(log_weights.T)),
        )

    def _check_cost(self, question: Question, chains: int) -> None:
        """Check the memory and time of the chains.

        Raises:
            Intractable: If they exceed the limits.
        """
        elements, total = len(question.graph.elements), chains * question.num_rows
        what = f"{chains:,} chains of {question.num_rows:,} rows"
        check_size(what, total * (elements + 8), advice="Take fewer chains")
        steps = (len(self.betas) - 1) * self.sweeps
        check_work(f"{what} and {steps:,} sweeps", total * elements * steps * (1 + self.reverse),
                   "Take fewer chains, temperatures or sweeps")  # fmt: skip

    def _forward(
        self, path: AnnealingPath, shape: tuple[int, int], seed: int
    ) -> tuple[Any, Floats]:
        """``(B, C, E)`` final states and ``(B, C)`` log weights."""
        rows, chains = shape
        states = np.repeat(most_likely_states(path.wiring, path.fields), chains, axis=0)
        at = PathChains(states, streams_of(seed, rows, chains).ravel(), np.zeros(rows * chains))
        # elements are independent at infinite temperature
        path.walk(at, chains, np.zeros(2), sweeps=1)
        walk = PathWalk(path, at, chains, path.betas)
        iterate(walk, walk.steps, progress=self.progress, label="Annealed importance sampling")
        states = at.states.reshape(rows, chains, states.shape[1])
        log_weights = np.where(
            np.isneginf(path.log_start)[:, None] | path.violated(states),
            -np.inf,
            at.log_weights.reshape(shape),
        )
        return states, log_weights

    def _backward(
        self, question: Question, path: AnnealingPath, states: Any, shares: Floats, seed: int
    ) -> dict[str, Any]:
        """Return the stochastic upper bound; NaN for rows without an initial state."""
        rng = np.random.default_rng(seed)
        rows, chains = shares.shape
        drawn = exact_draws(question, chains, int(rng.integers(2**31)))
        exact = drawn is not None
        if drawn is None:
            # rows without a possible final state are handled below
            picks = [rng.choice(chains, chains, p=s if s.sum() else None) for s in shares]
            drawn = np.stack([x[k] for x, k in zip(states, picks, strict=True)]) if rows else states
        lost = np.any(path.violated(drawn), axis=1)
        begin = np.array(drawn, dtype=np.int32, order="C").reshape(rows * chains, drawn.shape[2])
        at = PathChains(
            begin,
            streams_of(int(rng.integers(2**31)), rows, chains).ravel(),
            np.zeros(rows * chains),
        )
        walk = PathWalk(path, at, chains, path.betas[::-1].copy())
        iterate(walk, walk.steps, progress=self.progress, label="Reverse")
        down = -at.log_weights.reshape(rows, chains)
        upper = np.where(lost, np.nan, path.log_start + down.mean(axis=1))
        return {"upper": upper, "upper_error": _error(down), "exact_reverse": exact}


def _finite(level: Floats) -> Floats:
    return np.where(np.isfinite(level), level, 0.0)


def _log_mean(logs: Floats) -> Floats:
    """``(B,)`` log of the mean of exponentials."""
    level = _finite(logs.max(axis=1))
    with np.errstate(divide="ignore"):
        return np.asarray(level + np.log(np.exp(logs - level[:, None]).mean(axis=1)))


def _error(values: Floats) -> Floats:
    """``(B,)`` standard error of the mean; NaN if it is undefined."""
    if values.shape[1] < 2:
        return np.full(len(values), np.nan)
    bounded: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
    held = np.where(bounded[:, None], values, 0.0)
    error = held.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    return np.asarray(np.where(bounded, error, np.nan))
