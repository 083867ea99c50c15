"""The base class of Boltzmann machines: fields over arrays of units."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError, closest
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.groups.grouping import merged
from pgnn.factors.potentials.bias import Bias
from pgnn.factors.potentials.coupling import Coupling
from pgnn.factors.potentials.real_units import RealUnits
from pgnn.factors.units.unit_kind import GaussianUnits, UnitKind
from pgnn.factors.units.unit_layers import UnitCoupling, UnitLayers, UnitModel
from pgnn.factors.variable import Variable
from pgnn.limits import POSITIVE, check_real
from pgnn.models.column_names import ColumnNames
from pgnn.models.markov_random_field import MarkovRandomField
from pgnn.models.unit_declaration import coupling_of

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner
    from pgnn.inference.sampling.log_partition_bracket import LogPartitionBracket

_SPREAD = 0.4
"""Standard deviation of initial couplings, times the square root of the number of units."""
_SMALL = 12
"""Largest number of units for which the default learner is exact."""


class EnergyModel(ColumnNames, MarkovRandomField, UnitModel):
    r"""Layers of units :math:`x_a` with coupling matrices.

    .. math:: p(x) = \frac{1}{Z} e^{-E(x) / T}, \qquad E(x) = -\sum_a b_a^\top x_a
        - \sum_{a < b} x_a^\top W_{ab} x_b - \tfrac12 \sum_a x_a^\top W_{aa} x_a

    with symmetric :math:`W_{aa}` that have zeros on the diagonal. Units of two states are 0 and 1,
    or -1 and 1 if these are their labels; a unit with more states has one indicator feature per
    state; a real unit has the term :math:`(v - b)^2 / 2 s^2` in place of its bias and the feature
    :math:`v / s^2`.

    Args:
        layers: The arrays of units.
        couplings: ``(name, name, weight)`` of layers; weights are learnable if not given.
        biases: Biases by name of the layer; learnable if not given.
        visible: Names of the visible layers; all if not given.
        temperature: ``T``, by which all energies are divided.
        variance: :math:`s^2` of the real units, one for all or one for each; 1 if not given.

    Raises:
        ModelError: If a name is unknown, the temperature is not positive, or a value is invalid.

    Example:
        >>> a, b = Variable("a", 2), Variable("b", 2)
        >>> model = EnergyModel([a, b], [("a", "b", [[1.0]])], {"a": 0.0, "b": 0.0})
        >>> round(float(model.log_partition().exp()), 4)  # 3 + e
        5.7183
    """

    def __init__(
        self,
        layers: Sequence[Variable],
        couplings: Iterable[tuple[Hashable, Hashable, Any]],
        biases: Mapping[Hashable, Any] | None = None,
        visible: Iterable[Hashable] | None = None,
        *,
        temperature: float = 1.0,
        variance: Any = None,
    ) -> None:
        check_real("temperature", temperature, POSITIVE)
        by_name = {v.name: v for v in layers}
        known_biases = dict(biases or {})
        discrete = {n: v for n, v in by_name.items() if v.is_discrete}
        pairs = [coupling_of(pair, by_name) for pair in couplings]
        if variance is not None and len(discrete) == len(by_name):
            raise ModelError("variance= is for real units, but all units are discrete")
        for n in known_biases:
            if n not in by_name:
                raise ModelError(f"a bias is given for the unknown layer {n!r}"
                                 f"{closest(n, by_name)}")  # fmt: skip
        joined = [(a, b, w) for a, b, w in pairs if a in discrete and b in discrete]
        potentials: list[Any] = [Bias(v, known_biases.get(n)) for n, v in discrete.items()]
        potentials += [
            Coupling(discrete[a], None if a == b else discrete[b], w) for a, b, w in joined
        ]
        super().__init__(potentials)
        self.temperature = float(temperature)
        self._visible = tuple(by_name if visible is None else visible)
        self.real: RealUnits | None = None
        for a, b, w in pairs:
            if a not in discrete:
                if self.real is not None or b not in discrete:
                    raise ModelError(
                        "a real layer must be coupled to exactly one layer of discrete units"
                    )
                spread = 1.0 if variance is None else variance
                self.real = RealUnits(by_name[a], discrete[b], w, known_biases.get(a), spread)
        self._variables = by_name
        graph = nx.Graph()
        graph.add_nodes_from(by_name)
        graph.add_edges_from((a, b) for a, b, _ in pairs if a != b)
        self.graph = nx.freeze(graph)

    # --- components --------------------------------------------------------------------

    @property
    def visible(self) -> tuple[Hashable, ...]:
        """Names of the visible layers."""
        return self._visible

    @property
    def vector(self) -> Hashable:
        """Name of the only visible layer, or the only array among them: what bare arrays are of."""
        arrays = [n for n in self.visible if self.variables[n].shape]
        named = self.visible if len(self.visible) == 1 else arrays
        return named[0] if len(named) == 1 else None

    @property
    def hidden(self) -> tuple[Hashable, ...]:
        """Names of the hidden layers."""
        return tuple(n for n in self.variables if n not in self._visible)

    def bias(self, name: Hashable) -> Tensor:
        """Return the biases ``(n d,)`` of a layer."""
        if self.real is not None and self.real.variable.name == name:
            return self.real.bias
        return self._bias_of(self.variable(name).name).bias

    def weight(self, first: Hashable, second: Hashable) -> Tensor:
        """Return the couplings ``(m d, n e)`` of two layers, or of one with itself.

        Raises:
            ModelError: If they are not coupled.
        """
        matrix = self.layers_at(1.0).between(first, second)
        if matrix is None:
            raise ModelError(f"{first!r} and {second!r} are not coupled")
        return matrix

    @property
    def couplings(self) -> Tensor:
        """``(n, n)`` couplings of all features, layer by layer; zeros where none are declared."""
        return self.layers_at(1.0).joint_matrix()

    def _bias_of(self, name: Hashable) -> Bias:
        return next(p for p in self.potentials if isinstance(p, Bias) and p.key == name)

    @property
    def _couplings(self) -> list[Coupling]:
        return [p for p in self.potentials if isinstance(p, Coupling)]

    def settings(self) -> dict[str, Any]:
        """Return the :meth:`declaration`, after checking the parameters."""
        self.check()
        return self.declaration()

    def declaration(self) -> dict[str, Any]:
        """Return the layers and their couplings, without parameters."""
        variance = {} if self.real is None else {"variance": self.real.variance.cpu().numpy()}
        return {
            "layers": tuple(self.variables.values()),
            "couplings": tuple((c.first, c.second, None) for c in self.layers().couplings),
            "visible": self.visible,
            "temperature": self.temperature,
            **variance,
        }

    def layers(self) -> UnitLayers:
        """Return the layers with the current parameters."""
        return self.layers_at(self.temperature)

    def layers_at(self, temperature: float) -> UnitLayers:
        """Return the layers at another temperature."""
        kinds: dict[Hashable, UnitKind] = {}
        biases: dict[Hashable, Tensor] = {}
        heat = 1.0 / temperature
        couplings = []
        constant = next(iter(self.parameters())).new_zeros(())
        for name in self.variables:
            if self.real is not None and name == self.real.variable.name:
                kinds[name] = GaussianUnits(self.real.variance, temperature)
                biases[name] = self.real.bias * heat
                couplings.append(UnitCoupling(name, self.real.other.name, self.real.weight * heat))
                constant = (
                    constant - 0.5 * heat * (self.real.bias.square() / self.real.variance).sum()
                )
            else:
                potential = self._bias_of(name)
                kinds[name], biases[name] = (
                    potential.kind,
                    potential.bias if heat == 1 else potential.bias * heat,
                )
        for c in self._couplings:
            matrix = c.matrix() if heat == 1 else c.matrix() * heat
            names = [v.name for v in c.variables]
            couplings.append(UnitCoupling(names[0], names[-1], matrix))
        return UnitLayers(self.variables, kinds, biases, couplings, constant)

    def set_gradients(
        self, biases: Mapping[Hashable, Tensor], couplings: Sequence[Tensor | None]
    ) -> None:
        """See :class:`~pgnn.factors.units.unit_layers.UnitModel`."""
        heat = 1.0 / self.temperature
        rest = list(couplings)
        if self.real is not None:
            _put(self.real.weight, rest.pop(0), heat)
            _put(self.real.bias, biases[self.real.variable.name], heat)
        for p in self.potentials:
            if isinstance(p, Bias):
                _put(p.bias, biases[p.variables[0].name], heat)
            elif isinstance(p, Coupling):
                g = rest.pop(0)
                _put(p.weight, p.symmetric(g) if p.is_symmetric and g is not None else g, heat)

    def begin_learning(self, means: Mapping[Hashable, Tensor], rng: torch.Generator) -> None:
        """See :class:`~pgnn.factors.units.unit_layers.UnitModel`; zero parameters only.

        Couplings become small, visible biases match independent units, hidden ones cancel inputs.
        """
        layers = self.layers_at(1.0)
        fresh = [p for p in self._matrices() if p.requires_grad and not bool(p.detach().any())]
        with torch.no_grad():
            for p in fresh:
                scale = _SPREAD / max(sum(p.shape), 1) ** 0.5
                noise = torch.empty_like(p).normal_(generator=rng) * scale
                p.copy_(noise)
            for c in self._couplings:
                if c.is_symmetric and any(c.weight is p for p in fresh):
                    c.weight.copy_(c.symmetric(c.weight))
            for name, mean in means.items():
                bias = self.bias(name)
                if bias.requires_grad and not bool(bias.any()):
                    heat = self.temperature if self.variable(name).is_discrete else 1.0
                    bias.copy_(layers.kinds[name].field_of(mean) * heat)
            if not fresh:
                return
            felt = {n: layers.kinds[n].features(m) for n, m in means.items()}
            for name in self.hidden:
                bias = self.bias(name)
                if bias.requires_grad and not bool(bias.any()):
                    for k in self.layers_at(1.0).couplings:
                        if k.second == name and k.first in felt:
                            bias -= felt[k.first] @ k.matrix

    def write_couplings(self, weight: Tensor, bias: Tensor) -> None:
        """Assign couplings ``(n, n)`` and biases ``(n,)`` of all discrete units, layer by layer.

        Raises:
            ModelError: If layers with nonzero couplings are not connected.
        """
        names = [n for n, v in self.variables.items() if v.is_discrete]
        sizes = [len(self.bias(n)) for n in names]
        ends = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
        place = {n: slice(ends[k], ends[k + 1]) for k, n in enumerate(names)}
        left = weight.clone()
        with torch.no_grad():
            for n in names:
                self.bias(n).copy_(bias[place[n]])
            for c in self._couplings:
                a, b = place[c.variables[0].name], place[c.variables[-1].name]
                c.weight.copy_(weight[a, b])
                left[a, b] = 0.0
                left[b, a] = 0.0
        if bool(left.any()):
            raise ModelError("the patterns need couplings of units that are not joined")

    def _matrices(self) -> list[Tensor]:
        real_weights = [] if self.real is None else [self.real.weight]
        return [*real_weights, *(c.weight for c in self._couplings)]

    # --- lowering ------------------------------------------------------------------------------

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """Return the couplings as matrices, the biases as tables; real units are integrated out.

        Observed real units add to the biases of the others, row by row.
        """
        groups = [g for p in self.potentials for g in p.groups(self.elements)]
        if self.temperature != 1.0:
            groups = [g.with_numbers(g.numbers / self.temperature) for g in groups]
        if self.real is not None:
            values = dict(observed or {}).get(self.real.variable.name)
            groups = [*self.real.groups(self.elements, values, self.temperature), *groups]
        return merged(groups)

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Return the same tables, ungrouped; see :class:`~pgnn.models.model.Model`."""
        real = None if self.real is None else self.real.variable.name
        states = {n: x for n, x in (observed or {}).items() if n != real}
        groups = self.factor_groups(observed, inputs)
        tables = [f for g in groups for f in g.snapshot().factors(self.elements)]
        known_states = self._element_states(states) if states else {}
        return tuple(f.condition(known_states) for f in tables) if known_states else tuple(tables)

    # --- verbs ---------------------------------------------------------------------------------

    def energy(self, data: Any) -> Tensor:
        r"""Return ``(N,)`` energies of rows; hidden units that are not given are summed out.

        Without hidden units this is the free energy :math:`-T \log \sum_h e^{-E / T}`.

        Args:
            data: Rows as evidence of :meth:`query`.
        """
        return -self.temperature * self.log_score(data)

    def log_partition(
        self, *, inputs: Inputs | None = None, engine: Engine | None = None
    ) -> Tensor:
        """See :meth:`MarkovRandomField.log_partition`; cached until the parameters change."""
        if engine is not None:
            return super().log_partition(engine=engine)
        log_z: Tensor = self.cached_numbers("log partition", super().log_partition)
        return log_z

    def log_partition_bracket(
        self, data: Any = None, *, chains: int = 100, temperatures: int = 1000,
        burn_in: int = 100, seed: int | None = None
    ) -> LogPartitionBracket:  # fmt: skip
        r"""Return a pair of a stochastic lower and a stochastic upper bound of :math:`\log Z`.

        See :func:`~pgnn.inference.sampling.log_partition_bracket.log_partition_bracket`.

        Args:
            data: Rows that determine the initial biases of annealing and start the reverse chains;
                by default the model's own chains.
            chains: Number of chains in each direction.
            temperatures: Number of steps between no couplings and the model.
            burn_in: Number of sweeps of the model before the reverse chains.
            seed: Random seed of the bounds.

        Raises:
            DataError: If rows have missing values.
            ModelError: If the layers are not bipartite, as in a fully connected Boltzmann machine.
        """
        from pgnn.inference.learning.unit_rows import read_unit_rows
        from pgnn.inference.sampling.log_partition_bracket import log_partition_bracket

        self._check_numbers()
        rows = None if data is None else read_unit_rows(self, data)
        if rows is not None and rows.missing:
            raise DataError("the rows that start annealing must be complete")
        return log_partition_bracket(
            self,
            None if rows is None else rows.values,
            chains=chains,
            temperatures=temperatures,
            burn_in=burn_in,
            seed=seed,
        )

    def default_engine(self) -> Engine:
        """Return ``AutomaticUnits()``."""
        from pgnn.inference.automatic_units import AutomaticUnits

        return AutomaticUnits()

    def default_learner(self, data: Any) -> Learner:
        """Return the exact gradient for few units, else contrastive divergence."""
        from pgnn.inference.exact.block_elimination import BlockElimination
        from pgnn.inference.learning.contrastive_divergence import ContrastiveDivergence
        from pgnn.inference.learning.gradient import Gradient

        small = self.real is None and len(self.elements) <= _SMALL
        return Gradient(engine=BlockElimination()) if small else ContrastiveDivergence()

    def extra_repr(self) -> str:
        """Return the sizes for printing."""
        parts = []
        for n, v in self.variables.items():
            kind = "real" if not v.is_discrete else (
                f"of {v.num_states} states" if v.num_states != 2 else
                "spins" if v.states == (-1, 1) else "binary")  # fmt: skip
            parts.append(f"{n!r}: {v.num_elements} {kind}")
        return ", ".join(parts) + ("" if self.temperature == 1 else f", T={self.temperature:g}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _put(parameter: Tensor, gradient: Tensor | None, heat: float) -> None:
    if parameter.requires_grad and gradient is not None:
        gradient = (gradient if heat == 1.0 else gradient * heat).reshape(parameter.shape)
    if parameter.requires_grad:
        parameter.grad = gradient
