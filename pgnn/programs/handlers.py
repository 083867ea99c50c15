"""Execution of a Pyro program, with a visitor for its sample statements."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import MaskedDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import SubsampleMessenger, _Subsample
from torch import Tensor

from pgnn.errors import ModelError, PgnnError, Unsupported
from pgnn.factors.randomness import kept_randomness
from pgnn.factors.randomness import seeded_with as seeded_with
from pgnn.factors.validation import unvalidated
from pgnn.programs.parameters import ProgramParameters
from pgnn.programs.tracking import LatentRead


@dataclass(frozen=True)
class Plate:
    """A vectorised plate around a site: its name, its negative dimension and its size."""

    name: str | None
    dim: int
    size: int


class Visitor:
    """Handles the sample statements of one execution."""

    def visit(self, name: str, fn: Any, observed: Any, message: dict[str, Any]) -> Any:
        """Return the value of a site.

        Args:
            name: The site.
            fn: Its distribution, expanded by its plates.
            observed: The value that the program observes at the site; None for a latent site.
            message: Pyro's message: ``mask``, ``scale``, ``cond_indep_stack``.
        """
        raise NotImplementedError

    def note(self, name: str, value: Tensor) -> None:
        """Record a named value that the program computes."""


class Finished(Exception):
    """Ends an execution after its last site."""


class ParameterHandler(Messenger):
    """Resolves ``pyro.param`` statements with the parameters of a model."""

    def __init__(self, parameters: ProgramParameters) -> None:
        super().__init__()
        self.parameters = parameters

    def _pyro_param(self, msg: Any) -> None:
        value = self.parameters.value(msg["name"], msg["args"], msg["kwargs"])
        if value is not None:
            msg["value"], msg["done"] = value, True


class _Handler(ParameterHandler):
    """Passes sample statements to a visitor, and resolves parameters with those of the model."""

    def __init__(self, visitor: Visitor, parameters: ProgramParameters) -> None:
        super().__init__(parameters)
        self.visitor = visitor
        self.last = "the start of the program"

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if is_choice_of_rows(fn):
            return
        if msg["infer"].get("_deterministic"):
            self.visitor.note(msg["name"], msg["value"])
            return
        check_vectorised(msg)
        self.last = f"site {msg['name']!r}"
        observed = msg["value"] if msg["is_observed"] or msg["value"] is not None else None
        msg["value"] = self.visitor.visit(msg["name"], fn, observed, msg)
        msg["done"] = True


def is_masked(fn: Any) -> bool:
    """Whether a distribution is masked, so that it need not sum to one."""
    return isinstance(fn, MaskedDistribution)


def is_choice_of_rows(fn: Any) -> bool:
    """Whether a sample statement chooses the rows of a subsampled plate."""
    return isinstance(fn, _Subsample)


def execute(program: Callable[[], Any], visitor: Visitor, parameters: ProgramParameters) -> None:
    """Execute a program once; Pyro's global parameters and the random state remain unchanged.

    Raises:
        ModelError: If the program fails, or a shape does not fit a plate; the message names the
            site.
        LatentRead: If it reads a random number.
    """
    handler = _Handler(visitor, parameters)
    with unchanged_globals(), handler:
        try:
            program()
        except Finished:
            pass
        except (LatentRead, PgnnError):
            raise
        except Exception as error:
            raise _explained(error, handler.last) from error


@contextlib.contextmanager
def unchanged_globals() -> Iterator[None]:
    """Preserve Pyro's global parameters and the random state; disable argument validation."""
    with kept_randomness(), unchanged_settings():
        yield


@contextlib.contextmanager
def unchanged_settings() -> Iterator[None]:
    """Preserve Pyro's global parameters and settings; disable argument validation."""
    with unvalidated(), pyro.get_param_store().scope(), pyro.validation_enabled(False):
        yield


_MISMATCH = re.compile(
    r"Shape mismatch inside plate\('(.*)'\) at site (.*) dim (-\d+), (\d+) vs (\d+)"
)


def _explained(error: Exception, last: str) -> Exception:
    """Return the error with the name of the site."""
    mismatch = _MISMATCH.search(str(error))
    if mismatch:
        plate, site, dim, size, other = mismatch.groups()
        shapes = _shapes(error, site)
        return ModelError(
            f"site {site!r} does not fit plate {plate!r}: along dimension {dim} the plate has "
            f"size {size}, but the distribution of the site has size {other}{shapes}",
            "give it the batch shape of its plates, or make other dimensions event dimensions "
            "by .to_event()",
        )
    if isinstance(error, NotImplementedError | KeyboardInterrupt):
        return error
    return ModelError(f"the program failed after {last}: {type(error).__name__}: {error}")


