"""Queries: a model, evidence and targets, in the form that engines use."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.abilities import FactorModel, Inputs
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.covariates import read_covariates
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.unknown_variable import unknown_variable
from pgnn.factors.elements import Elements
from pgnn.factors.variable import Variable
from pgnn.inference.answer_columns import AnswerColumns
from pgnn.inference.base_question import BaseQuestion, Names
from pgnn.inference.expansion import DECOMPOSED
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.findings import Findings
from pgnn.inference.model_graph import model_graph
from pgnn.inference.model_reader import check_constants, reader_of
from pgnn.inference.real_elements import RealElements

Variables = Mapping[Hashable, Variable]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Question(BaseQuestion):
    """A query: a model, evidence and targets, in the form that engines use.

    Names and evidence are read and checked when a method of a model is called; the factor graph and
    the targets are computed on demand.

    Args:
        model: The model.
        graph: The factor graph; if None that of the model, given real values and inputs.
        observed: ``B`` rows of evidence.
        inputs: Covariates by name.
        names: Names of the targets; None for all variables.
        errors: Treatment of impossible rows: ``"raise"`` or ``"nan"``.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> question = Question.read(model, {"b": 1}, names="a")
        >>> question.observed.codes, question.targets.variables, question.graph.num_interactions
        (array([[-1,  1]], dtype=int32), (Variable('a', [0, 1]),), 1)
    """

    __slots__ = ("_elements", "_graph", "_targets")

    model: FactorModel
    observed: RowEvidence

    def __init__(
        self,
        model: FactorModel,
        graph: FactorGraph | None,
        observed: RowEvidence,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> None:
        super().__init__(model, observed, inputs, names=names, errors=errors)
        self._elements: RealElements | None = None
        self._graph = graph
        self._targets: Targets | None = None

    @classmethod
    def read(
        cls,
        model: FactorModel,
        evidence: Any = None,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> Question:
        """Read evidence in any form; see :meth:`Model.query`.

        Raises:
            EvidenceError: If ``errors`` is neither ``"raise"`` nor ``"nan"``, or evidence is
                invalid.
            ImpossibleEvidence: If a variable that was set to a value is observed as another.
        """
        reader = reader_of(model)
        observed = reader.read(evidence)
        if reader.constants and errors == "raise":
            check_constants(reader.constants, observed)
        if inputs:
            inputs = read_covariates(model.read_inputs(inputs))
            observed = observed.over(inputs)
        elements = None if names is None else RealElements.of(model, names, observed)
        names = names if elements is None else elements.names
        question = cls(model, None, observed, inputs, names=names, errors=errors)
        question._elements = elements
        return question

    def check_whole(self) -> None:
        """Refuse elements of real arrays, whose other elements would be maximised with them.

        Raises:
            Unsupported: If a target is such an element.
        """
        if self._elements is not None:
            array, (first, *_) = next(iter(self._elements.by_array.items()))
            raise Unsupported(
                f"{first!r} is an element of a real array, and its other elements are not summed "
                "out in a search for the most probable values",
                advice=f"name the whole array {array!r}, or query {first!r}",
            )

    def answered(self, answer: Any) -> Any:
        """Return a posterior of the elements of real arrays that are targets, with the evidence."""
        answer = answer if self._elements is None else self._elements.restricted(answer)
        answer = super().answered(answer)
        if self.observed.names:
            answer.findings = Findings(self.observed, self.model.elements)
        return answer

    @property
    def graph(self) -> FactorGraph:
        """The factor graph, cached by the model until its parameters change."""
        if self._graph is None:
            self._graph = model_graph(self.model, self.observed.reals or None, self.inputs or None)
        return self._graph

    @property
    def targets(self) -> Targets:
        """The discrete targets.

        Raises:
            EvidenceError: If a name is unknown or given twice.
            Unsupported: If a target is a real variable.
        """
        if self._targets is None:
            self._targets = targets_of(self.model, self.names)
        return self._targets

    @property
    def complete(self) -> bool:
        """Whether every element of the model is observed in every row."""
        codes = self.observed.codes[:, : len(self.model.elements)]
        return self.observed.soft is None and bool((codes >= 0).all())

    def with_states(self, codes: NDArray[np.integer]) -> Question:
        """Return the query with additional observed states.

        Args:
            codes: ``(B, E)`` states; -1 for elements that stay as they are.
        """
        known = np.where(codes >= 0, codes, self.observed.codes).astype(np.int32)
        return self.over(self.graph, replace(self.observed, codes=known))

    def expanded(self, most: int = DECOMPOSED) -> Question:
        """Return the query for the expanded graph, see :meth:`FactorGraph.expanded`.

        Auxiliary elements come last; their states are not part of answers.

        Args:
            most: Factors with at most this many table entries are tabulated, not decomposed.

        Raises:
            Intractable: If a table is too large, whatever the evidence.
        """
        if self.graph.written_down:
            return self
        graph = self.graph.expanded(most)
        observed = graph.evidence(self.observed)
        return self.over(graph.given(observed.codes), observed)

    def over(self, graph: FactorGraph, observed: RowEvidence | None = None) -> Question:
        """Return the query for another factor graph, with evidence on its elements."""
        known = self.observed if observed is None else observed
        other = Question(
            self.model, graph, known, self.inputs, names=self.names, errors=self.errors
        )
        other._targets = self._targets
        return other

    def about(self, names: Names | None) -> Question:
        """Return the query with other targets."""
        return Question(
            self.model, self._graph, self.observed, self.inputs, names=names, errors=self.errors
        )

    def log_field(self) -> Floats:
        """``(B, S)`` unary log potentials with evidence: ``-inf`` at states that it excludes."""
        offset = self.graph.elements.offset
        field = self.graph.log_field.detach().to("cpu", torch.float64).numpy()
        total = np.array(np.broadcast_to(field, (self.num_rows, field.shape[1])), order="C")
        if self.observed.soft is not None:
            with np.errstate(divide="ignore"):
                total += np.log(self.observed.soft)
        rows, observed = np.nonzero(self.observed.codes >= 0)
        if len(rows):
            kept = offset[observed] + self.observed.codes[rows, observed]
            values = total[rows, kept]
            hidden = np.repeat(self.observed.codes >= 0, np.diff(offset), axis=1)
            total[hidden] = -np.inf
            total[rows, kept] = values
        return total


def listed(names: Names) -> list[Hashable]:
    """Return one name or several as a list."""
    if isinstance(names, (str, bytes, int)) or not isinstance(names, Iterable):
        return [names]
    try:
        return list(names)
    except TypeError:  # an array without an axis
        return [names]  # type: ignore[list-item]


def names_of(
    names: Names, variables: Variables, elements: Elements | None = None, what: str = "variable"
) -> list[Hashable]:
    """Return the names of targets after checking that they are known.

    A tuple is one name if it names a variable or an element, otherwise several names.

    Args:
        names: One name or several.
        variables: By name.
        elements: Elements of arrays, if these may be targets as well.
        what: What a name refers to, for messages.

    Raises:
        EvidenceError: If a name is unknown, given twice, or not hashable.
    """
    if _is_known(names, variables, elements):
        return [names]  # type: ignore[list-item]
    targets = listed(names)
    index = names[1:] if isinstance(names, tuple) else ()
    if index and all(isinstance(i, int) and i not in variables for i in index):
        raise unknown_variable(names, variables.values(), what)  # of an element outside its array
    for name in targets:
        if not isinstance(name, Hashable):
            raise EvidenceError(f"expected the name of a variable, or a list of names, got {name}")
        if not _is_known(name, variables, elements):
            raise unknown_variable(name, variables.values(), what)
    if len(set(targets)) < len(targets):
        twice = next(n for n in targets if targets.count(n) > 1)
        whole = None if elements is None else elements.find(twice)
        if elements is not None and whole is not None:
            twice = elements.name(int(whole[1].flat[0]))
        raise EvidenceError(f"{twice!r} is named twice")
    return targets


def _is_known(name: object, variables: Variables, elements: Elements | None) -> bool:
    try:
        known = name in variables
    except TypeError:  # a list, or a tuple with one
        return False
    return known or (elements is not None and elements.find(name) is not None)


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of a query.

    Args:
        variables: The named variables; an element of an array is a single variable.
        numbers: Indices of their elements, in the order of the variables.
        elements: All elements of the model.
    """

    variables: tuple[Variable, ...]
    numbers: Ints
    elements: Elements

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """``(E,)`` which elements are targets."""
        mask = np.zeros(len(self.elements), dtype=np.bool_)
        mask[self.numbers] = True
        return mask

    @cached_property
    def key(self) -> bytes:
        """A key that is equal for targets with the same elements."""
        return np.packbits(self.mask).tobytes()

    @cached_property
    def columns(self) -> Ints:
        """Columns of the targets' states among those of all elements."""
        return _spread(self.elements.offset[self.numbers], self.elements.card[self.numbers])

    @cached_property
    def order(self) -> Ints | None:
        """Positions that sort the targets' states by element; None if they are sorted."""
        if not (self.numbers[1:] < self.numbers[:-1]).any():
            return None
        order = np.argsort(self.numbers)
        sizes = self.elements.card[self.numbers]
        first = np.empty_like(sizes)
        first[order] = np.cumsum(sizes[order]) - sizes[order]
        return _spread(first, sizes)

    @cached_property
    def answer_columns(self) -> AnswerColumns:
        """Columns of the states of each variable in an answer."""
        return AnswerColumns(self.variables, "this posterior", states=True)


