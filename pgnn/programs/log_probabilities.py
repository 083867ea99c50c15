"""Log probabilities of values and of all states; zero probabilities are ``-inf``, never NaN."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical
from torch.nn.functional import logsigmoid

from pgnn.factors.support import inside_of, is_fixed, support_of
from pgnn.programs.tracking import sources_of


def log_prob_of(fn: Any, value: Any, possible: bool = False) -> Tensor:
    """Return the log probability of a value, ``-inf`` outside the support.

    Args:
        fn: A distribution.
        value: ``(*batch, *event)``, broadcast with the batch of the distribution.
        possible: Whether the value is known to be in the support.
    """
    if isinstance(fn, Categorical) and _of_probs(fn):
        pair = torch.broadcast_tensors(value.long().unsqueeze(-1), _log(fn.probs))  # type: ignore[no-untyped-call]
        chosen: Tensor = pair[1].gather(-1, pair[0][..., :1]).squeeze(-1)
        return chosen
    if isinstance(fn, Bernoulli) and _of_probs(fn):
        log_prob = torch.where(value != 0, _log(fn.probs), _log(1 - fn.probs))
    else:
        log_prob = fn.log_prob(value)
    inside = None if possible else inside_of(support_of(fn), value)
    return log_prob if inside is None else torch.where(inside, log_prob, -math.inf)


def all_possible(fn: Any, value: Any) -> bool:
    """Whether data is in the support, and the support is constant."""
    inside = inside_of(support_of(fn), value)
    if inside is None:
        return True
    if sources_of(inside) or torch._C._functorch.is_batchedtensor(inside):
        return False
    return is_fixed(support_of(fn)) and bool(inside.all())


def log_table_of(fn: Any, support: Tensor, dim: int) -> Tensor:
    """Return the log probabilities of all states of a finite site.

    Args:
        fn: The distribution; along ``dim`` its batch has length one.
        support: ``(K, *event)`` values.
        dim: Negative batch dimension of the states.
    """
    if isinstance(fn, Categorical) and type(fn).__name__ == "Categorical":
        table = _log(fn.probs) if _of_probs(fn) else fn.logits
        return _last_to(table, dim)
    if isinstance(fn, Bernoulli):
        if _of_probs(fn):
            off, on = _log(1 - fn.probs), _log(fn.probs)
        else:
            off, on = logsigmoid(-fn.logits), logsigmoid(fn.logits)
        return _last_to(torch.stack([off, on], dim=-1), dim)
    return log_prob_of(fn, support.reshape(len(support), *[1] * (-dim - 1), *support.shape[1:]))


def _last_to(table: Tensor, dim: int) -> Tensor:
    """Move the states from the last axis to a batch dimension."""
    missing = -dim - (table.dim() - 1)
    if missing > 0:
        table = table.reshape([*[1] * missing, *table.shape])
    table = table.transpose(dim - 1, -1)
    return table.squeeze(-1)


def _of_probs(fn: Any) -> bool:
    probs = fn.__dict__.get("probs")
    return probs is not None and getattr(fn, "_param", None) is probs


def _log(probs: Tensor) -> Tensor:
    # values shared by cells are computed once and remain shared
    once = probs[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in probs.stride())]
    zero = once == 0
    return once.masked_fill(zero, 1.0).log().masked_fill(zero, -math.inf).expand(probs.shape)
