"""Factor graphs, the input of all engines for discrete models: elements and groups of factors."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.variable import Variable
from pgnn.inference.expansion import DECOMPOSED, Expansion
from pgnn.inference.graph_structure import GraphStructure
from pgnn.inference.lookup_tables import LookupTables
from pgnn.inference.scaled_tables import ScaledTables
from pgnn.inference.wiring import LocalWiring, MessageWiring, Wiring

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


class FactorGraph:
    r"""A product of factors over elements, numbered ``0 .. V-1``.

    .. math:: \tilde p(x) = \prod_f \phi_f(x_f) = \exp \Big( c + \sum_i \theta_i(x_i) +
        \sum_{f : |f| > 1} \theta_f(x_f) \Big)

    Exact engines read all factors as tables, in the order of the groups. Approximate engines read a
    constant, a unary log potential (field) per element, and the groups over two or more elements.

    Args:
        elements: The elements, or their variables.
        factors: Groups of factors over indices of elements, or single tables, each of which becomes
            a group; batch shape ``(B,)`` means a different table for each row of the batch.
        origin: The expansion that created the graph, if it has auxiliary elements.

    Attributes:
        elements: The elements, in order of their indices.
        groups: All factors in groups.
        structure: The structure, shared with graphs that have the same scopes.
    """

    def __init__(
        self,
        elements: Elements | Sequence[Variable],
        factors: Iterable[Factor | FactorGroup] = (),
        origin: Expansion | None = None,
    ) -> None:
        self.elements = elements if isinstance(elements, Elements) else Elements(elements)
        self.groups: tuple[FactorGroup, ...] = tuple(
            self._as_group(f) if isinstance(f, Factor) else f for f in factors
        )
        self.structure = GraphStructure.of(self.elements, self.groups)
        self.origin = origin
        self._expanded: dict[int, FactorGraph] = {}

    # --- structure -----------------------------------------------------------------------------

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The elements as variables, in the order of evidence codes and marginals."""
        return self.elements.singles

    @property
    def num_factors(self) -> int:
        """Number of factors ``F``."""
        return self.structure.num_factors

    @property
    def digest(self) -> bytes:
        """A hash that graphs which can share a plan agree on, see :class:`GraphStructure`."""
        return self.structure.digest

    @property
    def first(self) -> Ints:
        """See :class:`GraphStructure`."""
        return self.structure.first

    @property
    def index(self) -> dict[Hashable, int]:
        """See :class:`GraphStructure`."""
        return self.structure.index

    @property
    def card(self) -> Ints:
        """``(V,)`` state counts."""
        return self.elements.card

    @property
    def offset(self) -> Ints:
        """``(V + 1,)`` first column of each element, all states being concatenated."""
        return self.elements.offset

    @property
    def scopes(self) -> tuple[tuple[int, ...], ...]:
        """See :class:`GraphStructure`."""
        return self.structure.scopes

    @property
    def scope_ptr(self) -> Ints:
        """See :class:`GraphStructure`."""
        return self.structure.scope_ptr

    @property
    def scope_var(self) -> Ints:
        """See :class:`GraphStructure`."""
        return self.structure.scope_var

    @property
    def rowwise(self) -> Mask:
        """See :class:`GraphStructure`."""
        return self.structure.rowwise

    @property
    def sizes(self) -> Ints:
        """See :class:`GraphStructure`."""
        return self.structure.sizes

    @property
    def start(self) -> Ints:
        """See :class:`GraphStructure`."""
        return self.structure.start

    @property
    def child_factor(self) -> Ints:
        """See :class:`GraphStructure`."""
        return self.structure.child_factor

    @property
    def lookup(self) -> LookupTables:
        """See :class:`GraphStructure`."""
        return self.structure.lookup

    def columns(self, wanted: Mask) -> Ints:
        """``(V,)`` first column of each element if the states of wanted ones are concatenated."""
        sizes = np.where(wanted, self.card, 0)
        return np.cumsum(sizes) - sizes

    def adopt_structure(self, known: Iterable[GraphStructure]) -> bool:
        """Reuse a known structure and its cache if its groups have the same scopes.

        Returns:
            Whether a structure was reused.
        """
        for structure in known:
            if structure.is_of(self.groups):
                self.structure = structure
                return True
        return False

    # --- numbers -------------------------------------------------------------------------------

    @cached_property
    def sources(self) -> tuple[Tensor, ...]:
        """The log tables of each group."""
        # cached with their graph, so that later callers can differentiate
        with torch.enable_grad():
            return tuple(g.log_values for g in self.groups)

    @cached_property
    def learned(self) -> tuple[int, ...]:
        """Parameters of the groups that require gradients."""
        return tuple(k for k, x in enumerate(self.sources) if x.requires_grad)

    @cached_property
    def requires_grad(self) -> bool:
        """Whether any parameter requires a gradient."""
        return any(g.numbers.requires_grad for g in self.groups)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Dtype of the answers: the widest dtype of a parameter, at least float32."""
        widest = torch.float32
        for kind in {g.numbers.dtype for g in self.groups}:
            widest = torch.promote_types(widest, kind)
        return widest if self.groups else torch.float64

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.groups[0].numbers.device if self.groups else torch.device("cpu")

    @cached_property
    def num_rows(self) -> int:
        """Number of rows ``B`` of row-wise factors; 1 if there are none."""
        return max((g.batch_shape[0] for g in self.groups if g.batch_shape), default=1)

    # --- as tables -----------------------------------------------------------------------------

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """All factors as separate tables."""
        with torch.enable_grad():
            return tuple(f for g in self.groups for f in g.over(self.variables))

    @cached_property
    def scaled_tables(self) -> ScaledTables:
        """The tables in probability units, as the compiled exact kernels read them."""
        return ScaledTables.of(self.groups, self.sources, self.structure)

    @cached_property
    def flat_log_values(self) -> Tensor:
        """All shared log tables, concatenated."""
        spread = [
            x.expand(g.num_factors, *x.shape[1:])
            for g, x in zip(self.groups, self.sources, strict=True)
        ]
        return self.lookup.flatten(spread)

    # --- as fields and interactions ------------------------------------------------------------

    @cached_property
    def interactions(self) -> tuple[FactorGroup, ...]:
        """The groups of factors over two or more elements."""
        return tuple(g for g in self.groups if g.arity > 1 and g.num_factors)

    @property
    def num_interactions(self) -> int:
        """Factors over two or more elements."""
        return sum(g.num_factors for g in self.interactions)

    def interaction(self, f: int) -> FactorGroup:
        """Return a factor over two or more elements as a group, by its index in :attr:`wiring`."""
        for g in self.interactions:
            if f < g.num_factors:
                return g.select(torch.tensor([f]))
            f -= g.num_factors
        raise IndexError(f)

    @cached_property
    def interactions_rowwise(self) -> bool:
        """Whether some factor over two or more elements depends on the row of the batch."""
        return any(g.batch_shape for g in self.interactions)

    @cached_property
    def compiled(self) -> tuple[FactorGroup, ...]:
        """:attr:`interactions` in the form that compiled kernels read."""
        return tuple(g.for_kernels() for g in self.interactions)

    @cached_property
    def wiring(self) -> Wiring:
        """The index arrays of :attr:`interactions` for kernels."""
        return Wiring.of(self.elements, self.compiled)

    @cached_property
    def local_wiring(self) -> LocalWiring:
        """:attr:`wiring` in the layout for updates of single elements."""
        return LocalWiring.of(self.wiring)

    @cached_property
    def message_wiring(self) -> MessageWiring:
        """:attr:`wiring` in the layout for message passing."""
        return MessageWiring.of(self.wiring)

    @cached_property
    def log_constant(self) -> Tensor:
        """``(1,)`` or ``(B,)`` log of the product of constant factors."""
        total = torch.zeros(1, dtype=self.dtype, device=self.device)
        for g in self.groups:
            if g.arity == 0:
                total = total + g.product().log_values.sum(-1)
        return total

    @cached_property
    def log_field(self) -> Tensor:
        """``(1, S)`` or ``(B, S)`` sums of unary log potentials, all states concatenated."""
        offset = self.elements.offset
        field = torch.zeros(1, int(offset[-1]), dtype=self.dtype, device=self.device)
        for g in self.groups:
            if g.arity != 1 or not g.num_factors:
                continue
            states = g.log_values.shape[-1]
            place = torch.from_numpy(offset[g.scopes] + np.arange(states)).to(self.device)
            table = g.log_values.expand(*g.batch_shape, g.num_factors, states)
            rows = table.reshape(-1, g.num_factors * states).to(self.dtype)
            field = field.expand(len(rows) if len(field) == 1 else len(field), -1)
            # infinities of one sign sum to an infinity, never to NaN
            field = field.index_add(1, place.reshape(-1), rows.expand(len(field), -1))
        return field

    @cached_property
    def log_tables(self) -> Floats:
        """``(1, T)`` or ``(B, T)`` log values in the layout of :class:`Wiring`, in float64."""
        parts = [_flat(g) for g in self.compiled]
        if not parts:
            return np.zeros((1, 1))
        lengths = {len(p) for p in parts}
        rows = max(lengths) if min(lengths) else 0
        return np.concatenate([np.broadcast_to(p, (rows, p.shape[1])) for p in parts], axis=1)

    def log_score(self, codes: Codes) -> Tensor:
        r"""Return ``(B,)`` values :math:`\log \tilde p` of complete rows; differentiable.

        Args:
            codes: ``(B, V)`` state indices, none missing.
        """
        x = torch.from_numpy(np.ascontiguousarray(codes, dtype=np.int64)).to(self.device)
        columns = x + torch.from_numpy(self.elements.offset[:-1]).to(self.device)
        total = self.log_constant + self.log_field.expand(len(x), -1).gather(1, columns).sum(1)
        if not self.interactions:
            return total
        # contiguous columns in the smallest integer type
        small = np.uint8 if int(self.card.max(initial=1)) <= 256 else np.int32
        by_element = torch.from_numpy(np.ascontiguousarray(codes.T, dtype=small)).to(self.device)
        for g in self.interactions:
            total = total + g.score(by_element)
        return total

    # --- factors without tables ----------------------------------------------------------------

    @cached_property
    def written_down(self) -> bool:
        """Whether all factors have tables, or are small enough to be tabulated."""
        return all(g.written_down for g in self.groups)

    def expanded(self, most: int = DECOMPOSED) -> FactorGraph:
        """Return the graph with auxiliary elements, in which large factors are decomposed."""
        if self.written_down:
            return self
        if most not in self._expanded:
            expansion = Expansion.of(self.elements, self.groups, most, self.structure.expansions)
            other = FactorGraph(expansion.elements, expansion.groups, expansion)
            known = self.structure.expanded
            if not other.adopt_structure(s for s in known if s.elements is expansion.elements):
                known[:] = [*known[-3:], other.structure]
            self._expanded[most] = other
        return self._expanded[most]

    def evidence(self, observed: RowEvidence) -> RowEvidence:
        """Convert evidence about the model's elements to evidence about those of this graph."""
        return observed if self.origin is None else self.origin.evidence(observed)

    def mask(self, mask: Mask) -> Mask:
        """Convert a mask over the model's elements; False for auxiliary elements."""
        hidden = len(self.elements) - len(mask)
        return np.concatenate([mask, np.zeros(hidden, dtype=np.bool_)]) if hidden else mask

    def given(self, codes: Codes) -> FactorGraph:
        """Return the graph in which factors without tables are tabulated given the evidence."""
        groups = self.groups if self.written_down else [g.given(codes) for g in self.groups]
        return self if self.written_down else FactorGraph(self.elements, groups, self.origin)

    # --- other graphs --------------------------------------------------------------------------

    def with_groups(self, groups: Sequence[FactorGroup]) -> FactorGraph:
        """Return the graph with the groups of factors replaced."""
        other = FactorGraph(self.elements, groups, self.origin)
        other.adopt_structure([self.structure])
        return other

    def with_sources(self, tables: Mapping[int, Tensor]) -> FactorGraph:
        """Return the graph with the log tables of some groups, given by index, replaced."""
        return self.with_groups(
            [
                TableGroup(g.scopes, tables[k], g.child) if k in tables else g
                for k, g in enumerate(self.groups)
            ]
        )

    def at_rows(self, rows: Ints) -> FactorGraph:
        """Select some rows of row-wise factors."""
        if not any(self.structure.batched):
            return self
        return self.with_groups([g.of_rows(rows) for g in self.groups])

    def with_unity(self, scope: Sequence[int]) -> FactorGraph:
        """Add a table of ones over some elements; its belief is their joint distribution."""
        variables = [self.variables[v] for v in scope]
        ones: Tensor = torch.zeros(
            [v.num_states for v in variables], dtype=torch.float64, device=self.device
        )
        return self.with_factors(Factor(variables, ones))

    def with_factors(self, *more: Factor) -> FactorGraph:
        """Append tables to the factors."""
        return FactorGraph(self.elements, (*self.groups, *more), self.origin)

    def _as_group(self, f: Factor) -> TableGroup:
        """Return a table as a group of one factor."""
        child = None if f.child is None else f.names.index(f.child)
        scope = [[int(self.elements.numbers(n)) for n in f.names]]
        return TableGroup(
            np.array(scope).reshape(1, -1), f.log_values.unsqueeze(len(f.batch_shape)), child
        )


def _flat(g: FactorGroup) -> Floats:
    """Return the entries of a group as one row, or one row for each row of the batch."""
    entries = g.entries().detach().to("cpu", torch.float64).numpy()
    rows = len(entries) if g.batch_shape else 1
    return entries.reshape(rows, math.prod(entries.shape[len(g.batch_shape) :]))
