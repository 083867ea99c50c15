"""The answer of variational inference: marginals of discrete variables, draws of real ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pgnn.errors import EvidenceError, closest
from pgnn.factors.variable import Variable
from pgnn.inference.history import History
from pgnn.inference.posterior import Posterior


class VariationalPosterior(Posterior):
    r"""What stands in for :math:`p(z, r \mid e)` after a variational fit.

    Discrete variables have their marginals, averages of exact ones given the real variables. Real
    ones have draws.

    Args:
        variables: The discrete variables asked for.
        marginals: ``(B, S)`` their probabilities.
        log_evidence: ``(B,)`` bounds; one for all rows if they share latents.
        draws: ``(n, B, *shape)`` of the real latents; ``(n, *shape)`` of shared ones.
        shared: Names of the shared ones.
        history: Of the objective.
        **rest: See :class:`Posterior`.

    Example:
        >>> import torch
        >>> draws = {"x": torch.tensor([[1.0], [3.0]])}
        >>> none = torch.zeros(1, 0)
        >>> posterior = VariationalPosterior([], none, torch.zeros(1), draws, batched=False)
        >>> posterior.mean("x")
        tensor(2.)
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        marginals: Tensor,
        log_evidence: Tensor,
        draws: Mapping[Hashable, Tensor],
        *,
        shared: Sequence[Hashable] = (),
        history: History | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(variables, marginals, log_evidence, **rest)
        self.shared = tuple(shared)
        self.history = History() if history is None else history
        self._draws = dict(draws)

    @property
    def log_evidence(self) -> Tensor:
        """``()`` or ``(B,)`` bounds of the log evidence; one of all rows if they share latents."""
        return self._log_evidence[0] if self.shared else super().log_evidence

    @property
    def reals(self) -> tuple[Hashable, ...]:
        """Names of the real variables that have draws."""
        return tuple(self._draws)

    def draws(self, name: Hashable) -> Tensor:
        """Return ``(n, *shape)`` or ``(n, B, *shape)`` draws of a real variable.

        Raises:
            EvidenceError: If it has none.
        """
        if name not in self._draws:
            raise EvidenceError(f"{name!r} was not approximated{closest(name, self._draws)}")
        found = self._draws[name]
        return found if self.batched or name in self.shared else found[:, 0]

    def mean(self, name: Hashable) -> Tensor:
        """Return the mean of a real variable, ``(*shape)`` or ``(B, *shape)``."""
        return self.draws(name).mean(0)

    def std(self, name: Hashable) -> Tensor:
        """Return the standard deviation of a real variable, ``(*shape)`` or ``(B, *shape)``."""
        return self.draws(name).std(0)

    def real_frame(self) -> Any:
        """Return means, standard deviations and quantiles of the real variables of one row.

        Returns:
            A row for each number, indexed by its variable and its place in it.
        """
        import pandas as pd

        lines, index = [], []
        for name in self.reals:
            draws = self.draws(name).detach().double()
            x = draws.reshape(len(draws), -1)
            for k in range(x.shape[1]):
                own = x[:, k]
                low, middle, high = own.quantile(own.new_tensor([0.05, 0.5, 0.95])).tolist()
                lines.append([float(own.mean()), float(own.std()), low, middle, high])
                index.append((name, k))
        labels = pd.MultiIndex.from_tuples(index, names=["variable", "place"])
        return pd.DataFrame(lines, index=labels, columns=["mean", "std", "5%", "50%", "95%"])

    def __repr__(self) -> str:
        return (
            f"<VariationalPosterior of {len(self)} discrete and {len(self.reals)} real variables>"
        )
