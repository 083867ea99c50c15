"""Axes and colours of plots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pgnn.errors import Unsupported, require

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def axes_of(ax: Any, size: tuple[float, float]) -> Any:
    """Return the given axes, or those of a new figure.

    Raises:
        Unsupported: If matplotlib is not installed.
    """
    if ax is not None:
        return ax
    require_matplotlib()
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def check_drawn(picture: str, thing: Any, is_right: bool, expected: str) -> None:
    """Check that a picture is of the right kind of object.

    Args:
        picture: Name of the function.
        thing: What is to be drawn.
        is_right: Whether it is of that kind.
        expected: The kind, with a call that returns one.

    Raises:
        Unsupported: If it is another object.
    """
    if not is_right:
        raise Unsupported(f"plot.{picture} draws {expected}; got a {type(thing).__name__}")


def require_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        Unsupported: If it is not installed.
    """
    require("matplotlib", "plot", "pictures")


def _is_dark() -> bool:
    """Whether the background of new axes is dark."""
    import matplotlib
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(matplotlib.rcParams["axes.facecolor"])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5


def colours_of(count: int) -> list[Any]:
    """Return colours that colour-blind readers can distinguish."""
    require_matplotlib()
    import matplotlib

    if count <= 8:
        # Okabe and Ito (2008); on a dark background the light blue comes first
        first, second = ("#56B4E9", "#0072B2") if _is_dark() else ("#0072B2", "#56B4E9")
        return [
            first, "#E69F00", "#009E73", "#CC79A7", second, "#D55E00", "#F0E442", "#999999"
        ][:count]  # fmt: skip
    shades = matplotlib.colormaps["viridis"]
    # multiples of the golden ratio modulo 1 place neighbours far apart
    ranks = np.argsort(np.argsort(np.arange(count) * GOLDEN % 1.0))
    return [shades(float((r + 0.5) / count)) for r in ranks]
