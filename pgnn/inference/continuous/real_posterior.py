"""Posteriors of real variables as draws, and of discrete variables as probabilities."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable
from pgnn.inference.answer_text import CELLS, diagnostics_text
from pgnn.inference.history import History
from pgnn.inference.posterior import LINES
from pgnn.inference.rank_diagnostics import rank_effective_sample_size, rank_r_hat
from pgnn.inference.samples import Samples
from pgnn.inference.with_reals import QUANTILES, WithReals


@dataclass(frozen=True, eq=False)
class RealMarginal:
    """The posterior of one real variable, as draws.

    Attributes:
        samples: ``(C, n, *shape)`` draws of each chain; ``NaN`` where a draw has no such value.
            Moments and quantiles are those of the others, and the diagnostics are then ``NaN``.

    Example:
        >>> marginal = RealMarginal(torch.arange(10.0).reshape(2, 5))
        >>> marginal.mean, marginal.quantile(0.5)
        (tensor(4.5000), tensor(4.5000))
    """

    samples: Tensor

    @property
    def draws(self) -> Tensor:
        """``(C n, *shape)`` concatenated draws of all chains."""
        return self.samples.flatten(end_dim=1)

    @property
    def mean(self) -> Tensor:
        """``(*shape)`` posterior mean."""
        return self.draws.nanmean(dim=0)

    @property
    def variance(self) -> Tensor:
        """``(*shape)`` posterior variance; ``NaN`` of fewer than two values."""
        present = (~self.draws.isnan()).sum(dim=0)
        squares = (self.draws - self.mean).square().nansum(dim=0)
        return squares / (present - 1).clamp_min(0)

    @property
    def std(self) -> Tensor:
        """``(*shape)`` posterior standard deviation."""
        return self.variance.sqrt()

    @property
    def stddev(self) -> Tensor:
        """Alias of :attr:`std`, as in torch distributions."""
        return self.std

    def quantile(self, q: float | Sequence[float]) -> Tensor:
        """Return quantiles, ``(*shape)`` for one level and ``(Q, *shape)`` for ``Q`` levels."""
        levels = torch.as_tensor(q, dtype=self.samples.dtype)
        return torch.nanquantile(self.draws, levels, dim=0)

    @property
    def r_hat(self) -> Tensor:
        r"""``(*shape)`` rank-normalised split :math:`\hat R`; near 1 if the chains agree."""
        return self._diagnosed(rank_r_hat)

    @property
    def effective_sample_size(self) -> Tensor:
        """``(*shape)`` effective sample size of the bulk of the distribution."""
        return self._diagnosed(rank_effective_sample_size)

    @property
    def standard_error(self) -> Tensor:
        """``(*shape)`` Monte Carlo standard error of the mean; NaN of less than four draws."""
        from pgnn.inference.diagnostics import standard_error

        if self.samples.shape[1] < 4:
            return torch.full_like(self.mean, torch.nan)
        return self._diagnosed(standard_error)

    def _diagnosed(self, diagnose: Callable[[Any], Any]) -> Tensor:
        """``(*shape)`` a diagnostic of the chains; ``NaN`` if a draw has no value."""
        values = self.samples.numpy()
        absent = np.isnan(values)
        with np.errstate(invalid="ignore"):  # infinite draws have no error
            found = diagnose(np.where(absent, 0.0, values))
        return torch.as_tensor(np.where(absent.any(axis=(0, 1)), np.nan, found))

    def __repr__(self) -> str:
        chains, n = self.samples.shape[:2]
        return f"RealMarginal({chains} chains of {n}, shape={tuple(self.samples.shape[2:])})"


class RealPosterior(WithReals):
    """A posterior with draws of real variables and probabilities of discrete variables.

    ``posterior["tau"]`` of a real variable is a :class:`RealMarginal`; otherwise it behaves like a
    :class:`Posterior`. Discrete marginals are averages of exact marginals given draws.

    Args:
        variables: The discrete targets.
        marginals: ``(1, S)`` probabilities of their states.
        reals: The real targets.
        draws: ``(C, n, *shape)`` values of all latent real variables.
        latent: All latent real variables, which the :attr:`samples` have; the targets by default.
        diagnostics: See :class:`pgnn.MCMC`.
        statistics: ``(C, n)`` statistics of each draw, by ArviZ's names.
    """

    statistic_names: ClassVar = (*WithReals.statistic_names, "ess", "r_hat")

    def __init__(
        self,
        variables: Sequence[Variable],
        marginals: Tensor,
        reals: Sequence[Variable],
        draws: Mapping[Hashable, Tensor],
        *,
        latent: Sequence[Variable] | None = None,
        diagnostics: Mapping[str, Any],
        statistics: Mapping[str, Any],
        engine: str = "MCMC",
    ) -> None:
        unknown_log_evidence = torch.full((1,), torch.nan, dtype=torch.float64)
        super().__init__(
            variables,
            marginals,
            unknown_log_evidence,
            batched=False,
            kind="estimate",
            engine=engine,
            diagnostics=diagnostics,
        )
        self.reals = {v.name: v for v in reals}
        self.latent = {v.name: v for v in (reals if latent is None else latent)}
        self.statistics = dict(statistics)
        self._draws: Mapping[Hashable, Tensor] = dict(draws)

    @property
    def samples(self) -> Samples:
        """The draws of all latent real variables and of the targets, concatenated over chains.

        They are evidence for the program with other arguments. An element of a variable is
        ``samples["x", 3]``.
        """
        variables = _with_latent(self.latent, self.reals)
        values = {v.name: self._draws[v.name].flatten(end_dim=1) for v in variables}
        number = next(iter(self._draws.values())).shape[:2].numel()
        return Samples(variables, torch.zeros(number, 0, dtype=torch.int64), values)

    def with_computed(
        self, variables: Sequence[Variable], values: Mapping[Hashable, Tensor]
    ) -> Self:
        """See :class:`WithReals`; their convergence diagnostics are added."""
        lead = next(iter(self._draws.values())).shape[:2]
        answer = super().with_computed(
            variables, {v.name: values[v.name].reshape(*lead, *v.shape) for v in variables}
        )
        r_hats = {v.name: float(answer.marginal(v.name).r_hat.max()) for v in variables}
        sizes = {v.name: answer.marginal(v.name).effective_sample_size.min() for v in variables}
        known = self.diagnostics
        answer.diagnostics = {
            **known,
            "r_hat": {**known["r_hat"], **r_hats},
            "effective_sample_size": {
                **known["effective_sample_size"],
                **{n: float(x) for n, x in sizes.items()},
            },
        }
        return answer

    def _statistics(self, name: Hashable, row: int) -> Sequence[Tensor]:
        marginal = self.marginal(name)
        moments = [marginal.mean, marginal.std, *marginal.quantile(QUANTILES)]
        return [*moments, marginal.effective_sample_size, marginal.r_hat]

    def to_arviz(self) -> Any:
        """Convert the draws and their statistics to ArviZ.

        Returns:
            ``InferenceData`` with the groups ``posterior`` and ``sample_stats``; a ``DataTree``
            with ArviZ 1.0 or later.

        Raises:
            Unsupported: If ArviZ is not installed.
        """
        try:
            arviz: Any = import_module("arviz")
        except ImportError:
            raise Unsupported(
                "to_arviz() requires ArviZ, which is not installed",
                "`pip install arviz`, or use summary(), diagnostics and samples",
            ) from None
        posterior = {str(n): self._draws[n].numpy() for n in self.reals}
        groups = {"posterior": posterior, "sample_stats": self.statistics}
        if arviz.__version__.startswith("0."):
            return arviz.from_dict(**groups)
        return arviz.from_dict(groups)

    def marginal(self, name: Hashable) -> RealMarginal:
        """See :class:`WithReals`."""
        return RealMarginal(self._draws[name])

    def __str__(self) -> str:
        parts = [self.summary().round(4).to_string()] if self.reals else []
        if self.variables:
            parts.append(self.table(max_lines=LINES, max_cells=CELLS))
        diagnostics = dict(self.diagnostics)
        diagnostics["divergences"] = int(np.sum(diagnostics.get("divergences", 0)))
        for name in ("acceptance", "step_size", "tree_depth"):
            if name in diagnostics:
                diagnostics[name] = float(np.mean(diagnostics[name]))
        parts.append(f"{self.engine} ({self.kind}): {diagnostics_text(diagnostics)}")
        return "\n".join(parts)


class VariationalPosterior(WithReals):
    r"""A variational approximation of :math:`p(z, r \mid e)`.

    ``posterior["tau"]`` of a real latent variable is a :class:`RealMarginal` of draws from the
    guide: ``mean``, ``std``, ``quantile`` and ``draws``, ``(n, *shape)`` or ``(n, B, *shape)``.
    Otherwise it behaves like a :class:`Posterior`. Discrete marginals are averages of exact
    marginals given draws.

    Args:
        variables: The discrete targets.
        marginals: ``(B, S)`` probabilities of their states.
        log_evidence: ``(B,)`` bounds; a single bound if rows share latents.
        reals: The real targets.
        draws: ``(n, B, *shape)`` draws of each variable; ``(n, *shape)`` of shared ones.
        latent: All real latent variables, which the :attr:`samples` have; the targets by default.
        shared: Names of the shared variables.
        history: History of the objective.
        **settings: Further arguments of :class:`Posterior`.

    Example:
        >>> import torch
        >>> draws = {"x": torch.tensor([[1.0], [3.0]])}
        >>> none, bound = torch.zeros(1, 0), torch.zeros(1)
        >>> posterior = VariationalPosterior([], none, bound, [Variable("x")], draws, batched=False)
        >>> posterior["x"].mean
        tensor(2.)
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        marginals: Tensor,
        log_evidence: Tensor,
        reals: Sequence[Variable],
        draws: Mapping[Hashable, Tensor],
        *,
        latent: Sequence[Variable] | None = None,
        shared: Sequence[Hashable] = (),
        history: History | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(variables, marginals, log_evidence, **settings)
        self.shared = tuple(shared)
        self.history = History() if history is None else history
        self.reals = {v.name: v for v in reals}
        self.latent = {v.name: v for v in (reals if latent is None else latent)}
        self._draws: Mapping[Hashable, Tensor] = dict(draws)

    @property
    def draws(self) -> Mapping[Hashable, Tensor]:
        """``(n, B, *shape)`` draws of the real latent variables; ``(n, *shape)`` of shared ones."""
        return self._draws

    @property
    def samples(self) -> Samples:
        """The draws of all real latent variables and of the targets, as samples.

        They are evidence for the program with other arguments. An element of a variable is
        ``samples["x", 3]``.

        Values are ``(n, *shape)``, or ``(n, B, *shape)`` if the evidence came in rows.
        """
        rows = (self.num_rows,) if self.batched else ()
        number, values = 0, {}
        variables = _with_latent(self.latent, self.reals)
        for v in variables:
            x = self._draws[v.name]
            x = x.unsqueeze(1) if v.name in self.shared else x
            number = len(x)
            x = x.expand(number, self.num_rows, *v.shape)
            values[v.name] = x if self.batched else x[:, 0]
        codes = torch.zeros(number, *rows, 0, dtype=torch.int64)
        return Samples(variables, codes, values, batched=self.batched, index=self.index)

    @property
    def log_evidence(self) -> Tensor:
        """``()`` or ``(B,)`` bounds on the log evidence; a single bound if rows share latents."""
        return self._log_evidence[0] if self.shared else super().log_evidence

    def _statistics(self, name: Hashable, row: int) -> Sequence[Tensor]:
        draws = self._draws[name].detach().double()
        row_draws = draws if name in self.shared else draws[:, row]
        quantiles = row_draws.quantile(row_draws.new_tensor(QUANTILES), dim=0)
        return [row_draws.mean(0), row_draws.std(0), *quantiles]

    def marginal(self, name: Hashable) -> RealMarginal:
        """See :class:`WithReals`."""
        draws = self._draws[name]
        row_draws = draws if self.batched or name in self.shared else draws[:, 0]
        return RealMarginal(row_draws.unsqueeze(0))


def _with_latent(
    latent: Mapping[Hashable, Variable], reals: Mapping[Hashable, Variable]
) -> list[Variable]:
    """Return all latent variables, and the targets that are neither these nor their elements."""
    others = [
        v
        for n, v in reals.items()
        if n not in latent and not (isinstance(n, tuple) and n[0] in latent)
    ]
    return [*latent.values(), *others]
