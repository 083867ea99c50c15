"""Share work that lets go of the interpreter between threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def in_threads(run: Callable[[Ints], None], work: Ints) -> None:
    """Call ``run`` with a piece of ``work`` in each of torch's number of threads.

    Args:
        run: What to do; calls of kernels run side by side.
        work: Pieces of work, one a row; nothing is called if there is none.
    """
    threads = min(torch.get_num_threads(), len(work))
    if threads == 1:
        run(work)
    elif threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, np.array_split(work, threads)))
