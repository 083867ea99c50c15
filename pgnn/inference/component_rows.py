"""The evidence of a mixture as its components see it, and their joint log probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import MixtureModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence


def component_rows(model: MixtureModel, observed: Any) -> tuple[Any, Tensor | None]:
    """Return the components' evidence in rows, and ``(B,)`` observed components.

    Args:
        model: The mixture.
        observed: Evidence about the mixture, or sequences.

    Raises:
        Unsupported: If there is soft evidence about the component.
    """
    if isinstance(observed, SequenceEvidence):
        return observed, observed.labels
    size = model.weights.child.num_states
    soft = None if observed.soft is None else observed.soft[:, size:]
    if observed.soft is not None and (observed.soft[:, :size] != 1.0).any():
        raise Unsupported("evidence about the component must be its label, not likelihoods")
    codes = torch.from_numpy(observed.codes[:, 0]).long()
    known = replace(
        observed,
        codes=np.ascontiguousarray(observed.codes[:, 1:]),
        soft=soft,
        soft_scale=np.zeros(observed.num_rows),  # the mixture adds its own
        names=tuple(n for n in observed.names if n != model.class_name),
    )
    return known, codes if bool((codes >= 0).any()) else None


def joint_log_probs(model: MixtureModel, logs: Sequence[Tensor], classes: Tensor | None) -> Tensor:
    """Return ``(B, K)`` joint log probabilities of rows and each component.

    Args:
        model: The mixture; only its weights are used.
        logs: ``(B,)`` log probabilities of the rows under each component.
        classes: ``(B,)`` observed components, -1 where unobserved.
    """
    log_weights = model.weights.factor().log_values
    joint = torch.stack(list(logs), dim=1) + log_weights
    if classes is None:
        return joint
    other = (one_hot(classes.clamp_min(0), len(log_weights)) == 0) & (classes >= 0).unsqueeze(1)
    return joint.masked_fill(other, -torch.inf)


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
