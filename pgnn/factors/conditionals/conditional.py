"""The base class of conditionals p(child | parents)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals import checks
from pgnn.factors.conditionals.decomposition import Decomposition
from pgnn.factors.conditionals.grid import element_table, state_table, values_on_grid
from pgnn.factors.conditionals.linear_predictor import LinearPredictor
from pgnn.factors.conditionals.parameter_table import ParameterTable
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.factor import Factor, check_states
from pgnn.factors.piece import Piece, Settings, taken
from pgnn.factors.sparse_rows import written_out
from pgnn.factors.support import log_density
from pgnn.factors.variable import Variable, check_variables

if TYPE_CHECKING:
    from pgnn.factors.gaussians.component import HiddenIntegral


Values = Mapping[Hashable, Tensor]
"""Values of variables or covariates by name."""


class Conditional(Piece):
    r"""A local conditional :math:`p(x \mid \mathrm{pa}(x))`, the component of directed models.

    A subclass implements :meth:`distribution`; from it this class derives the table over the
    unobserved variables, by evaluating the distribution on the grid of unobserved discrete parents.
    Subclasses with cheaper tables override :meth:`factor`.

    Args:
        child: The child.
        parents: The parents, in the order of the table's axes.
        inputs: Names of covariates, which are never modelled.

    Raises:
        ModelError: If a variable occurs twice.
    """

    noun = "conditional"
    is_table: bool = False
    """Whether its numbers are a table, so that nothing is saved by not writing it down."""
    takes_sparse = False
    """Whether rows of a real child may be compressed; others see them written out."""
    integrates_missing = False
    """Whether :meth:`factor` integrates out numbers of a real child that are ``NaN``."""
    has_independent_elements = False
    """Whether numbers of a real child are independent given the parents."""
    is_linear_gaussian = False
    """Whether :meth:`regression` gives numbers, so that exact engines integrate out reals."""

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        inputs: Iterable[Hashable] = (),
    ) -> None:
        super().__init__()
        (self.child,) = check_variables("the child of a conditional", [child])
        self.parents = check_variables(f"parents of {child.name!r}", parents)
        self.inputs = tuple(inputs)
        if len(set(names := [*(v.name for v in self.scope), *self.inputs])) != len(names):
            raise ModelError(f"conditional of {child.name!r} names a variable twice: {names}")

    def settings(self) -> Settings:
        """Return the constructor's arguments; a subclass adds its own."""
        return taken(type(self), {"child": self.child, "parents": self.parents})

    @property
    def key(self) -> Hashable:
        """The child's name."""
        return self.child.name

    @property
    def scope(self) -> tuple[Variable, ...]:
        """Parents in order, then the child: the axes of the table."""
        return (*self.parents, self.child)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the full table, ``(K_pa1, ..., K_child)``; discrete scopes only."""
        return tuple(v.num_states for v in self.scope)

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters."""
        return sum(p.numel() for p in self.parameters())

    def frame(self, inputs: Values | None = None) -> Any:
        """Return a data frame of probabilities, or of parameters if a variable is real.

        Discrete parents' states are in the index, those of the child, or the parameters, columns.

        Args:
            inputs: Covariates of one row by name, ``(1, ...)``, if it has any.

        Raises:
            Unsupported: If a variable is real and :meth:`parameter_table` gives None.
            EvidenceError: If an input is missing, or has several rows.
            ModelError: If the table is too large for a data frame.
        """
        from pgnn.factors.conditionals.display import conditional_frame

        return conditional_frame(self, inputs)

    def parameter_table(self) -> ParameterTable | None:
        """Return the parameters that :meth:`frame` shows of a real child; None without any."""
        if not self.is_linear_gaussian:
            return None
        return ParameterTable.of_regression(self.child, self.parents, self.regression())

    def extra_repr(self) -> str:
        """Return the arguments shown by ``repr``."""
        parents = ", ".join(repr(v.name) for v in self.parents)
        return f"{self.child.name!r} | {parents}" if parents else repr(self.child.name)

    def __str__(self) -> str:
        """The table, if it is small enough to print; otherwise the kind."""
        from pgnn.factors.conditionals.display import conditional_text

        return conditional_text(self)

    def _repr_html_(self) -> str:
        from pgnn.factors.conditionals.display import conditional_html

        return conditional_html(self)

    @abstractmethod
    def distribution(self, parents: Values, inputs: Values | None = None) -> Distribution:
        """Return the child's distribution given its parents.

        Args:
            parents: State indices (int64) of discrete and values of real parents, of one common
                batch shape ``(*batch)`` or ``(*batch, *event)``; other names are ignored.
            inputs: Covariates by name, batch shape leading.

        Returns:
            A torch distribution of batch shape ``(*batch)``.

        Raises:
            EvidenceError: If a parent or an input is missing.
        """

    def draw(self, parents: Values, inputs: Values | None = None, rows: int = 1) -> Tensor:
        """Return one sample of the child per row, using torch's global generator.

        Args:
            parents: See :meth:`distribution`, with ``rows`` rows.
            inputs: Covariates by name, with ``rows`` rows.
            rows: Number of rows.
        """
        if not rows:  # torch's distributions cannot check the parameters of no rows
            kind = torch.int64 if self.child.is_discrete else self._dtype
            return torch.zeros(0, *self.child.shape, dtype=kind)
        with torch.no_grad():
            dist = self.distribution(parents, inputs)
            drawn: Tensor = dist.sample() if dist.batch_shape else dist.sample(torch.Size((rows,)))
        return drawn

    def factor(self, observed: Values | None = None, inputs: Values | None = None) -> Factor:
        r"""Return the log table over the variables that are not observed.

        Args:
            observed: Values of some variables, ``(B,)`` state indices or ``(B, *event)`` reals;
                names outside this conditional are ignored.
            inputs: Covariates by name, ``(B, ...)``; others than its own are ignored.

        Returns:
            ``Factor`` over the unobserved scope (parents first, child last) with log
            probabilities; its batch shape is ``(B,)`` if some variable of the scope is observed or
            the conditional has inputs, else ``()``.

        Raises:
            Unsupported: If an unobserved variable is real, so that there is no table.
            EvidenceError: If an index is out of range, a shape is wrong or an input is missing.
            Intractable: If the table would have more than ``2**26`` entries per row.

        Cost:
            One evaluation of :meth:`distribution` on ``B`` times the number of unobserved parent
            configurations; on those configurations only if just the child is observed.
        """
        known = self._observed_part(observed)
        free = self._unobserved(known)
        covariates = self._covariates(inputs)
        checks.check_rows(self.child, known, covariates)
        if any(len(x) == 0 for x in (*known.values(), *covariates.values())):
            # torch's distributions cannot reshape the log probabilities of no rows
            none = torch.zeros([0, *(v.num_states for v in free)], dtype=self._dtype)
            return Factor(free, none.to(self._device))
        return Factor(free, self._grid_log_prob(known, free, covariates))

    def tables(self, observed: Values | None = None, inputs: Values | None = None) -> list[Factor]:
        """Return log tables whose product is :meth:`factor`, with its arguments and errors.

        Of an unobserved array of independent discrete variables there is one for each element.
        """
        if not self.is_split(observed):
            return [self.factor(observed, inputs)]
        parents = [v for v in self.parents if v.name not in (observed or {})]
        logs = self.log_table(observed, inputs).unbind(-2)
        return [Factor([*parents, v], x) for v, x in zip(self.child.elements(), logs, strict=True)]

    def is_split(self, observed: Collection[Hashable] | None) -> bool:
        """Return whether there is a table for each element of an array, given who is observed."""
        child = self.child
        return child.is_discrete and bool(child.shape) and child.name not in (observed or ())

    def log_table(self, observed: Values | None = None, inputs: Values | None = None) -> Tensor:
        """Return the numbers of :meth:`tables`, those of elements on the last axis but one."""
        if not self.is_split(observed):
            return self.factor(observed, inputs).log_values
        known, covariates = self._observed_part(observed), self._covariates(inputs)
        parents = self._unobserved(known, self.parents)
        checks.check_rows(self.child, known, covariates)
        if any(len(x) == 0 for x in (*known.values(), *covariates.values())):
            shape = [0, *(v.num_states for v in parents)]
            none = torch.zeros(*shape, self.child.num_elements, self.child.num_states)
            return none.to(self._device, self._dtype)
        rows, dist = self._on_grid(known, parents, covariates)
        return element_table(self.child, parents, rows, dist, self._device)

    def log_prob_rows(
        self,
        states: Tensor,
        observed: Values | None = None,
        inputs: Values | None = None,
    ) -> Tensor:
        """Return ``(B,)`` log probabilities of complete rows, without any table.

        Args:
            states: ``(B, n)`` unchecked state indices of the variables that are not in
                ``observed``, in the order of the scope.
            observed: ``(B, ...)`` values of the other variables.
            inputs: Covariates by name, ``(B, ...)``.
        """
        free = [v for v in self.scope if v.name not in (observed or {})]
        values = {v.name: x for v, x in zip(free, states.unbind(-1), strict=True)}
        values |= observed or {}
        dist = self.distribution({v.name: values[v.name] for v in self.parents}, inputs)
        return dist.log_prob(values[self.child.name]).expand(len(states))

    def prepared(self) -> Any:
        """Return precomputed data for :meth:`log_conditionals`, valid until parameters change."""

    def log_conditionals(
        self,
        states: Tensor,
        place: int,
        observed: Values | None = None,
        inputs: Values | None = None,
        prepared: Any = None,
    ) -> Tensor:
        """Return ``(B, K)`` log probabilities of rows for each state of one variable.

        Args:
            states: See :meth:`log_prob_rows`; those of the free variable are ignored.
            place: Index of the free variable.
            observed: See :meth:`log_prob_rows`.
            inputs: See :meth:`log_prob_rows`.
            prepared: The result of :meth:`prepared`, if any.
        """
        free = [v for v in self.scope if v.name not in (observed or {})]
        size = free[place].num_states
        each = states.repeat_interleave(size, dim=0)
        each[:, place] = torch.arange(size, device=each.device).repeat(len(states))
        known_values, covariates = (
            {n: x.repeat_interleave(size, dim=0) for n, x in (values or {}).items()}
            for values in (observed, inputs)
        )
        return self.log_prob_rows(each, known_values, covariates).reshape(len(states), size)

    def linear_predictor(
        self, observed: Values | None = None, inputs: Values | None = None
    ) -> LinearPredictor | None:
        """Return the linear predictor of the child's softmax; None for other distributions.

        Arguments are values ``(B, ...)`` of some parents, including all real ones, and covariates.
        """
        return None

    def decomposition(self, ranks: Sequence[int] | None = None) -> Decomposition | None:
        """Return a decomposition of the table into small factors; None if there is none.

        Not called for conditionals with inputs or real parents, which depend on the row.
        Parents should be combined in the order of their ranks, which conditionals share.
        """
        return None

    @property
    def decomposes(self) -> bool:
        """Whether :meth:`decomposition` gives factors."""
        return False

    @property
    def constant(self) -> Tensor | None:
        """The value of a real child that has no other; None for all other children."""
        return None

    def regression(self) -> Regression:
        """Return the differentiable parameters of a linear Gaussian conditional.

        Raises:
            Unsupported: If it is not linear Gaussian; see :attr:`is_linear_gaussian`.
        """
        raise Unsupported(f"{type(self).__name__} is not a linear regression with normal noise")

    def recorded_integral(self, integral: HiddenIntegral) -> Tensor:
        """Return the table of an integral over hidden real variables.

        Learners replace it by a leaf for gradients.
        """
        return integral.table

    @property
    def _dtype(self) -> torch.dtype:
        """Floating dtype of the parameters; float64 if there are none."""
        dtypes = (p.dtype for p in self.parameters() if p.dtype.is_floating_point)
        return next(dtypes, torch.float64)

    def _observed_part(self, observed: Values | None) -> dict[Hashable, Tensor]:
        """The checked observed part of the scope, in the dtype and on the device in use."""
        known = {}
        for v in self.scope:
            if observed and v.name in observed:
                x = checks.checked(v, observed[v.name], self._dtype).to(self._device)
                known[v.name] = x if self.takes_sparse else written_out(v.name, x)
        return known

    def _covariates(self, inputs: Values | None) -> dict[Hashable, Tensor]:
        if not self.inputs:
            return {}
        values = checks.select_values(self.child, self.inputs, inputs or {}, "input", "inputs")
        return checks.moved(values, self._device)

    def _values(self, parents: Values) -> dict[Hashable, Tensor]:
        names = [v.name for v in self.parents]
        values = checks.select_values(self.child, names, parents, "parent", "parents")
        for v in self.parents:
            if v.is_discrete:
                values[v.name] = check_states(v, values[v.name])
        return checks.moved(values, self._device)

    def _unobserved(
        self, observed: Values, scope: Sequence[Variable] | None = None
    ) -> list[Variable]:
        """The axes of the table; raises an error for real variables and for too large tables."""
        free = [v for v in (self.scope if scope is None else scope) if v.name not in observed]
        checks.check_tabulated(self.child, free)
        return free

    def _grid_log_prob(
        self,
        observed: Values,
        free: Sequence[Variable],
        covariates: Values,
    ) -> Tensor:
        """Log probabilities ``(*batch, K_free...)``, flattening batch and grid into one axis."""
        child = self.child.name
        grid = [v for v in free if v.name != child]
        shape = [v.num_states for v in grid]
        cells = math.prod(shape)
        rows, dist = self._on_grid(
            {n: x for n, x in observed.items() if n != child}, grid, covariates
        )
        if child not in observed:
            return state_table(self.child, dist, rows, shape, self._device)
        x = observed[child]
        if rows is None:
            # Only the child depends on the row: the grid is evaluated once for all rows.
            log_probs = self._log_prob_at(dist, x.unsqueeze(1))
            return log_probs.expand(len(x), cells).reshape([len(x), *shape])
        log_prob = self._log_prob_at(dist, x.repeat_interleave(cells, dim=0))
        return log_prob.expand(rows * cells).reshape([rows, *shape])

    def _on_grid(
        self, known: Values, grid: Sequence[Variable], covariates: Values
    ) -> tuple[int | None, Distribution]:
        """The number of rows, if any, and the child's distributions on the grid of each row."""
        rows, values = values_on_grid({**known, **covariates}, grid, self._device)
        parents = {v.name: values[v.name] for v in self.parents}
        return rows, self.distribution(parents, {n: values[n] for n in covariates} or None)

    def _log_prob_at(self, dist: Distribution, x: Tensor) -> Tensor:
        """Log probabilities of the observed child; states are valid."""
        return dist.log_prob(x) if self.child.is_discrete else log_density(dist, x)

    @property
    def _device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))
