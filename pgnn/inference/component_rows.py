"""The evidence of a mixture as its components see it, and their joint log probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import MixtureModel
from pgnn.errors import Unsupported
from pgnn.evidence.row_evidence import Ints, RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.elements import Elements
from pgnn.inference.explanation import Explanation


@dataclass(frozen=True, eq=False)
class ComponentRows:
    """Rows, or sequences, of a mixture as its components see them.

    Attributes:
        each: The evidence of each component, in the order of its variables.
        label_logs: ``(B, K)`` log-likelihoods of the components: those of soft evidence, and zero
            or minus infinity for an observed component; None if nothing is known of it.
    """

    each: Sequence[Any]
    label_logs: Tensor | None

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return int(self.each[0].num_rows)


def component_rows(model: MixtureModel, observed: Any) -> ComponentRows:
    """Return the evidence of the components, and what is known of the component of each row.

    Args:
        model: The mixture.
        observed: Evidence about the mixture, or sequences.

    Raises:
        Unsupported: If a likelihood of the component requires a gradient.
    """
    size = len(model.components)
    if isinstance(observed, SequenceEvidence):
        return ComponentRows([observed] * size, label_logs(observed.labels, size))
    logs = label_logs(torch.from_numpy(observed.codes[:, 0]).long(), size)
    if model.class_name in observed.soft_tensors:
        raise Unsupported(
            "likelihoods of the component of a mixture are not differentiated", "detach() them"
        )
    rest = None if observed.soft is None else observed.soft[:, size:]
    if observed.soft is not None and (observed.soft[:, :size] != 1.0).any():
        soft = torch.from_numpy(observed.soft[:, :size]).log()
        logs = soft if logs is None else logs + soft
    known = replace(
        observed,
        codes=np.ascontiguousarray(observed.codes[:, 1:]),
        soft=rest if rest is not None and (rest != 1.0).any() else None,
        soft_scale=np.zeros(observed.num_rows),  # the mixture adds its own
        names=tuple(n for n in observed.names if n != model.class_name),
    )
    first = model.components[0].elements
    each = [_arranged(known, element_order(model, k), first) for k in range(size)]
    return ComponentRows(each, logs)


@dataclass(frozen=True, eq=False)
class ChosenDraws:
    """The draws for which a component was chosen.

    Attributes:
        component: Number of the component.
        rows: ``(R,)`` rows for which some draw chose it.
        chosen: ``(n, R)`` whether a draw of these rows did.
    """

    component: int
    rows: Tensor
    chosen: Tensor

    def write(self, drawn: Tensor, out: Tensor) -> None:
        """Write ``(n, R, *shape)`` draws of the component into ``(n, B, *shape)`` of all."""
        where = self.chosen.reshape(*self.chosen.shape, *[1] * (out.dim() - 2))
        out[:, self.rows] = torch.where(where, drawn, out[:, self.rows])


def chosen_draws(which: Tensor, number: int) -> Iterator[ChosenDraws]:
    """Return the draws of each component that was chosen at all.

    Args:
        which: ``(n, B)`` chosen components.
        number: Number of components.
    """
    for k in range(number):
        rows = (which == k).any(dim=0).nonzero()[:, 0]
        if len(rows):
            yield ChosenDraws(k, rows, which[:, rows] == k)


def element_order(model: MixtureModel, component: int) -> Ints:
    """Return ``(E,)`` numbers, among the first component's elements, of another's, in its order."""
    first = model.components[0].elements
    own = model.components[component].elements.variables
    if own is first.variables or [v.name for v in own] == [v.name for v in first.variables]:
        return np.arange(len(first))
    return np.concatenate([first.numbers(v.name).reshape(-1) for v in own])


def _arranged(observed: RowEvidence, order: Ints, elements: Elements) -> RowEvidence:
    """Return rows with their elements in another order."""
    if np.array_equal(order, np.arange(len(elements))):
        return observed
    soft, first = observed.soft, elements.offset
    if soft is not None:
        soft = soft[:, np.concatenate([np.arange(first[e], first[e + 1]) for e in order])]
    return replace(observed, codes=np.ascontiguousarray(observed.codes[:, order]), soft=soft)


def label_logs(labels: Tensor | None, size: int) -> Tensor | None:
    """Return ``(B, K)`` zeros, and minus infinity where another component was observed.

    Args:
        labels: ``(B,)`` observed components, -1 where unobserved.
        size: Number of components ``K``.

    Returns:
        None if no component was observed.
    """
    if labels is None or not bool((labels >= 0).any()):
        return None
    other = (one_hot(labels.clamp_min(0), size) == 0) & (labels >= 0).unsqueeze(1)
    return torch.zeros(other.shape, dtype=torch.float64).masked_fill(other, -torch.inf)


def joint_log_probs(
    model: MixtureModel, logs: Sequence[Tensor], about_label: Tensor | None
) -> Tensor:
    """Return ``(B, K)`` joint log probabilities of rows and each component.

    Args:
        model: The mixture; only its weights are used.
        logs: ``(B,)`` log probabilities of the rows under each component.
        about_label: Log-likelihoods of the components, see :attr:`ComponentRows.label_logs`.
    """
    joint = torch.stack(list(logs), dim=1) + model.weights.factor().log_values
    if about_label is None:
        return joint
    known = about_label.to(joint)
    return (joint + known).masked_fill(known.isneginf(), -torch.inf)


def chosen_components(share: Tensor, n: int, seed: int | None) -> Tensor:
    """Return ``(n, B)`` components sampled by their responsibilities ``(B, K)``."""
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    if not len(share) or not n:
        return torch.zeros(n, len(share), dtype=torch.int64)
    return torch.multinomial(share, n, replacement=True, generator=generator).t()


def seed_of(seed: int | None, component: int) -> int | None:
    """Return a different seed for each component."""
    return None if seed is None else int(np.random.default_rng([seed, component]).integers(2**31))


def explained_by_component(
    engine: str, parts: Sequence[Explanation], hidden: int, observed: int = 0
) -> Explanation:
    """Return the cost of queries of all components, of one variable each and their labels.

    Args:
        engine: Name of the engine of the mixture.
        parts: Costs of the components.
        hidden: Number of labels of components that are eliminated.
        observed: Number of labels that are observed.
    """
    kinds, first = {p.kind for p in parts}, parts[0]
    return Explanation(
        engine=engine,
        kind=kinds.pop() if len(kinds) == 1 else "estimate",
        reason="each component is queried, and the answers are weighted",
        num_variables=first.num_variables + hidden + observed,
        num_eliminated=first.num_eliminated + hidden,
        num_sliced=first.num_sliced + observed,
        num_pruned=first.num_pruned,
        memory_bytes=sum(p.memory_bytes for p in parts),
        fits=all(p.fits for p in parts),
        budget_bytes=first.budget_bytes,
        alternatives=tuple(dict.fromkeys(a for p in parts for a in p.alternatives)),
    )
