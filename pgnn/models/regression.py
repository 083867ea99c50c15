"""Regressions: conditional models of one variable given others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, EvidenceError, ModelError, Unsupported
from pgnn.evidence.frames import columns_of
from pgnn.evidence.reading import floats_of
from pgnn.evidence.states import states_of
from pgnn.factors.conditionals.bayesian_linear import BayesianLinear
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exogenous import Exogenous
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.conditionals.parameter_prior import NormalPrior, ParameterPrior
from pgnn.factors.conditionals.softmax import Softmax
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.directed_declaration import event_shape
from pgnn.models.structure_restored_on_failure import structure_restored_on_failure

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner

Parents = Hashable | Variable | Iterable[Hashable | Variable] | None


class Regression(BayesianNetwork):
    r"""A conditional model :math:`p(y \mid x)` of one variable given others.

    ``model.query("y", rows)`` gives the distribution of :math:`y` in each row, and
    ``model.predict(rows)`` its mean or most probable state. Parents must be observed.

    Args:
        child: The response; its name, or a :class:`Variable`.
        parents: The predictors, likewise; all other columns of the data if not given. Matrices are
            vectors.
        kind: A function ``(child, parents) -> Conditional``, or a conditional.
        prior: Prior on the parameters; flat if not given.
        discrete: Whether the child is discrete.

    Raises:
        ModelError: If a name is repeated, or the conditional has wrong variables.

    Example:
        >>> import pgnn
        >>> rows = {"x": [0.0, 1.0, 2.0, 3.0], "n": [1.0, 3.0, 4.0, 9.0]}
        >>> kind = lambda y, x: pgnn.LinearGaussian(y, x)
        >>> model = Regression("n", "x", kind).fit(rows, progress=False)
        >>> model.predict({"x": [4.0]})
        tensor([10.5000], dtype=torch.float64)
    """

    def __init__(
        self,
        child: Hashable | Variable,
        parents: Parents = None,
        kind: Callable[..., Conditional] | Conditional | None = None,
        prior: ParameterPrior | None = None,
        *,
        discrete: bool = False,
    ) -> None:
        if prior is not None and not isinstance(prior, ParameterPrior):
            raise ModelError(f"prior must be a prior such as NormalPrior(1.0), got {prior!r}")
        # a conditional is a module, which must be registered only in the network
        self._kind = (lambda *_: kind) if isinstance(kind, Conditional) else kind or LinearGaussian
        self.prior, self._discrete = prior, discrete
        self._child, self._parents = _name(child), parents
        declared = [] if parents is None else _listed(parents)
        names = [_name(p) for p in declared]
        if len({self._child, *names}) < 1 + len(names):
            raise ModelError(f"a variable is given twice: {[self._child, *names]}")
        graph = nx.DiGraph()
        graph.add_nodes_from([*names, self._child])
        graph.add_edges_from((n, self._child) for n in names)
        known: dict[Hashable, Any] = {
            _name(v): v for v in [child, *declared] if isinstance(v, Variable)
        }
        kinds: dict[Hashable, Any] = dict.fromkeys(names, _exogenous)
        super().__init__(graph, {**kinds, self._child: self._made}, known)

    def _made(self, child: Variable, parents: list[Variable]) -> Conditional:
        return self._kind(child, parents)

    def settings(self) -> Settings:
        """Return the variables and the conditional."""
        conditional = self.conditionals[self._child]
        return {
            "child": conditional.child,
            "parents": conditional.parents,
            "kind": conditional,
            "prior": self.prior,
            "discrete": self._discrete,
        }

    @property
    def child(self) -> Hashable:
        """Name of the response."""
        return self._child

    @property
    def conditional(self) -> Conditional:
        """The conditional of the child."""
        return self.conditionals[self._child]

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`BayesianNetwork`; parents are the other columns if not given."""
        with structure_restored_on_failure(self):
            if self._parents is None:
                others = [n for n in columns_of(data) if n != self._child]
                others = [n for n in others if not (isinstance(weights, str) and n == weights)]
                if not others:
                    raise DataError(f"data needs a predictor, got only the column {self._child!r}")
                vars(self).update(vars(type(self)(**self._arguments(others))))
            with super()._declared_by(data, weights, inputs) as declared:
                yield declared

    def _arguments(self, parents: Any) -> dict[str, Any]:
        """Return the arguments of the constructor, once the parents are known."""
        arguments = {"kind": self._kind, "prior": self.prior, "discrete": self._discrete}
        return {"child": self._child, "parents": parents, **arguments}

    def predict(self, data: Any) -> Any:
        """Return the means ``(N,)`` of a real child, or the most probable states as an array.

        Args:
            data: Rows with the parents; the child's column is ignored.

        Returns:
            Of a pandas frame, a series with its index.
        """
        names = [v.name for v in self.conditional.parents]
        rows = {n: x for n, x in columns_of(data).items() if n in names}
        missing = [n for n in names if n not in rows]
        if missing:
            raise EvidenceError(
                f"predict() of {self._child!r} needs all of {names}; {missing[0]!r} is missing"
            )
        if self.conditional.child.is_discrete:
            best = self.most_probable(rows, self._child)
            if not best.batched:
                return best[self._child]
            predicted: Any = best.frame()[self._child].to_numpy()
        else:
            predicted = self.query(self._child, rows)[self._child].mean.detach()
        import pandas as pd

        if predicted.ndim != 1 or not isinstance(data, pd.DataFrame):
            return predicted
        return pd.Series(np.asarray(predicted), index=data.index, name=self._child)

    def coefficients(self) -> Any:
        """Return a data frame of the coefficients: one row per feature, the bias last.

        Raises:
            Unsupported: If the conditional is not a linear or logistic regression.
        """
        import pandas as pd

        conditional: Any = self.conditional
        if not isinstance(conditional, Softmax | LinearGaussian) or (
            isinstance(conditional, LinearGaussian) and conditional.configurations
        ):
            raise Unsupported(
                f"{type(conditional).__name__} has no table of coefficients", "see conditional"
            )
        weight = conditional.weight.detach().cpu().numpy()
        bias = np.asarray(conditional.bias.detach().cpu().numpy())
        table = weight.T if isinstance(conditional, LinearGaussian) else weight
        rows = np.concatenate([table, bias[None]])
        index = [*(n for v in conditional.parents for n in _features(v)), "bias"]
        if rows.ndim == 1:
            frame = pd.DataFrame({"weight": rows}, index=pd.Index(index, tupleize_cols=False))
            if isinstance(conditional, BayesianLinear):
                frame["std"] = conditional.spread.diagonal().sqrt().numpy()
            return frame
        columns = conditional.child.states or range(rows.shape[1])
        return pd.DataFrame(rows, index=pd.Index(index, tupleize_cols=False), columns=[*columns])

    def default_learner(self, data: Any) -> Learner:
        """Return ``MaximumLikelihood`` with the prior."""
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        conditional = self.conditional
        prior = NormalPrior(float("inf")) if self.prior is None else self.prior
        return MaximumLikelihood({self._child: prior} if prior.applies(conditional) else None)

    def _learner(self, learner: Learner | None, data: Any) -> Learner:
        """Return a given learner without a prior uses that of the model."""
        from pgnn.inference.learning.em import EM
        from pgnn.inference.learning.gradient import Gradient
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        chosen = super()._learner(learner, data)
        if learner is None or self.prior is None:
            return chosen
        if isinstance(chosen, EM | MaximumLikelihood) and chosen.prior is None:
            return replace(chosen, prior={self._child: self.prior})
        if isinstance(chosen, Gradient) and not chosen.l1 and not chosen.l2:
            raise Unsupported(
                f"Gradient() does not support the prior {self.prior!r} of the model",
                "use l1= or l2=",
            )
        return chosen

    def _variables_from(self, columns: Mapping[Hashable, Any]) -> Mapping[Hashable, Variable]:
        """Derive variables from data: numeric columns are real, others discrete."""
        declared = {}
        for name, column in columns.items():
            real = not self._discrete if name == self._child else _is_numeric(column)
            declared[name] = (
                Variable(name, None, event_shape(name, column))
                if real
                else states_of({name: column})[name]
            )
        return declared

    def __repr__(self) -> str:
        parents = [*self.graph.predecessors(self._child)]
        shown = parents if self._parents is not None else None
        prior = "" if self.prior is None else f", prior={self.prior!r}"
        return f"{type(self).__name__}({self._child!r}, {shown}{prior})"


