"""JSON answers to the requests of the page."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlencode

import numpy as np
import torch

from pgnn.abilities import DirectedModel, FactorModel, NetworkModel
from pgnn.errors import DataError, ImpossibleEvidence, Intractable, NotConverged, Unsupported
from pgnn.evidence.wrappers import likelihood
from pgnn.explorer.case import Case
from pgnn.graphs.layered_layout import layered_layout
from pgnn.inference import DualDecomposition, JunctionTree
from pgnn.limits import human_count
from pgnn.sensitivity.entry import Entry, table_of, with_entry

_DRAWN, _LINES, _CELLS = 150, 12, 2_000
"""Largest numbers of nodes and of states that are drawn, and of table entries that are shown."""
_DIGITS = 6
_ROUNDING = 1e-9
_SOON = JunctionTree(max_bytes=2**30, max_work=3e8)
"""Exact inference that takes about a second."""
_MODELS = 8
"""Number of networks with changed tables that are cached."""


class Explorer:
    """Answers queries about single cases of a network.

    Args:
        model: A model of discrete variables without arrays.
        name: Title of the page.

    Raises:
        Unsupported: If the model has no tables, or has arrays or reals.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> Explorer(model).answer({"evidence": {"1": 1}})["marginals"][0]
        [0.111111, 0.888889]
    """

    def __init__(self, model: Any, name: str = "") -> None:
        if not isinstance(model, FactorModel) or not model.variables:
            raise Unsupported(f"the explorer shows models with tables, not {type(model).__name__}")
        for variable in model.variables.values():
            if not variable.is_discrete or variable.shape:
                raise Unsupported(
                    f"the explorer shows discrete variables, and {variable.name!r} is "
                    f"{'an array' if variable.shape else 'real'}"
                )
        self.model: Any = model
        self.name = name
        self.variables = tuple(model.variables.values())
        self._cached_model = lru_cache(_MODELS)(self._prepare)

    def fragment(self, evidence: Mapping[Any, Any]) -> str:
        """Return the part of an address that shows evidence, such as ``#smoke=yes``.

        Args:
            evidence: A state of each observed variable, or a mapping of all its states to weights.

        Example:
            >>> from pgnn.models import BayesianNetwork
            >>> model = BayesianNetwork([("a", "b")], states={"a": ["no", "yes"], "b": 3})
            >>> Explorer(model).fragment({"b": 2, "a": {"no": 0.2, "yes": 0.9}})
            '#b=2&a=no:0.2,yes:0.9'
        """
        texts = {}
        for name, finding in evidence.items():
            texts[str(name)] = str(finding)
            if isinstance(finding, Mapping):
                labels = [str(s) for s in self.model.variables[name].states]
                weights = [finding[s] for s in self.model.variables[name].states]
                is_plain = not any(mark in label for label in labels for mark in ",:")
                pairs = zip(labels, weights, strict=True)
                text = ",".join(f"{label}:{w}" for label, w in pairs)
                texts[str(name)] = text if is_plain else json.dumps(weights)
        return f"#{urlencode(texts, safe=':,')}" if texts else ""

    def describe(self) -> dict[str, Any]:
        """Return variables with states and parents, and the layout of nodes and edges."""
        numbers = {v.name: k for k, v in enumerate(self.variables)}
        directed = isinstance(self.model, DirectedModel)
        return {
            "name": self.name,
            "variables": [
                {
                    "name": str(v.name),
                    "states": [str(s) for s in v.states or ()],
                    "parents": [numbers[p.name] for p in self._parents(v.name)],
                    "neighbours": [] if directed else self._neighbours(v.name, numbers),
                }
                for v in self.variables
            ],
            "directed": directed,
            "normalized": self.model.is_normalized,
            "tables": isinstance(self.model, NetworkModel),
            "layout": self._layout(numbers),
        }

    def cost(self, message: Any) -> dict[str, Any]:
        """Return the engine of queries without evidence, the kind of its answers and its work.

        Args:
            message: Not read.

        Returns:
            ``engine``, ``kind``, and the number of multiply-adds as ``work``, such as
            "1.5 billion"; None if it is not known.
        """
        told = self.model.explain()
        work = None if told.multiply_adds is None else human_count(told.multiply_adds)
        return {"engine": told.engine, "kind": told.kind, "work": work}

    def answer(self, message: Any) -> dict[str, Any]:
        """Return all marginals given a case, and the log probability of its evidence.

        Args:
            message: See :meth:`Case.read`.

        Returns:
            ``marginals``, ``kind`` and ``engine``; ``log_evidence``, of a field the log partition
            function given the evidence; ``log_partition``, that without evidence, which has to be
            subtracted: zero for other models, None if one of both is not exact. If the evidence is
            impossible: why, and the variables in ``conflict``.

        Raises:
            DataError: If the message is invalid.
        """
        case = Case.read(message, self.variables)
        is_empty = not (case.states or case.likelihoods or case.changes)
        reply = self._answer_without_evidence if is_empty else self._answered(case)
        if "impossible" in reply:
            return reply
        return reply | {"log_partition": self._log_partition(reply)}

    def _log_partition(self, reply: dict[str, Any]) -> float | None:
        if self.model.is_normalized:
            return 0.0
        empty = self._answer_without_evidence
        exact = reply["kind"] == empty.get("kind") == "exact"
        return empty["log_evidence"] if exact else None

    @cached_property
    def _answer_without_evidence(self) -> dict[str, Any]:
        return self._answered(Case({}, {}))

    def _answered(self, case: Case) -> dict[str, Any]:
        model, compiled = self._cached_model(case.changes)
        if compiled is not None and not case.likelihoods:
            reply = self._exact(compiled, case)
            if reply is not None:
                return reply
        try:
            with torch.no_grad(), warnings.catch_warnings(record=True) as doubts:
                warnings.simplefilter("always", NotConverged)
                posterior = model.query([v.name for v in self.variables], self._evidence(case))
        except ImpossibleEvidence as error:
            numbers = {v.name: k for k, v in enumerate(self.variables)}
            return {"impossible": str(error), "conflict": [numbers[n] for n in error.conflict]}
        marginals = (posterior.probs(v.name).numpy(force=True) for v in self.variables)
        parts = [p.round(_DIGITS).tolist() for p in marginals]
        reply = _reply(parts, float(posterior.log_evidence), posterior.kind, posterior.engine)
        told = [str(w.message) for w in doubts if issubclass(w.category, NotConverged)]
        return reply | {"doubts": told}

    def explain(self, message: Any) -> dict[str, Any]:
        """Return the most probable states of all variables given a case.

        Args:
            message: See :meth:`Case.read`; with ``"longer": true`` the model's default engine
                answers, however long it takes. Otherwise the answer is the best assignment of a
                short search if exact inference takes more than about a second.

        Returns:
            ``states``, ``log_prob`` and ``engine``; ``gap`` by which another assignment may be
            better: zero if the states are optimal, None if not known.

        Raises:
            DataError: If the message is invalid.
        """
        case = Case.read(message, self.variables)
        model, _ = self._cached_model(case.changes)
        search = _most_probable if message.get("longer") is True else _soon
        try:
            best = search(model, self._evidence(case))
        except ImpossibleEvidence as error:
            return {"impossible": str(error), "conflict": []}
        states = [(v.states or ()).index(best[v.name]) for v in self.variables]
        log_prob = float(best.log_prob)
        gap = None if best.upper_bound is None else max(0.0, float(best.upper_bound) - log_prob)
        if gap is not None and gap <= _ROUNDING * max(1.0, abs(log_prob)):
            gap = 0.0
        return {"states": states, "log_prob": log_prob, "engine": best.engine, "gap": gap}

    def table(self, message: Any) -> dict[str, Any]:
        """Return the conditional table of a variable, with its parents and rows of probabilities.

        Args:
            message: A case with the index of a variable as ``variable``.

        Raises:
            DataError: If the message is invalid, or the table has more than 2,000 entries.
        """
        case = Case.read(message, self.variables)
        number = message.get("variable")
        if type(number) is not int or not 0 <= number < len(self.variables):
            raise DataError(f"there is no variable {str(number)[:40]!r}")
        model, _ = self._cached_model(case.changes)
        if not isinstance(model, NetworkModel):
            raise DataError("the model has no conditional tables")
        conditional = model.conditionals[self.variables[number].name]
        if math.prod(conditional.shape) > _CELLS:
            raise DataError(f"the table has more than {_CELLS:,} entries")
        table = table_of(conditional)
        numbers = {v.name: k for k, v in enumerate(self.variables)}
        return {
            "parents": [numbers[p.name] for p in conditional.parents],
            "rows": table.reshape(-1, table.shape[-1]).round(_DIGITS).tolist(),
        }

    def _exact(self, compiled: Any, case: Case) -> dict[str, Any] | None:
        """Answer by the compiled query, unless tables are too large or findings impossible."""
        codes = np.full(len(self.variables), -1, dtype=np.int64)
        codes[[*case.states]] = [*case.states.values()]
        try:
            answer = compiled(codes)
        except Intractable:
            return None
        if math.isinf(float(answer.log_evidence)):
            return None
        flat = answer.marginals.numpy(force=True).round(_DIGITS).tolist()
        parts = [flat[compiled.columns[v.name]] for v in self.variables]
        return _reply(parts, float(answer.log_evidence), "exact", "JunctionTree")

    def _prepare(self, changes: tuple[tuple[int, tuple[int, ...], float], ...]) -> tuple[Any, Any]:
        """Return the network with changed tables, and its compiled query if it is exact."""
        model = self.model
        for number, place, value in changes:
            model = with_entry(model, self._entry(number, place), value)
        try:
            return model, model.compile()
        except (Intractable, Unsupported):
            return model, None

    def _entry(self, number: int, place: tuple[int, ...]) -> Entry:
        if not isinstance(self.model, NetworkModel):
            raise DataError("the model has no conditional tables")
        conditional = self.model.conditionals[self.variables[number].name]
        if len(place) != len(conditional.scope) or any(
            k >= v.num_states for k, v in zip(place, conditional.scope, strict=False)
        ):
            raise DataError(f"the table of {conditional.child.name!r} has no entry {list(place)}")
        states = [(v.states or ())[k] for v, k in zip(conditional.scope, place, strict=True)]
        parents = dict(zip((p.name for p in conditional.parents), states, strict=False))
        return Entry(conditional.child.name, states[-1], parents)

    def _evidence(self, case: Case) -> dict[Any, Any]:
        variables = self.variables
        evidence = {
            variables[k].name: (variables[k].states or ())[s] for k, s in case.states.items()
        }
        soft = {variables[k].name: likelihood([*w]) for k, w in case.likelihoods.items()}
        return evidence | soft

    def _parents(self, name: Any) -> tuple[Any, ...]:
        if isinstance(self.model, DirectedModel):
            return self.model.conditionals[name].parents
        return ()

    def _neighbours(self, name: Any, numbers: dict[Any, int]) -> list[int]:
        graph = self.model.graph
        return [numbers[n] for n in graph.adj.get(name, ()) if n in numbers]

    def _layout(self, numbers: dict[Any, int]) -> dict[str, Any] | None:
        large = len(self.variables) > _DRAWN
        if large or max(v.num_states for v in self.variables) > _LINES:
            return None
        sizes = {v.name: _size(v) for v in self.variables}
        if any(node not in sizes for node in self.model.graph):
            return None
        layout = layered_layout(self.model.graph, sizes, gap=(24.0, 40.0))
        return {
            "size": layout.size,
            "nodes": [[*layout.positions[v.name], *sizes[v.name]] for v in self.variables],
            "edges": [
                [numbers[a], numbers[b], [[round(x, 1), round(y, 1)] for x, y in route]]
                for (a, b), route in layout.routes.items()
            ],
        }


def _soon(model: Any, evidence: Any) -> Any:
    """Most probable states: exact if that takes about a second, otherwise of a short search."""
    for engine in (_SOON, DualDecomposition.brief(seed=0)):
        with suppress(Intractable, Unsupported):
            return _most_probable(model, evidence, engine=engine)
    return _most_probable(model, evidence)


def _most_probable(model: Any, evidence: Any, **settings: Any) -> Any:
    """Most probable states; the reply says by what they may be exceeded, where engines warn."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        return model.most_probable(evidence, **settings)


def _size(variable: Any) -> tuple[float, float]:
    """Size of a node on the page, in pixels."""
    longest = max(len(str(s)) for s in variable.states)
    width = max(170.0, 9.2 * len(str(variable.name)) + 92.0, 8.0 * min(longest, 22) + 164.0)
    return width, 30.0 + 24.0 * variable.num_states


def _reply(parts: list[list[float]], log_evidence: float, kind: str, engine: str) -> dict[str, Any]:
    return {
        "marginals": parts,
        "log_evidence": log_evidence if math.isfinite(log_evidence) else None,
        "kind": kind,
        "engine": engine,
    }