def _spread(first: Ints, sizes: Ints) -> Ints:
    """Return the ranges ``first[k] : first[k] + sizes[k]`` of column indices, concatenated."""
    ends = np.cumsum(sizes)
    step = np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    return np.asarray(step + np.repeat(first - (ends - sizes), sizes))


def targets_of(model: FactorModel, names: Names | None) -> Targets:
    """Return the named discrete variables or elements of arrays; all variables for None.

    Raises:
        EvidenceError: If a name is unknown or given twice.
        Unsupported: If a variable is real.
    """
    if names is None:
        everything: Targets = model.cached("all targets", lambda: _everything(model.elements))
        return everything
    return _named(model.elements, model.variables, names)


def _named(elements: Elements, variables: Variables, names: Names) -> Targets:
    array = elements.find(names)
    if array is not None:
        return Targets((array[0],), array[1].ravel(), elements)
    located = [_located(elements, name) for name in names_of(names, variables, elements)]
    numbers = np.concatenate([np.zeros(0, np.int64), *(n.ravel() for _, n in located)])
    targets = Targets(tuple(v for v, _ in located), numbers, elements)
    if np.count_nonzero(targets.mask) < len(numbers):
        values, counts = np.unique(numbers, return_counts=True)
        raise EvidenceError(f"{elements.name(int(values[counts > 1][0]))!r} is named twice")
    return targets


def _everything(elements: Elements) -> Targets:
    return Targets(elements.variables, np.arange(len(elements), dtype=np.int64), elements)


def scope_of(elements: Elements, variables: Variables, names: Iterable[Hashable]) -> list[int]:
    """Return the element indices of a joint table over scalar variables and elements of arrays.

    Raises:
        EvidenceError: If a name is unknown, given twice, or that of an array.
        Unsupported: If a variable is real.
    """
    scope = _named(elements, variables, list(names))
    for v in scope.variables:
        if v.shape:
            element = (v.name, *[0] * len(v.shape))
            raise EvidenceError(f"{v.name!r} is an array", f"name elements of it, as in {element}")
    return [int(e) for e in scope.numbers]


def _located(elements: Elements, name: Hashable) -> tuple[Variable, Ints]:
    element = elements.find(name)
    if element is None:
        raise Unsupported(
            f"{name!r} has no states; this engine answers queries about discrete variables only"
        )
    return element
