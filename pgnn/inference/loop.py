"""The loop of iterative methods: progress, history, convergence."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

State = TypeVar("State")


@dataclass(frozen=True)
class Info:
    """The report of one step.

    Attributes:
        converged: Whether the method has met its tolerance.
        values: Values to record, such as ``{"residual": 1e-3}``.
    """

    converged: bool = False
    values: Mapping[str, float] = field(default_factory=dict)


class Iterative(Protocol[State]):
    """An iterative method: an initial state and a step."""

    def init(self) -> State:
        """Return the state before the first step."""

    def step(self, state: State) -> tuple[State, Info]:
        """Return the state after one more step, and the report of the step."""


@dataclass
class Run(Generic[State]):
    """The result of an iterative method.

    Attributes:
        state: State after the last step.
        converged: Whether the tolerance was met; false if the limit of steps was reached first.
        iterations: Number of steps taken.
        history: Recorded values of all steps, a list for each name.
        seconds: Wall-clock time.
    """

    state: State
    converged: bool = False
    iterations: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0


def progress_bar(total: int | None, label: str, progress: bool, unit: str = "it") -> Any:
    """Return a progress bar of tqdm, shown on terminals and in notebooks after the first second.

    Args:
        total: Number of steps, if it is known.
        label: Text of the progress bar.
        progress: Whether to show a bar.
        unit: Name of a step.
    """
    settings = {"total": total, "desc": label, "delay": 1.0, "leave": False, "unit": unit}
    if progress and _is_notebook():
        return _bar_of_notebooks()(**settings)
    from tqdm import tqdm

    off = None if progress else True  # None: disabled unless the output is a terminal
    return tqdm(disable=off, **settings)


def _is_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", {})


def _bar_of_notebooks() -> Any:
    """Return the bar of widgets; text where ipywidgets is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm


def iterate(
    method: Iterative[State],
    max_iterations: int,
    *,
    state: State | None = None,
    progress: bool = True,
    label: str = "",
    after: Callable[[int], None] | None = None,
) -> Run[State]:
    """Run an iterative method until it converges or reaches its limit.

    Args:
        method: The method.
        max_iterations: Largest number of steps.
        state: Initial state, instead of ``method.init()`` (a warm start).
        progress: Whether to show a progress bar, see :func:`progress_bar`.
        label: Text of the progress bar.
        after: Called after each step, with the number of steps taken.
    """
    begin = time.perf_counter()
    run = Run(method.init() if state is None else state)
    with progress_bar(max_iterations, label, progress) as bar:
        for _ in range(max_iterations):
            run.state, info = method.step(run.state)
            run.iterations += 1
            for name, value in info.values.items():
                run.history.setdefault(name, []).append(float(value))
            if after is not None:
                after(run.iterations)
            bar.update()
            if info.values:
                bar.set_postfix({k: f"{v:.4g}" for k, v in info.values.items()}, refresh=False)
            if info.converged:
                run.converged = True
                break
    run.seconds = time.perf_counter() - begin
    return run