def _shapes(error: Exception, site: str) -> str:
    """Format the shapes of a site that does not fit; Pyro's error names only one dimension."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        message = frame.f_locals.get("msg")
        if isinstance(message, dict) and message.get("name") == site and message.get("fn"):
            plates = plates_of(message)
            expected = [plates[d].size if d in plates else 1 for d in range(min(plates), 0)]
            return (
                f" (batch shape {tuple(message['fn'].batch_shape)}, plate shape {tuple(expected)})"
            )
    return ""


def plates_of(message: dict[str, Any]) -> dict[int, Plate]:
    """Return the vectorised plates around a site, by dimension."""
    return {
        f.dim: Plate(f.name, f.dim, int(f.size))
        for f in message["cond_indep_stack"]
        if f.dim is not None
    }


def scaled(
    log_prob: Tensor, message: dict[str, Any], latent: bool = False, power: float = 1.0
) -> Tensor:
    """Return log probabilities times the scale; zero for masked observations.

    A masked latent site keeps its distribution, as in Pyro's enumeration. It integrates to one
    unless an unmasked site depends on it.

    Args:
        log_prob: Log probability of the site.
        message: Pyro's message of the site, with its mask and scale.
        latent: Whether the program does not observe the site.
        power: Factor of the log of the sum over discrete sites, which is not applied.
    """
    mask, scale = message["mask"], message["scale"]
    if power != 1.0:
        scale = scale / power
    if not (isinstance(scale, int | float) and scale == 1):
        log_prob = log_prob * scale
    if latent or mask is None or mask is True:
        return log_prob
    if mask is False:
        return torch.zeros_like(log_prob)
    return torch.where(mask, log_prob, torch.zeros_like(log_prob))


def thinning(message: dict[str, Any]) -> float:
    """Return the ratio of all rows of the plates around a site to those in the batch."""
    factor = 1.0
    for frame in message["cond_indep_stack"]:
        factor *= float(frame.full_size) / float(frame.size)
    return factor


def observed_values(fn: Any, observed: Any, message: dict[str, Any]) -> Any:
    """Return the observed value, with masked entries replaced by finite ones.

    Masked observations may be ``NaN``, which would make gradients ``NaN``.
    """
    mask = message["mask"]
    number = isinstance(observed, Tensor) and observed.is_floating_point()
    if not number or not isinstance(mask, Tensor):
        return observed
    return torch.where(mask.reshape([*mask.shape, *[1] * len(fn.event_shape)]), observed, 0.5)


class PlateRows:
    """Chooses the rows of subsampled plates (``subsample_size=``).

    Args:
        rows: ``(B,)`` indices of the rows in the batch, by plate; other plates use all rows.

    Attributes:
        sizes: Number of rows and batch size of each subsampled plate.
    """

    def __init__(self, rows: Mapping[str, Tensor] | None = None) -> None:
        self.rows = dict(rows or {})
        self.sizes: dict[str, tuple[int, int]] = {}

    def bound(self, program: Callable[[], Any]) -> Callable[[], Any]:
        """Return the program with the chosen rows."""

        def run() -> Any:
            with _chosen_by(self._choose):
                return program()

        return run

    def _choose(self, name: str, size: int, number: int) -> Tensor:
        self.sizes[name] = (size, number)
        rows = self.rows.get(name)
        return torch.arange(size) if rows is None else rows


def check_vectorised(message: Mapping[str, Any]) -> None:
    """Raise if a site is in a sequential subsampled plate, whose sites change."""
    for frame in message["cond_indep_stack"]:
        if frame.dim is None and frame.size != frame.full_size:
            raise Unsupported(
                f"plate {frame.name!r} is a loop over a subsample of its rows, so site "
                f"{message['name']!r} does not exist for other rows",
                "write `with pyro.plate(...) as rows:` instead of `for`",
            )


@contextlib.contextmanager
def _chosen_by(choose: Callable[[str, int, int], Tensor]) -> Iterator[None]:
    """Replace Pyro's random choice of rows by a function.

    Pyro's messages can change the choice of rows, but not their number.
    """
    plates: Any = SubsampleMessenger
    original = vars(plates)["_subsample"]

    def subsample(
        name: str,
        size: int | None = None,
        subsample_size: int | None = None,
        subsample: Tensor | None = None,
        *rest: Any,
    ) -> Any:
        if subsample is None and size is not None and (subsample_size or size) < size:
            assert subsample_size is not None
            subsample, subsample_size = choose(name, int(size), int(subsample_size)), None
        return original.__func__(name, size, subsample_size, subsample, *rest)

    plates._subsample = staticmethod(subsample)
    try:
        yield
    finally:
        plates._subsample = original
