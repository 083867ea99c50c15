"""Likelihood weighting by executing a program many times."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import ExecutableModel
from pgnn.errors import ImpossibleEvidence, NotConverged, Unsupported
from pgnn.evidence.evidence import Evidence
from pgnn.inference.beliefs import Beliefs
from pgnn.inference.engine import Engine
from pgnn.inference.explanation import Explanation
from pgnn.inference.loop import Info, iterate
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples
from pgnn.limits import check_settings, check_work

Floats = NDArray[np.float64]

_TINY = 100


_EXECUTION = 10_000
"""Elementary steps of one execution."""


@dataclass
class _Draws:
    """Executions of one row."""

    codes: list[NDArray[np.int64]] = field(default_factory=list)
    reals: list[dict[Hashable, Tensor]] = field(default_factory=list)
    log_weights: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class ExecutionSampling(Engine):
    r"""Runs a program many times and weighs each run by the probability of what was seen in it.

    .. math:: \hat p(x = k \mid e) = \frac{\sum_s w_s [x_s = k]}{\sum_s w_s}, \qquad
              \hat p(e) = \tfrac{1}{n} \sum_s w_s, \qquad w_s = \prod_{i \in e} p(e_i \mid x_s)

    It needs nothing but that the program can be run: control flow may depend on latent values. A
    site that is not in every execution is answered about given that it is there.

    Args:
        samples: Executions for each row of evidence.
        seed: Same seed, same answer.
        progress: Show a progress bar if it takes longer than a second.
        why: Told in the answer's diagnostics as the reason, if there is one.

    Raises:
        ModelError: If ``samples`` is not positive.
        Unsupported: If the model is not a program.

    Cost:
        ``samples`` executions for each row.

    References:
        Fung and Chang (1990), Weighing and integrating evidence for stochastic simulation in
        Bayesian networks. Wood, van de Meent and Mansinghka (2014), A new approach to
        probabilistic programming inference.

    Example:
        >>> import pgnn, pyro, torch
        >>> from pyro.distributions import Bernoulli
        >>> def coins():
        ...     first = pyro.sample("first", Bernoulli(torch.tensor(0.5)))
        ...     if first:
        ...         pyro.sample("second", Bernoulli(torch.tensor(0.5)))
        >>> posterior = pgnn.Program(coins).query("first", engine=ExecutionSampling(seed=0))
        >>> posterior.kind, abs(float(posterior["first"].probs[1]) - 0.5) < 0.1
        ('estimate', True)
    """

    samples: int = 1000
    seed: int | None = None
    progress: bool = True
    why: str | None = None

    def __post_init__(self) -> None:
        check_settings(self, samples=1)

    def infer(self, question: Question) -> Beliefs:
        """See :class:`Engine`."""
        draws = self._drawn(question, self.samples, self.seed)
        found = [_estimates(question.model, d) for d in draws]
        told: dict[str, Any] = {} if self.why is None else {"reason": self.why}
        return Beliefs(
            torch.from_numpy(np.stack([marginals for marginals, _, _ in found])),
            torch.tensor([log_evidence for _, log_evidence, _ in found], dtype=torch.float64),
            diagnostics={
                **told,
                "num_samples": self.samples,
                "effective_sample_size": torch.tensor([size for _, _, size in found]).double(),
            },
        )

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """See :class:`Engine`; the draws have ``log_weights`` if something was seen."""
        model, seen = question.model, question.seen
        draws = self._drawn(question, n, self.seed if seed is None else seed)
        size = len(model.elements)
        codes = np.stack([np.array(d.codes, np.int64).reshape(n, size) for d in draws], axis=1)
        variables = tuple(model.variables.values())
        reals = {}
        for v in variables:
            if not v.is_discrete:
                nothing = torch.full(v.shape, torch.nan)
                rows = [torch.stack([r.get(v.name, nothing) for r in d.reals]) for d in draws]
                reals[v.name] = torch.stack(rows, dim=1)
        log_weights = torch.tensor([d.log_weights for d in draws], dtype=torch.float64).T
        if not seen.batched:
            reals = {k: x[:, 0] for k, x in reals.items()}
        return Samples(
            variables,
            torch.from_numpy(codes if seen.batched else codes[:, 0]),
            reals,
            batched=seen.batched,
            index=seen.index,
            log_weights=log_weights if seen.batched else log_weights[:, 0],
        )

    def answer_log_prob(self, question: Question) -> Tensor:
        """See :class:`Engine`: an estimate, of which the exponential is unbiased."""
        return self.infer(question).log_evidence + torch.from_numpy(question.seen.soft_scale)

    def check_rows(
        self, question: Question, log_values: Tensor, told: Mapping[str, Any], advice: str
    ) -> None:
        """See :class:`Engine`; too few executions may agree with what was seen."""
        lost = [int(k) for k in torch.nonzero(log_values.isneginf()).flatten()]
        if lost and question.errors == "raise":
            raise ImpossibleEvidence(
                f"none of {self.samples} executions agreed with the evidence in rows {lost[:5]}: "
                "it is impossible, or too rare for so few; draw more with ExecutionSampling(...)",
                tuple(lost),
            )
        sizes = told["effective_sample_size"]
        few = int(((sizes > 0) & (sizes < min(_TINY, self.samples))).sum())
        if few:
            warnings.warn(
                f"ExecutionSampling: {self.samples} executions are worth fewer than {_TINY} in "
                f"{few} of {len(sizes)} rows, too few to trust; draw more",
                NotConverged,
                stacklevel=5,
            )

    def describe(self, question: Question) -> Explanation:
        """See :class:`Engine`."""
        size = len(question.model.elements)
        return Explanation(
            engine=type(self).__name__,
            kind="estimate",
            reason="the program is run many times, runs are weighed by what was seen"
            + self._because,
            num_variables=size,
            memory_bytes=8.0 * self.samples * (size + 1),
        )

    @property
    def _because(self) -> str:
        return "" if self.why is None else f", because {self.why}"

    def _cannot(self, what: str, instead: str) -> Unsupported:
        return Unsupported(f"{type(self).__name__}() {what}{self._because}")

    def _drawn(self, question: Question, n: int, seed: int | None) -> list[_Draws]:
        """Executions for each row of evidence."""
        model: Any = question.model
        if not isinstance(model, ExecutableModel):
            raise Unsupported(
                "ExecutionSampling() runs programs (pgnn.Program); use ImportanceSampling() on "
                f"a {type(model).__name__}"
            )
        runs = _Runs(model, question.seen, n, np.random.default_rng(seed))
        total = n * question.num_rows
        check_work(f"{total:,} executions", total * _EXECUTION, "Take fewer samples")
        if total:
            iterate(runs, total, state=0, progress=self.progress, label="executions")
        return runs.draws


class _Runs:
    """Executions one after the other, row by row."""

    def __init__(self, model: Any, seen: Evidence, n: int, rng: np.random.Generator) -> None:
        self.model, self.seen, self.n, self.rng = model, seen, n, rng
        self.draws = [_Draws() for _ in range(seen.num_rows)]
        self._held = [self._findings(row) for row in range(seen.num_rows)]

    def init(self) -> int:
        """Begin."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Run once more."""
        row = state // self.n
        done = self.model.execute(self._held[row], int(self.rng.integers(2**62)))
        draws, elements = self.draws[row], self.model.elements
        codes = np.full(len(elements), -1, np.int64)
        for v in elements.variables:
            if v.name in done.values:
                codes[elements.numbers(v.name)] = done.values[v.name].cpu().numpy()
        draws.codes.append(codes)
        draws.reals.append({n: x for n, x in done.values.items() if n not in elements.first})
        soft = _soft(self.seen.soft, row, codes, elements.offset)
        draws.log_weights.append(float(done.log_weight) + soft)
        return state + 1, Info()

    def _findings(self, row: int) -> dict[Hashable, Tensor]:
        held: dict[Hashable, Tensor] = {n: x[row] for n, x in self.seen.reals.items()}
        for v in self.model.elements.variables:
            codes = self.seen.codes[row][self.model.elements.numbers(v.name)]
            if (np.asarray(codes) >= 0).any():
                held[v.name] = torch.as_tensor(np.asarray(codes), dtype=torch.int64)
        return held


