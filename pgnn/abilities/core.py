"""The abilities that engines, learners and files ask for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pgnn.errors import EvidenceError, Unsupported, closest
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.support import Support
from pgnn.factors.variable import Variable

if TYPE_CHECKING:
    pass

Inputs = Mapping[Hashable, Tensor]
"""Covariates by name, ``(B, ...)``."""


class VariableModel(ABC):
    """A model over named variables.

    Attributes:
        detached: Whether answers are plain numbers although parameters may be learned, unless
            evidence or inputs require gradients.
    """

    detached: bool = False

    @property
    @abstractmethod
    def variables(self) -> Mapping[Hashable, Variable]:
        """The model's variables by name, in the order in which they were declared."""

    @property
    def passes_gradients(self) -> bool:
        """Whether answers are to pass gradients on to the model's parameters."""
        return not self.detached

    def variable(self, name: Hashable) -> Variable:
        """Return the variable of that name.

        Raises:
            EvidenceError: If there is none; the message suggests the closest names.
        """
        try:
            return self.variables[name]
        except KeyError:
            hint = closest(name, self.variables)
            raise EvidenceError(f"the model has no variable {name!r}{hint}") from None

    @property
    def input_names(self) -> Collection[Hashable] | None:
        """Names of the covariates that the model depends on; None where it does not tell."""
        return None

    def read_inputs(self, inputs: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Return covariates of rows in numbers, where a model takes other things than numbers.

        Args:
            inputs: As they came.

        Raises:
            EvidenceError: If they do not fit.
        """
        return inputs

    def check_inputs(self, inputs: Inputs | None) -> None:
        """Check that the model depends on all covariates that are given.

        Raises:
            EvidenceError: If it does not.
        """
        if not isinstance(inputs, Mapping) or not inputs:  # as in most questions
            return
        known = self.input_names
        for name in inputs:
            if known is not None and name not in known:
                hint = closest(name, known) if known else ": it takes none"
                raise EvidenceError(f"the model has no input {name!r}{hint}")


class FactorModel(VariableModel):
    """A model with tables: what every engine sees of every model."""

    is_normalized: bool = False
    """Whether the tables of all variables multiply to a distribution, so that ``Z`` is one."""

    @property
    @abstractmethod
    def elements(self) -> Elements:
        """The elements of the discrete variables, numbered: each cell of an array is one."""

    @abstractmethod
    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Log tables over what is not observed."""

    @abstractmethod
    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """The same tables, gathered by shape into arrays."""

    def check(self) -> None:
        """Check the model's parameters, which may have been changed from outside.

        Raises:
            ModelError: If one is ``NaN``, or infinite where that has no meaning.
        """

    @abstractmethod
    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a result that depends on structure alone, made once."""

    @abstractmethod
    def cached_numbers(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a result that depends on the parameters, made anew when one has changed."""


class DirectedModel(VariableModel):
    """A model with a conditional for each variable, in an order."""

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
        """Names of the variables that were declared to be never observed."""
        return ()

    @property
    def input_names(self) -> Collection[Hashable]:
        """Names of the covariates of its conditionals."""
        return dict.fromkeys(name for c in self.conditionals.values() for name in c.inputs)


class NetworkModel(DirectedModel, FactorModel):
    """A directed model with tables, that may be had with other conditionals.

    So expectation maximisation records the tables of its conditionals, whatever they are.
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
        """Those of the recognition as well."""
        own = (name for c in self.recognition.values() for name in c.inputs)
        return dict.fromkeys([*super().input_names, *own])

    def penalty(self, observed: Mapping[Hashable, Tensor], inputs: Inputs) -> Tensor | None:
        """Return ``(R,)`` what a fit takes off the bound of each row; None for nothing.

        That is what is asked of networks and is no probability.

        Args:
            observed: ``(R, *shape)`` values of real variables, ``NaN`` where one is missing.
            inputs: ``(R, ...)`` covariates.
        """
        return None


class ClassModel(NetworkModel):
    """A network of a discrete class and of features, each of which depends on the class alone."""

    @property
    @abstractmethod
    def class_name(self) -> Hashable:
        """The name of the class, which has no parents."""


class ClosedFormModel(FactorModel):
    """A model of which the best numbers for complete weighted rows have a closed form.

    What makes up its structure may be found by that too, if it is kept in buffers.
    """

    takes_holes: bool = False
    """Whether states may be -1, not observed: statistics are then what the model expects."""

    @abstractmethod
    def statistics(self, codes: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Return sums over rows, which may be added to those of other rows, and scaled.

        Args:
            codes: ``(N, E)`` states of all elements.
            weights: ``(N,)`` weight of each row.
        """

    @abstractmethod
    def maximize(self, statistics: tuple[Tensor, ...]) -> None:
        """Set the numbers, in place, to the best ones for some statistics."""

    @abstractmethod
    def log_density(self, codes: Tensor) -> Tensor:
        """Return ``(N,)`` log probabilities of complete rows ``(N, E)``."""

    @abstractmethod
    def log_prior(self) -> Tensor:
        """Return what :meth:`maximize` adds to the log-likelihood, if it smooths."""


class MixtureModel(FactorModel):
    """A hidden choice among models of the same variables, one of which makes each row."""

    @property
    @abstractmethod
    def class_name(self) -> Hashable:
        """The name of the choice, the first of the variables."""

    @property
    @abstractmethod
    def weights(self) -> Conditional:
        """The probabilities of the components."""

    @property
    @abstractmethod
    def components(self) -> Sequence[Any]:
        """The models."""


class DensityModel(ABC):
    """A model with a density over its latent real variables, the discrete rest summed out."""

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
            evidence: As in a query, one row or ``B`` of them.
            inputs: Covariates by name.
        """


class ExecutableModel(DensityModel):
    """A model that can be run: each run draws its latent variables, parents first.

    Attributes:
        obstacle: Why there are no tables; None where there are.
    """

    obstacle: str | None = None

    @abstractmethod
    def execute(self, held: Mapping[Hashable, Tensor], seed: int) -> Any:
        """Run the model once, some values held.

        Args:
            held: State indices (-1: not held) or reals (``NaN``: not held), ``(*shape)`` by name.
            seed: Seed of the draws.
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
        """Run the model many times at once, where that can be done.

        Args:
            held: As in :meth:`execute`.
            number: How many runs.
            seed: Seed of the draws.
            weigh: Takes in ``(number,)`` log probabilities of what was held or observed, one
                variable after the other, and may return ``(number,)`` runs that go on in the place
                of all.
            each: More values that are held, complete ones for each run, ``(number, *shape)``.
            scored: Whether log densities of everything are wanted.

        Returns:
            What has ``values``, ``(number, *shape)`` by name, and ``log_joint``.

        Raises:
            Unsupported: If runs differ in more than their numbers, or are made one by one.
        """
        raise Unsupported(f"a {type(self).__name__} is run once at a time")

    @abstractmethod
    def support(self, name: str) -> Any:
        """Return the values that a variable can have, as a constraint of torch's."""

    @abstractmethod
    def real_supports(
        self, names: Iterable[Hashable], held: Mapping[Hashable, Tensor] | None = None
    ) -> Mapping[Hashable, Support]:
        """Return the values that latent real variables can have, the same in every run.

        Args:
            names: Names of the variables.
            held: Values of others that hold in the runs; see :meth:`execute`.
        """

    @property
    @abstractmethod
    def event_axes(self) -> dict[Hashable, int]:
        """How many of the last axes of each variable make one value, observed as a whole or not."""

    @property
    def power(self) -> float:
        """What the logarithm of a sum over discrete variables is multiplied by.

        More than one where the model has a subset of its rows, which represents all.
        """
        return 1.0

    @property
    def largest_plate(self) -> int:
        """Cells of the widest draw that the model makes at once."""
        return 1

    @property
    def guide(self) -> Callable[..., Any] | None:
        """Another program, of the real latent variables, that approximates their posterior."""
        return None

    def guide_executions(self, observed: Collection[Hashable] = ()) -> Any:
        """Return what runs the guide.

        Args:
            observed: Variables that were observed.
        """
        raise NotImplementedError

    def batch(self) -> Any:
        """Return the model as it sees some of its rows; None if it always sees all."""
        return None
