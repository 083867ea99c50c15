"""Coverage of the modes of a distribution by samples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import DataError
from pgnn.limits import POSITIVE, check_real, whole_number


class ModeCoverage(NamedTuple):
    """Coverage of known modes by samples.

    Attributes:
        covered: Number of modes with enough samples near them.
        good: Share of samples near a mode.
        counts: ``(K,)`` number of samples near each mode; samples belong to their nearest mode.
    """

    covered: int
    good: float
    counts: NDArray[np.int64]


def mode_coverage(samples: Any, modes: Any, radius: float, least: int = 1) -> ModeCoverage:
    """Return the coverage of modes by samples.

    Args:
        samples: ``(N, ...)`` points.
        modes: ``(K, ...)`` known modes.
        radius: Largest Euclidean distance between a good sample and its nearest mode; three
            standard deviations of a mode are usual.
        least: Smallest number of good samples of a covered mode.

    Raises:
        DataError: If the shapes do not fit.

    References:
        Srivastava et al. (2017), VEEGAN: Reducing mode collapse in GANs using implicit variational
        learning, section 5.1.

    Example:
        >>> mode_coverage([[0.0], [0.1], [5.0]], [[0.0], [1.0]], radius=0.3)
        ModeCoverage(covered=1, good=0.6666666666666666, counts=array([2, 0]))
    """
    check_real("radius", radius, POSITIVE)
    least = whole_number("least", least, 1)
    points, centres = (
        np.asarray(v.detach().cpu() if isinstance(v, Tensor) else v, dtype=np.float64)
        for v in (samples, modes)
    )
    if not points.size or not centres.size or points.shape[1:] != centres.shape[1:]:
        raise DataError(
            "samples and modes must be points of one shape, at least one of each, got "
            f"{points.shape} and {centres.shape}"
        )
    from scipy.spatial import cKDTree

    tree = cKDTree(centres.reshape(len(centres), -1))
    distances, nearest = tree.query(points.reshape(len(points), -1))
    counts = np.bincount(nearest[distances <= radius], minlength=len(centres))
    return ModeCoverage(int((counts >= least).sum()), float(counts.sum() / len(points)), counts)
