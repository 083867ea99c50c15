"""Elements of real arrays as targets of queries."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pgnn.abilities import FactorModel
from pgnn.errors import EvidenceError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.variable import Variable
from pgnn.inference.base_question import Names
from pgnn.inference.model_reader import no_posterior
from pgnn.inference.posterior import Posterior
from pgnn.inference.with_reals import WithReals


@dataclass(frozen=True, eq=False)
class RealElements:
    """Targets some of which are elements of real arrays, such as ``("y", 3)``.

    Engines answer about the arrays, and the answer is restricted to the elements.

    Attributes:
        names: The targets, with arrays in place of their elements.
        by_array: Names of the elements by the name of their array.

    Example:
        >>> import pgnn
        >>> y = pgnn.Variable("y", shape=(2,))
        >>> normal = pgnn.Gaussian(y, mean=[0.0, 2.0], covariance=[[1.0, 0.5], [0.5, 1.0]])
        >>> model = pgnn.BayesianNetwork([], {"y": normal})
        >>> model.query(("y", 1), {"y": [3.0, None]})["y", 1].mean
        tensor(3.5000, dtype=torch.float64)
    """

    names: list[Hashable]
    by_array: Mapping[Hashable, list[Hashable]]

    @classmethod
    def of(cls, model: FactorModel, names: Names, observed: RowEvidence) -> RealElements | None:
        """Read the names of targets; None if no element of a real array is among them.

        Raises:
            EvidenceError: If an element is named twice, or observed in every row.
        """
        if type(names) is str or (type(names) is list and not any(type(n) is tuple for n in names)):
            return None  # at once: every query comes here
        arrays: dict[Hashable, Variable] = model.cached("real arrays", lambda: _real_arrays(model))
        try:
            return cls._read(model, arrays, names, observed) if arrays else None
        except TypeError:  # a name that is not hashable, which the engine refuses
            return None

    @classmethod
    def _read(
        cls,
        model: FactorModel,
        arrays: Mapping[Hashable, Variable],
        names: Names,
        observed: RowEvidence,
    ) -> RealElements | None:
        if isinstance(names, Hashable) and names in model.variables:
            return None
        one = element_of(arrays, names) is not None or not _several(names)
        listed: list[Hashable] = [names] if one else [*names]  # type: ignore[list-item, misc]
        by_array: dict[Hashable, list[Hashable]] = {}
        whole: dict[Hashable, None] = {}
        for name in listed:
            array = None if name in model.variables else element_of(arrays, name)
            if array is None:
                if name in whole:
                    return None  # the engine refuses it
                whole[name] = None
                continue
            if name in by_array.get(array.name, ()):
                raise EvidenceError(f"{name!r} is named twice")
            _check_unobserved(model, array, name, observed)
            by_array.setdefault(array.name, []).append(name)
        for array_name, elements in by_array.items():
            if array_name in whole:
                raise EvidenceError(f"{elements[0]!r} is named twice")
        if not by_array:
            return None
        order = [n if n in whole else n[0] for n in listed]  # type: ignore[index]
        return cls([*dict.fromkeys(order)], by_array)

    def restricted(self, answer: Posterior) -> Posterior:
        """Return the answer about the elements in place of their arrays."""
        if not isinstance(answer, WithReals):
            return answer
        return answer.with_elements(self.by_array)


def element_of(arrays: Mapping[Hashable, Variable], name: object) -> Variable | None:
    """Return the array of which a tuple names an element, if there is one."""
    if not isinstance(name, tuple) or len(name) < 2:
        return None
    array = arrays.get(name[0])
    return array if array is not None and array.has_element(name[1:]) else None


def _real_arrays(model: FactorModel) -> dict[Hashable, Variable]:
    variables = model.variables.items()
    return {n: v for n, v in variables if not v.is_discrete and v.shape}


def _several(names: object) -> bool:
    return isinstance(names, Iterable) and not isinstance(names, str | bytes | Iterator)


def _check_unobserved(
    model: FactorModel, array: Variable, name: Hashable, observed: RowEvidence
) -> None:
    values = observed.reals.get(array.name)
    if values is None:
        return
    index = name[1:]  # type: ignore[index]
    if not bool(values.to_dense()[:, *index].isnan().any()):
        raise no_posterior(model, name)
