"""The base class of layered networks of logistic units with a recognition network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from pgnn.abilities import Inputs
from pgnn.errors import ModelError
from pgnn.factors.conditionals.sigmoid import Sigmoid
from pgnn.factors.factor import Factor
from pgnn.factors.groups.conditional_group import ConditionalGroup
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.piece import learnable_zeros
from pgnn.factors.randomness import generator
from pgnn.factors.units.recognised_layers import RecognisedLayers
from pgnn.factors.units.unit_kind import drawn_below
from pgnn.factors.variable import Variable
from pgnn.limits import check_seed, check_size, whole_number
from pgnn.models.column_names import ColumnNames
from pgnn.models.model import Model
from pgnn.models.unit_declaration import layer_of

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine
    from pgnn.inference.samples import Samples

_SPREAD = 0.4
_SMALL = 24
"""Units up to which draws without evidence are those of the exact engine."""
_BITS = 23
_ENTRIES = 2**_BITS
"""Maximum total number of table entries with which exact inference is the default."""
_WRITTEN = 2**12
"""Maximum number of entries of a table."""


class LayeredBeliefNetwork(ColumnNames, Model, RecognisedLayers):
    r"""Binary layers :math:`x_0` (visible) to :math:`x_L`, each conditional on the layer above.

    .. math:: p(x) = p(x_L) \prod_{k < L} \prod_i \sigma(\pm (b_k + W_k x_{k+1})_i), \qquad
        q(x_{1:L} \mid x_0) = \prod_{k < L} \sigma(\pm (d_{k+1} + V_k^\top x_k))

    The recognition network :math:`q` approximates the posterior of hidden layers, for learning and
    for :meth:`bound`. A subclass defines the top.

    Args:
        layers: Number of units, shape or variable of each layer, the visible one first.

    Attributes:
        biases: ``(n_k,)`` biases of each layer.
        weights: ``(n_k, n_{k+1})`` weights of each layer but the top one.
        up_biases: ``(n_{k+1},)`` biases of the recognition network.
        up_weights: ``(n_k, n_{k+1})`` weights of the recognition network.

    Raises:
        ModelError: If there is no hidden layer, or a layer is not binary.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        if isinstance(layers, str) or not isinstance(layers, Sequence) or len(layers) < 2:
            raise ModelError(
                f"layers must be a list of at least two, the visible one first, got {layers!r}"
            )
        names = ["visible", *(f"hidden{k}" for k in range(1, len(layers)))]
        variables = [layer_of(n, x) for n, x in zip(names, layers, strict=True)]
        for v in variables:
            if not v.is_discrete or v.num_states != 2:
                raise ModelError(f"{v.name!r} must have units of two states")
        self._variables = {v.name: v for v in variables}
        if len(self._variables) < len(variables):
            raise ModelError("layers must have different names")
        graph = nx.DiGraph()
        graph.add_nodes_from(self._variables)
        graph.add_edges_from((b.name, a.name) for a, b in pairwise(variables))
        self.graph = nx.freeze(graph)
        sizes = [v.num_elements for v in variables]
        pairs = list(pairwise(sizes))
        zeros = learnable_zeros
        self.biases = nn.ParameterList(zeros("a bias", [n]) for n in sizes)
        self.weights = nn.ParameterList(zeros("weights", p) for p in pairs)
        self.up_biases = nn.ParameterList(zeros("a bias", [n]) for n in sizes[1:])
        self.up_weights = nn.ParameterList(zeros("weights", p) for p in pairs)

    @property
    def input_names(self) -> Collection[Hashable]:
        """Empty: there are no covariates."""
        return ()

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The layers by name, the visible one first."""
        return MappingProxyType(self._variables)

    @property
    def visible(self) -> Hashable:
        """Name of the visible layer."""
        return next(iter(self._variables))

    @property
    def vector(self) -> Hashable:
        """See :class:`~pgnn.abilities.VectorModel`: the visible layer."""
        return self.visible

    def settings(self) -> dict[str, Any]:
        """Return the layers."""
        self.check()
        return {"layers": tuple(self._variables.values())}

    def check(self) -> None:
        """See :class:`~pgnn.abilities.FactorModel`."""
        for name, p in self.named_parameters():
            if not bool(p.isfinite().all()):
                raise ModelError(
                    f"{name!r} of {type(self).__name__} has "
                    f"{p[~p.isfinite()].flatten()[0].item()} among its numbers"
                )

    # --- lowering ------------------------------------------------------------------------------

    @property
    @abstractmethod
    def directed(self) -> int:
        """Number of layers from below that are conditional on the one above."""

    @abstractmethod
    def top_groups(self) -> tuple[FactorGroup, ...]:
        """Return the factors of the other layers."""

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """Return a logistic unit for every element of a layer, and the factors of the top.

        Large tables are not computed; engines work without them.
        """
        layers = [g for k in range(self.directed) for g in self._layer_groups(k)]
        return (*layers, *self.top_groups())

    def _layer_groups(self, k: int) -> Iterator[FactorGroup]:
        """The units of a layer given the one above: all tables as one group, or one group each."""
        below, above = list(self._variables.values())[k : k + 2]
        parents = self.elements.numbers(above.name).ravel()
        children = self.elements.numbers(below.name).ravel()
        weight, bias = self.weights[k], self.biases[k]
        if 2 ** (len(parents) + 1) <= _WRITTEN:
            parent_states = torch.cartesian_prod(*[weight.new_tensor([0.0, 1.0])] * len(parents))
            field = parent_states.reshape(-1, len(parents)) @ weight.T + bias
            table = torch.stack([logsigmoid(-field), logsigmoid(field)], dim=-1).movedim(1, 0)
            scopes = np.column_stack([np.tile(parents, (len(children), 1)), children])
            yield TableGroup(scopes, table.reshape(-1, *[2] * scopes.shape[1]), len(parents))
            return
        names = list(above.elements())
        for i, child in enumerate(below.elements()):
            unit = Sigmoid(child, names, weight[i].detach(), bias[i].detach())
            yield ConditionalGroup(unit, [*parents, children[i]])

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Return the factors as separate tables, see :class:`~pgnn.models.model.Model`."""
        groups = self.factor_groups(observed, inputs)
        return tuple(f for g in groups for f in g.snapshot().factors(self.elements))

    # --- dense arithmetic ----------------------------------------------------------------------

    def begin_learning(self, mean: Tensor, rng: torch.Generator) -> None:
        """See :class:`RecognisedLayers`."""
        with torch.no_grad():
            for p in (*self.weights, *self.up_weights):
                if p.requires_grad and not bool(p.any()):
                    p.copy_(torch.empty_like(p).normal_(generator=rng) * _SPREAD
                            / max(sum(p.shape), 1) ** 0.5)  # fmt: skip
            if not bool(self.biases[0].any()):
                self.biases[0].copy_(mean.clamp(0.01, 0.99).logit())

    def recognise(self, visible: Tensor, rng: torch.Generator | None) -> list[Tensor]:
        """See :class:`RecognisedLayers`."""
        states = [visible]
        for d, v in zip(self.up_biases, self.up_weights, strict=True):
            states.append(drawn_below(torch.addmm(d, states[-1], v).sigmoid().detach(), rng))
        return states

    def recognition_terms(self, states: Sequence[Tensor]) -> list[Tensor]:
        """See :class:`RecognisedLayers`."""
        below = zip(states, self.up_biases, self.up_weights, strict=False)
        fields = [torch.addmm(d, x, v) for x, d, v in below]
        return [bernoulli(x, field) for x, field in zip(states[1:], fields, strict=True)]

    def directed_terms(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return ``(N,)`` log probabilities of each directed layer given the one above."""
        terms = []
        for k in range(self.directed):
            field = torch.addmm(self.biases[k], states[k + 1], self.weights[k].T)
            terms.append(bernoulli(states[k], field))
        return terms

    def drawn_down(self, top: list[Tensor], rng: torch.Generator | None) -> list[Tensor]:
        """Sample the directed layers below given layers, and return all."""
        states = list(top)
        for k in reversed(range(self.directed)):
            field = torch.addmm(self.biases[k], states[0], self.weights[k].T)
            states.insert(0, drawn_below(field.sigmoid().detach(), rng))
        return states

    # --- queries ---------------------------------------------------------------------------------

    def bound(self, data: Any, *, samples: int = 10, seed: int | None = 0) -> Tensor:
        r"""Return ``(N,)`` importance-weighted lower bounds of the log score of rows.

        .. math:: \log \frac1S \sum_s \frac{p(x_0, x^{(s)})}{q(x^{(s)} \mid x_0)}, \qquad
            x^{(s)} \sim q

        In expectation at most :meth:`log_prob`; for a model with an unnormalised top its log
        partition function must be subtracted.

        Args:
            data: Complete rows of visible units.
            samples: ``S``.
            seed: Random seed of the samples.
        """
        self._check_numbers()
        samples, rows = whole_number("samples", samples, 1), self._rows(data)
        rng = torch.Generator(rows.device)
        rng.manual_seed(generator(check_seed(seed)).initial_seed())
        with torch.no_grad():
            scores = []
            for _ in range(samples):
                states = self.recognise(rows, rng)
                scores.append(self.log_joint(states) - self.log_recognition(states))
            total = torch.stack(scores).logsumexp(0)
            return total - total.new_tensor(float(samples)).log()

    def to_classifier(self, classes: int) -> nn.Sequential:
        """Return the recognition network with a linear output layer, for fine-tuning.

        Args:
            classes: Number of output logits.
        """
        classes = whole_number("classes", classes, 1, ModelError)
        modules: list[nn.Module] = []
        for d, v in zip(self.up_biases, self.up_weights, strict=True):
            layer = nn.Linear(v.shape[0], v.shape[1], dtype=v.dtype, device=v.device)
            with torch.no_grad():
                layer.weight.copy_(v.T)
                layer.bias.copy_(d)
            modules += [layer, nn.Sigmoid()]
        top = self.up_weights[-1]
        head = nn.Linear(top.shape[1], classes, dtype=top.dtype, device=top.device)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.zero_()
        return nn.Sequential(*modules, head)

    def sample(
        self, n: int = 1, evidence: Any = None, *, inputs: Inputs | None = None,
        engine: Engine | None = None, seed: int | None = None,
    ) -> Samples:  # fmt: skip
        """See :meth:`Model.sample`; by default ancestral sampling from the top."""
        if evidence is not None or engine is not None or len(self.elements) <= _SMALL:
            return super().sample(n, evidence, inputs=inputs, engine=engine, seed=seed)
        from pgnn.inference.samples import Samples

        self._check_numbers()
        n, units = whole_number("the number of samples", n), len(self.elements)
        check_size(
            f"{n:,} draws of {units:,} units", float(n) * units, advice="Draw fewer at a time"
        )
        rng = generator(seed)
        states = self.dream(n, rng)
        codes = torch.cat([x.long().cpu() for x in states], dim=1)
        return Samples(tuple(self._variables.values()), codes)

    def default_engine(self) -> Engine:
        """Return the exact engine where few units are hidden, otherwise Gibbs sampling."""
        from pgnn.inference.sampling.layer_gibbs import LayerGibbs

        sizes = [v.num_elements for v in self.variables.values()]
        below, top = sizes[: self.directed + 1], sizes[self.directed :]
        entries = sum(n << min(above + 1, _BITS) for n, above in pairwise(below))
        if len(top) > 1:  # coupled to each other
            entries += sum(top) << min(*top, _BITS)
        return super().default_engine() if entries <= _ENTRIES else LayerGibbs()

    def default_learner(self, data: Any) -> Any:
        """Return ``WakeSleep()``."""
        from pgnn.inference.learning.wake_sleep import WakeSleep

        return WakeSleep()

    def _rows(self, data: Any) -> Tensor:
        from pgnn.inference.learning.layered_rows import read_layered_rows

        return read_layered_rows(self, data)

    def extra_repr(self) -> str:
        """Return the contents of the parentheses of ``repr``."""
        return ", ".join(f"{n!r}: {v.num_elements}" for n, v in self._variables.items())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def bernoulli(states: Tensor, field: Tensor) -> Tensor:
    """Return ``(N,)`` log probabilities of states 0 and 1 with given log odds."""
    return logsigmoid(torch.where(states > 0.5, field, -field)).sum(-1)