def _soft(
    soft: Floats | None, row: int, codes: NDArray[np.int64], offset: NDArray[np.int64]
) -> float:
    """Log likelihood of the drawn states."""
    if soft is None:
        return 0.0
    there = codes >= 0
    with np.errstate(divide="ignore"):
        return float(np.log(soft[row, offset[:-1][there] + codes[there]]).sum())


def _estimates(model: Any, draws: _Draws) -> tuple[Floats, float, float]:
    """``(S,)`` marginals of all elements, the log evidence, the effective sample size."""
    elements = model.elements
    log_w = np.array(draws.log_weights)
    top = log_w.max(initial=-np.inf)
    marginals = np.full(int(elements.offset[-1]), np.nan)
    if not np.isfinite(top):
        return marginals, -np.inf, 0.0
    w = np.exp(log_w - top)
    codes = np.array(draws.codes).reshape(len(w), len(elements))
    sums = np.zeros(len(marginals))
    there = codes >= 0
    place = elements.offset[:-1] + np.maximum(codes, 0)
    np.add.at(sums, place[there], np.broadcast_to(w[:, None], codes.shape)[there])
    totals = np.add.reduceat(sums, elements.offset[:-1]) if len(elements) else np.zeros(0)
    with np.errstate(invalid="ignore"):
        marginals = sums / np.repeat(totals, elements.card)
    return marginals, float(top + np.log(w.mean())), float(w.sum() ** 2 / (w**2).sum())
