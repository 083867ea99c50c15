"""The abilities that engines, learners and files check for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pgnn.errors import EvidenceError, Unsupported, closest
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.support import Support
from pgnn.factors.variable import Variable

Inputs = Mapping[Hashable, Tensor]
"""Covariates by name, ``(B, ...)``."""


class VariableModel(ABC):
    """A model over named variables.

    Attributes:
        detached: Whether answers carry no gradients although parameters may be learned, unless
            evidence or inputs require gradients.
    """

    detached: bool = False

    @property
    @abstractmethod
    def variables(self) -> Mapping[Hashable, Variable]:
        """The model's variables by name, in order of declaration."""

    @property
    def constants(self) -> Mapping[Hashable, Tensor]:
        """Values ``(*shape)`` of real variables that have no other, as after an intervention."""
        return {}

    @property
    def passes_gradients(self) -> bool:
        """Whether answers pass gradients to the model's parameters."""
        return not self.detached

    def variable(self, name: Hashable) -> Variable:
        """Return the variable with a given name.

        Raises:
            EvidenceError: If no variable has this name; the message suggests the closest names.
        """
        try:
            return self.variables[name]
        except KeyError:
            hint = closest(name, self.variables)
            raise EvidenceError(f"the model has no variable {name!r}{hint}") from None

    @property
    def input_names(self) -> Collection[Hashable] | None:
        """Names of the covariates that the model depends on; None if unknown."""
        return None

    def own_inputs(self, inputs: Inputs | None) -> Inputs | None:
        """Return the covariates that the model depends on; None if there are none of them."""
        names = self.input_names
        return {n: x for n, x in (inputs or {}).items() if names is None or n in names} or None

    def read_inputs(self, inputs: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Return covariates of rows as arrays, for models that accept other types.

        Args:
            inputs: Covariates as passed by the caller.

        Raises:
            EvidenceError: If they do not match the model.
        """
        return inputs

    def check_inputs(self, inputs: Inputs | None) -> None:
        """Check that the model depends on all given covariates.

        Raises:
            EvidenceError: If it does not.
        """
        if not isinstance(inputs, Mapping) or not inputs:  # as in most queries
            return
        known = self.input_names
        for name in inputs:
            if known is not None and name not in known:
                hint = closest(name, known) if known else ": it has no inputs"
                raise EvidenceError(f"the model has no input {name!r}{hint}")


class FactorModel(VariableModel):
    """A model with tables, which is the interface that engines use."""

    is_normalized: bool = False
    """Whether the tables of all variables multiply to a distribution, so that ``Z`` is one."""

    @property
    @abstractmethod
    def elements(self) -> Elements:
        """The numbered elements of the discrete variables; each cell of an array is one element."""

    @abstractmethod
    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Return log tables over unobserved elements."""

    @abstractmethod
    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """Return the same tables, grouped by shape into arrays."""

    def check(self) -> None:
        """Check the model's parameters, which callers may have changed.

        Raises:
            ModelError: If a parameter is ``NaN``, or infinite where infinity is meaningless.
        """

    @abstractmethod
    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a result that depends on structure alone, computed once."""

    @abstractmethod
    def cached_numbers(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a result that depends on the parameters, recomputed when one has changed."""


class DirectedModel(VariableModel):
    """A model with a conditional for each variable, in topological order."""

    is_normalized: bool = True
    """See :attr:`FactorModel.is_normalized`."""

    @property
    @abstractmethod
    def conditionals(self) -> Mapping[Hashable, Conditional]:
        """The conditional of each variable."""

    @property
    @abstractmethod
    def order(self) -> Sequence[Hashable]:
        """The variables, parents before children."""

    @property
    def latents(self) -> Sequence[Hashable]:
        """Names of the variables declared as never observed."""
        return ()

    @property
    def constants(self) -> Mapping[Hashable, Tensor]:
        """See :class:`VariableModel`."""
        pieces = self.conditionals.items()
        return {n: c.constant for n, c in pieces if c.constant is not None}

    @property
    def input_names(self) -> Collection[Hashable]:
        """Names of the covariates of its conditionals."""
        return dict.fromkeys(name for c in self.conditionals.values() for name in c.inputs)


class NetworkModel(DirectedModel, FactorModel):
    """A directed model with tables, whose conditionals may be replaced.

    Expectation maximisation uses this to record the tables of conditionals of any kind.
    """

    @abstractmethod
    def with_conditionals(self, conditionals: Mapping[Hashable, Conditional]) -> NetworkModel:
        """Return the same model with other conditionals of the same variables.

        Args:
            conditionals: Conditionals of each variable; parameters are shared, not copied.
        """


class AmortisedModel(NetworkModel):
    """A directed model with conditionals that approximate the posterior of its latent variables."""

    @property
    @abstractmethod
    def recognition(self) -> Mapping[Hashable, Conditional]:
        """For each real latent variable a conditional given observed variables, parents first."""

    @property
    def input_names(self) -> Collection[Hashable]:
        """Names of the covariates, including those of the recognition."""
        recognition_names = (name for c in self.recognition.values() for name in c.inputs)
        return dict.fromkeys([*super().input_names, *recognition_names])

    def penalty(self, observed: Mapping[Hashable, Tensor], inputs: Inputs) -> Tensor | None:
        """Return ``(R,)`` penalties subtracted from the bound of each row in a fit; None for none.

        A penalty regularises networks and is no probability.

        Args:
            observed: ``(R, *shape)`` values of real variables, ``NaN`` where one is missing.
            inputs: ``(R, ...)`` covariates.
        """
        return None


class ClassModel(NetworkModel):
    """A network of a discrete class and features that each depend on the class alone."""

    @property
    @abstractmethod
    def class_name(self) -> Hashable:
        """The name of the class, which has no parents."""


class ClosedFormModel(FactorModel):
    """A model whose optimal parameters for complete weighted rows have a closed form.

    Its structure may be optimised too, if it is kept in buffers.
    """

    takes_holes: bool = False
    """Whether states may be -1 (not observed); statistics are then expectations."""

    @abstractmethod
    def statistics(self, codes: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Return sums over rows, which may be scaled and added to sums of other rows.

        Args:
            codes: ``(N, E)`` states of all elements.
            weights: ``(N,)`` weight of each row.
        """

    @abstractmethod
    def maximize(self, statistics: tuple[Tensor, ...]) -> None:
        """Set the parameters, in place, to the optimum for some statistics."""

    @abstractmethod
    def log_density(self, codes: Tensor) -> Tensor:
        """Return ``(N,)`` log probabilities of complete rows ``(N, E)``."""

    @abstractmethod
    def log_prior(self) -> Tensor:
        """Return the term that :meth:`maximize` adds to the log-likelihood when it smooths."""


class MixtureModel(FactorModel):
    """A mixture of models of the same variables; a hidden variable selects one for each row."""

    @property
    @abstractmethod
    def class_name(self) -> Hashable:
        """Name of the hidden variable, which is the first of the variables."""

    @property
    @abstractmethod
    def weights(self) -> Conditional:
        """The probabilities of the components."""

    @property
    @abstractmethod
    def components(self) -> Sequence[Any]:
        """The component models."""


class DensityModel(ABC):
    """A model with a density over its latent real variables; discrete variables are summed out."""

    @abstractmethod
    def log_density(
        self,
        reals: Mapping[Hashable, Tensor],
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
    ) -> Tensor:
        r"""Return ``(B,)`` values of :math:`\log p(r, e)`, differentiable in the reals.

        Args:
            reals: ``(B, *shape)`` values of real latent variables by name.
            evidence: Evidence as in a query, for one row or ``B`` rows.
            inputs: Covariates by name.
        """


class ExecutableModel(DensityModel):
    """A model that can be executed; each run draws its latent variables, parents first.

    Attributes:
        obstacle: Reason why the model has no tables; None if it has tables.
    """

    obstacle: str | None = None

    @abstractmethod
    def execute(self, held: Mapping[Hashable, Tensor], seed: int) -> Any:
        """Run the model once with some values held fixed.

        Args:
            held: State indices (-1: not held) or reals (``NaN``: not held), ``(*shape)`` by name.
            seed: Random seed of the draws.
        """

    def execute_together(
        self,
        held: Mapping[Hashable, Tensor],
        number: int,
        seed: int,
        weigh: Callable[[Tensor], Tensor | None],
        *,
        each: Mapping[Hashable, Tensor] | None = None,
        scored: bool = False,
    ) -> Any:
        """Run the model many times at once, if it supports this.

        Args:
            held: See :meth:`execute`.
            number: Number of runs.
            seed: Random seed of the draws.
            weigh: Called with ``(number,)`` log probabilities of each held or observed variable in
                turn; may return ``(number,)`` indices of runs that replace all runs.
            each: Further held values, complete for each run, ``(number, *shape)``.
            scored: Whether to compute log densities of all variables.

        Returns:
            An object with ``values``, ``(number, *shape)`` by name, and ``log_joint``.

        Raises:
            Unsupported: If runs differ in more than their values, or are executed one by one.
        """
        raise Unsupported(f"a {type(self).__name__} runs one execution at a time")

    @abstractmethod
    def support(self, name: str) -> Any:
        """Return the support of a variable as a constraint of torch."""

    @abstractmethod
    def real_supports(
        self, names: Iterable[Hashable], held: Mapping[Hashable, Tensor] | None = None
    ) -> Mapping[Hashable, Support]:
        """Return the supports of latent real variables, which are the same in every run.

        Args:
            names: Names of the variables.
            held: Values of other variables held in the runs; see :meth:`execute`.
        """

    @property
    @abstractmethod
    def event_axes(self) -> dict[Hashable, int]:
        """Number of trailing axes of each variable that form a single value, the event shape."""

    @property
    def power(self) -> float:
        """Factor of the logarithm of a sum over discrete variables.

        More than one if the model uses a subset of its rows that represents all.
        """
        return 1.0

    @property
    def largest_plate(self) -> int:
        """Number of cells of the largest simultaneous draw of the model."""
        return 1

    @property
    def guide(self) -> Callable[..., Any] | None:
        """A program of the real latent variables that approximates their posterior."""
        return None

    def start_guide(self, seed: int) -> None:
        """Draw initial values of the guide's parameters, unless they have been changed since.

        Args:
            seed: Random seed of the draws.
        """

    def guide_executions(self, observed: Collection[Hashable] = ()) -> Any:
        """Return the executor of the guide.

        Args:
            observed: Names of the observed variables.
        """
        raise NotImplementedError

    def batch(self) -> Any:
        """Return the model restricted to some of its rows; None if it always uses all."""
        return None
