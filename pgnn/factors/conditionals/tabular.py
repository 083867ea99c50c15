"""Conditional probability tables."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Categorical

from pgnn.errors import ChecksArguments, Intractable, ModelError
from pgnn.factors.conditionals.checks import MAX_TABLE, check_rows, require_table
from pgnn.factors.conditionals.conjugate import Beliefs, Conjugate
from pgnn.factors.conditionals.declared_zeros import DeclaredZeros
from pgnn.factors.conditionals.exponential_family import (
    LEAST_COUNT,
    ExponentialFamily,
    Statistics,
)
from pgnn.factors.conditionals.table_reader import read_table
from pgnn.factors.factor import Factor
from pgnn.factors.piece import Settings, learnable_zeros
from pgnn.factors.randomness import generator
from pgnn.factors.variable import Variable
from pgnn.limits import entries_of, human_count


class Prior(metaclass=ChecksArguments):
    r"""Independent Dirichlet distributions on the rows :math:`\theta_{j\cdot}` of each table.

    Pseudo-counts :math:`\alpha_{jk}` are added to the counts of the data; the estimate is the
    posterior mean :math:`(N_{jk} + \alpha_{jk}) / \sum_l (N_{jl} + \alpha_{jl})`.
    """

    @abstractmethod
    def counts(self, conditional: Tabular) -> NDArray[np.float64]:
        r"""Pseudo-counts :math:`\alpha` of one table, parents first and child last."""

    def of_each(self, name: Hashable) -> float | None:
        """Return the pseudo-count of each outcome of a variable; None if they may differ.

        Smooths conditionals with outcomes but no table (``Bernoulli``, ``Multinomial``).
        """
        return None

    def check(self, names: Mapping[Hashable, Any]) -> None:
        """Check that the prior names known variables only.

        Raises:
            ModelError: If it names another variable.
        """


class Tabular(DeclaredZeros, ExponentialFamily, Conjugate):
    r"""A conditional probability table :math:`p(x = k \mid \mathrm{pa} = j) = \theta_{jk}`.

    The table is stored as ``logits``, log probabilities in float64, and always normalised:
    :math:`\theta_{jk} = e^{\ell_{jk}} / \sum_l e^{\ell_{jl}}`, so that rows sum to one to double
    precision. Zeros are ``-inf`` logits; their gradient is zero. Those of a table that was given,
    to the constructor or to :meth:`set_probs`, are structural, if it is made learnable: no learner
    replaces them, and they are no free parameters. Zeros that a fit has estimated are.

    Args:
        child: Discrete variable.
        parents: Discrete variables, the first axes of the table.
        table: Probabilities ``(K_pa1, ..., K_child)`` as nested lists, array, tensor or data
            frame, or a mapping from tuples of parent labels to rows. A given table is constant; by
            default the table is learnable and initially uniform.
        normalise: Whether the rows of the table are weights (rounded numbers, percentages,
            counts), to be divided by their sum.

    Raises:
        ModelError: If a variable is not discrete, the shape is wrong, an entry is negative or not
            finite, or a row does not sum to one within ``1e-4`` (the message says which).
        Intractable: If a learnable table would have more than ``2**26`` entries.

    Example:
        >>> rain = Variable("rain", ["no", "yes"])
        >>> wet = Variable("wet", ["no", "yes"])
        >>> p_wet = Tabular(wet, [rain], {"no": [0.75, 0.25], "yes": [0.0, 1.0]})
        >>> p_wet.probs
        tensor([[0.7500, 0.2500],
                [0.0000, 1.0000]], dtype=torch.float64)
    """

    is_table = True
    normalized = True
    """Whether rows are distributions, and not geometric means of such."""

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        table: Any = None,
        *,
        normalise: bool = False,
    ):
        super().__init__(child, parents)
        self.register_buffer("declared_zeros", None)
        require_table(child, self.parents, "Tabular")
        if table is not None:
            probs = read_table(child, self.parents, table, normalise)
            self.logits = nn.Parameter(_log(probs), requires_grad=False)
            self._declare_zeros()
            return
        entries = entries_of(self.shape, MAX_TABLE)
        if entries > MAX_TABLE:
            raise Intractable(
                f"a table of {child.name!r} given its {len(self.parents)} parents has "
                f"{human_count(entries)} entries or more, at most {MAX_TABLE:,} are made",
                "use NoisyOr, Sigmoid, Softmax or Neural",
            )
        self.logits = learnable_zeros(f"the table of {child.name!r}", self.shape)

    log_numbers = ("logits",)

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Create a table of the saved size, which may exceed the limit of learnable tables."""
        settings = dict(settings)
        zeros, logits = settings.pop("declared_zeros", None), numbers.get("logits")
        if logits is not None and logits.numel() > MAX_TABLE:
            settings["table"] = logits.softmax(-1)
        table = cls(**settings)
        table.declared_zeros = zeros  # of files whose tensors lack them
        return table

    def unsound(self, name: str, numbers: Tensor) -> Tensor:
        """Return where logits are ``NaN`` or ``inf``, or a row has no possible state."""
        return super().unsound(name, numbers) | numbers.isneginf().all(dim=-1, keepdim=True)

    @property
    def log_probs(self) -> Tensor:
        """Normalised log probabilities ``(K_pa1, ..., K_child)``, differentiable."""
        return self.logits.log_softmax(dim=-1) if self.normalized else self.logits + 0.0

    @property
    def probs(self) -> Tensor:
        """Normalised probabilities ``(K_pa1, ..., K_child)``, differentiable."""
        return self.log_probs.exp()

    @property
    def num_free_parameters(self) -> int:
        """Number of entries minus one for each row."""
        return (self.child.num_states - 1) * math.prod(self.shape[:-1])

    def num_free(self, parameter: Tensor) -> int:
        """Number of entries that are no structural zeros, minus one for each row.

        Entries that were estimated as zero are free.
        """
        return int(self._free().sum())

    def logit_rows(self) -> Tensor:
        """The logits; see the base class."""
        return self.logits

    def set_probs(self, table: Any, *, normalise: bool = False) -> None:
        """Replace the table in place, learnable or not.

        Args:
            table: Probabilities as for the constructor; a tensor that requires grad is read.
            normalise: Whether rows are weights to be divided by their sums.

        Raises:
            ModelError: See the constructor; the old table is kept.
        """
        entries = table.detach() if isinstance(table, Tensor) else table
        probs = read_table(self.child, self.parents, entries, normalise)
        with torch.no_grad():
            self.logits.copy_(_log(probs))
        self._declare_zeros()

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Categorical:
        """Return the rows of the table at the parents' states, as a Categorical."""
        values = self._values(parents)
        table = self.log_probs
        index = tuple(values[v.name] for v in self.parents)
        return Categorical(logits=table[index] if index else table)

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return the log table over the unobserved scope, by indexing; see the base class.

        Cost:
            The size of the table and of the result.
        """
        known = self._observed_part(observed)
        check_rows(self.child, known)
        return Factor(self.scope, self.log_probs).condition(known)

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return weighted counts in the shape of the table; see the base class.

        Args:
            values: The child's states ``(N,)``, -1 where not observed. Without the child, weights
                have its axis as the last one and are posterior probabilities of the full scope.
            weights: ``(N, K1, ..., Kn)``, or ``(N, K1, ..., Kn, K_child)``.
        """
        if self.child.name not in values:
            weights = torch.as_tensor(weights)
            rows = len(weights) if weights.dim() else 0
            return (self._weights(weights, rows, self.shape).sum(dim=0).reshape(self.shape),)
        code = torch.as_tensor(values[self.child.name]).long()
        code = code.to(self._device)
        w = self._weights(weights, len(code), self.shape[:-1])
        unobserved = self.child.num_states  # a row of its own, which is left out
        counts = w.new_zeros(unobserved + 1, w.shape[1])
        counts.index_add_(0, code.masked_fill(code < 0, unobserved), w)
        return (counts[:unobserved].t().reshape(self.shape),)

    @torch.no_grad()
    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set rows to their relative counts; see the base class.

        Args:
            statistics: The result of :meth:`statistics`.
            prior: Pseudo-counts, such as ``Laplace`` or ``Dirichlet``: the estimate is the
                posterior mean. An entry of probability zero has none and stays zero until it has a
                count.

        Raises:
            DataError: If an entry that was declared to be zero has a count.
        """
        counts = statistics[0] if prior is None else statistics[0] + self._pseudo_counts(prior)
        if not self.logits.requires_grad:
            return
        self.check_counts(statistics[0])
        total = counts.sum(dim=-1, keepdim=True)
        known = total > LEAST_COUNT
        new = (counts / total.masked_fill(~known, 1.0)).log()
        self.logits.copy_(torch.where(known, new, self.logits.double()))

    def accepts(self, prior: Any) -> bool:
        """Return whether a prior consists of pseudo-counts."""
        return isinstance(prior, Prior)

    @torch.no_grad()
    def add_noise(self, generator: torch.Generator) -> None:
        """Add uniform noise to the logits; zeros stay zeros."""
        noise = torch.rand(self.logits.shape, generator=generator)
        self.logits.add_(noise.to(self.logits))

    def make_uninformative(self) -> None:
        """Make learnable rows uniform on their possible entries; see the base class."""
        self.maximize((self.possible().double(),))

    def log_prior(self, prior: Any) -> Tensor:
        """Return pseudo-counts times log probabilities; see the base class."""
        counts = self._pseudo_counts(prior).to(self.logits)
        return (counts * self.log_probs.masked_fill(counts == 0, 0.0)).sum()

    def initialize(self, values: Mapping[Hashable, Tensor], seed: int | None = None) -> None:
        """Initialise each row at random, uniformly over distributions; see the base class.

        If the child was observed, they are weighted by the frequencies of its states.
        """
        rows = torch.empty(self.shape, dtype=torch.float64).exponential_(generator=generator(seed))
        rows = rows.to(self._device) * self.possible()
        rows = rows / rows.sum(dim=-1, keepdim=True)
        if self.child.name in values:
            code = torch.as_tensor(values[self.child.name]).long().numpy(force=True)
            observed = np.bincount(code[code >= 0], minlength=self.child.num_states)
            if observed.any():
                rows = rows * (1.0 + torch.from_numpy(observed / observed.mean()).to(rows))
        self.maximize((rows,))

    def beliefs(self, prior: Any, values: Mapping[Hashable, Tensor] | None) -> Beliefs:
        """Return pseudo-counts of possible entries, ones without a prior; see the base class."""
        possible = self.possible()
        if prior is None:
            return (possible.double(),)
        counts = self._pseudo_counts(prior)
        if bool((counts[possible] <= 0).any()):
            raise ModelError(
                f"the prior of the table of {self.child.name!r} must have positive pseudo-counts "
                "for all possible entries"
            )
        return (counts,)

    def updated(self, prior: Beliefs, statistics: Statistics) -> Beliefs:
        """Add counts; see the base class."""
        return (prior[0] + statistics[0] * (prior[0] > 0),)

    @torch.no_grad()
    def set_geometric_mean(self, posterior: Beliefs) -> None:
        """See the base class."""
        a = posterior[0]
        logs = a.digamma() - a.sum(-1, keepdim=True).digamma()
        self.logits.copy_(logs.masked_fill(a == 0, -math.inf))
        self.normalized = False

    @torch.no_grad()
    def set_mean(self, posterior: Beliefs) -> None:
        """See the base class."""
        a = posterior[0]
        self.logits.copy_((a / a.sum(-1, keepdim=True)).log())
        self.normalized = True

    def divergence(self, posterior: Beliefs, prior: Beliefs) -> float:
        """Return the sum over the rows; see the base class."""
        a, b = posterior[0], prior[0]
        present = b > 0
        a, b = (x.masked_fill(~present, 1.0) for x in (a, b))
        total_a, total_b = ((x * present).sum(-1) for x in (a, b))
        rows = total_a.lgamma() - total_b.lgamma()
        each = b.lgamma() - a.lgamma() + (a - b) * (a.digamma() - total_a[..., None].digamma())
        return float((rows + (each * present).sum(-1)).sum())

    def described(self, posterior: Beliefs) -> Any:
        """The pseudo-counts."""
        return posterior[0].numpy(force=True)

    @property
    def _device(self) -> torch.device:
        return self.logits.device

    def _pseudo_counts(self, prior: Any) -> Tensor:
        """Return the pseudo-counts of nonzero entries."""
        if prior is None:
            return torch.zeros(self.shape, dtype=torch.float64, device=self._device)
        if not isinstance(prior, Prior):
            raise ModelError(
                f"the prior of the table of {self.child.name!r} must hold pseudo-counts, such as "
                f"pgnn.Laplace, got {type(prior).__name__}"
            )
        counts = torch.from_numpy(np.array(prior.counts(self), dtype=np.float64))
        return counts.to(self._device) * self.probs.detach().ne(0)


def _log(probs: np.ndarray) -> Tensor:
    with np.errstate(divide="ignore"):
        return torch.from_numpy(np.log(probs))
