"""Counter-based random numbers for compiled code, without global state."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgnn.inference.kernels.compiled import entry, inner

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@entry
def uniform(key: Any, counter: Any) -> float:
    """Return number ``counter`` of the stream ``key``, in ``[0, 1)`` with 53 random bits.

    References:
        Steele, Lea and Flood (2014), Fast splittable pseudorandom number generators, section 5;
        the mixer is Stafford's variant 13. A number depends only on key and counter, so that
        samples do not depend on how rows are split into chunks.
    """
    x = key + (np.uint64(counter) + np.uint64(1)) * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return np.float64(x >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@inner
def next_uniform(state):
    """The next number in [0, 1) of SplitMix64 (see :func:`uniform`); ``state`` (1,) advances."""
    state[0] += _GOLDEN
    x = state[0]
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return np.float64(x >> np.uint64(11)) / 9007199254740992.0
