"""The answer of variational inference: marginals of discrete variables, draws of real ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pgnn.factors.variable import Variable
from pgnn.inference.continuous.real_posterior import RealMarginal, WithReals
from pgnn.inference.history import History


class VariationalPosterior(WithReals):
    r"""What stands in for :math:`p(z, r \mid e)` after a variational fit.

    ``posterior["tau"]`` of a real latent variable is a :class:`RealMarginal` of draws from the
    guide: ``mean``, ``std``, ``quantile`` and ``draws``, ``(n, *shape)`` or ``(n, B, *shape)``. All
    else is as in :class:`Posterior`. The discrete marginals are averages of exact ones given draws.

    Args:
        variables: The discrete variables asked for.
        marginals: ``(B, S)`` their probabilities.
        log_evidence: ``(B,)`` bounds; one for all rows if they share latents.
        reals: The real latent variables.
        draws: ``(n, B, *shape)`` of each; ``(n, *shape)`` of shared ones.
        shared: Names of the shared ones.
        history: Of the objective.
        **rest: See :class:`Posterior`.

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
        shared: Sequence[Hashable] = (),
        history: History | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(variables, marginals, log_evidence, **rest)
        self.shared = tuple(shared)
        self.history = History() if history is None else history
        self.reals = {v.name: v for v in reals}
        self._draws = dict(draws)

    @property
    def log_evidence(self) -> Tensor:
        """``()`` or ``(B,)`` bounds of the log evidence; one of all rows if they share latents."""
        return self._log_evidence[0] if self.shared else super().log_evidence

    def summary(self, row: int = 0) -> Any:
        """Return a data frame with a row for each number of each real variable.

        Args:
            row: Which row of the evidence.

        Returns:
            Columns ``mean``, ``std``, ``5%``, ``50%`` and ``95%``.
        """
        import pandas as pd

        lines: list[Any] = []
        for name in self.reals:
            draws = self._draws[name].detach().double()
            own = draws if name in self.shared else draws[:, row]
            flat = own.reshape(len(own), -1)
            low, middle, high = flat.quantile(flat.new_tensor([0.05, 0.5, 0.95]), dim=0)
            columns = [flat.mean(0), flat.std(0), low, middle, high]
            lines += [*zip(*(c.tolist() for c in columns), strict=True)]
        index = pd.Index(self._names_of_numbers(), dtype=object)
        return pd.DataFrame(lines, index=index, columns=["mean", "std", "5%", "50%", "95%"])

    def marginal(self, name: Hashable) -> RealMarginal:
        """See :class:`WithReals`."""
        draws = self._draws[name]
        own = draws if self.batched or name in self.shared else draws[:, 0]
        return RealMarginal(own.unsqueeze(0))

    def __str__(self) -> str:
        return f"{self.summary().round(4).to_string()}\n{super().__str__()}"