def _exogenous(child: Variable, parents: Any) -> Conditional:
    return Exogenous(child, parents)


def _name(given: Hashable | Variable) -> Hashable:
    return given.name if isinstance(given, Variable) else given


def _listed(given: Any) -> list[Any]:
    one = isinstance(given, str | Variable) or not isinstance(given, Iterable)
    if one or (isinstance(given, tuple) and not _are_variables(given)):
        return [given]
    return [*given]


def _are_variables(given: Any) -> bool:
    return isinstance(given, tuple) and all(isinstance(v, Variable) for v in given)


def _is_numeric(column: Any) -> bool:
    """Whether a column is numeric rather than labels or booleans."""
    kind = getattr(column, "dtype", None)
    if str(kind) in ("bool", "boolean", "category", "torch.bool"):
        return False
    if isinstance(column, list | tuple) and any(isinstance(x, bool) for x in column):
        return False
    try:
        floats_of(column.numpy(force=True) if isinstance(column, Tensor) else column)
    except (TypeError, ValueError):
        return False
    return True


def _features(v: Variable) -> list[Hashable]:
    """Return the names of the features of a parent."""
    if v.is_discrete:
        return [(v.name, s) for s in (v.states or ())[1:]]
    return [v.name] if not v.shape else [(v.name, *i) for i in np.ndindex(*v.shape)]
