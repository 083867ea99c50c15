"""Checkpoints of a running fit, from which a later process can resume."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import ChecksArguments, DataError, ModelError
from pgnn.limits import NOT_NEGATIVE, check_settings

_VERSION = 3
_WRONG = (
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    pickle.UnpicklingError,
    struct.error,
)
"""Exceptions that torch raises for invalid or truncated files."""
_COPY_EVERY = 1.0
"""Smallest interval in seconds between copies of the state for a possible interrupt."""
_SHARE = 100.0
"""Smallest interval between copies, as a multiple of the time of a copy."""


@dataclass(frozen=True)
class Checkpoints(metaclass=ChecksArguments):
    """File and interval at which a learner saves its progress.

    If the file exists when a fit starts, the fit resumes from it, with the same result as without
    interruption; data, seed, settings and initial model must be the same, except for
    ``max_iterations``. When the fit is complete, the file is removed. Ctrl-C saves the progress up
    to about a second before it (longer if copies of the state take long), also before the first
    checkpoint is due.

    Args:
        path: The file. It is replaced atomically, so that it is always complete.
        every: Smallest number of seconds between checkpoints; 0 to save after each iteration.

    Raises:
        ModelError: If the path is invalid, or the time is negative.

    Example:
        >>> Checkpoints("fit.checkpoint", every=0.0)
        Checkpoints(path='fit.checkpoint', every=0.0)
    """

    path: str | os.PathLike[str]
    every: float = 60.0

    def __post_init__(self) -> None:
        check_settings(self, every=NOT_NEGATIVE)
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise ModelError(f"path must be that of a file, got {self.path!r}")


class Keeper:
    """Writes and reads the state of one fit.

    Args:
        settings: The checkpoints; None to save nothing.
        fit: Properties that identify the fit, by name; they must agree with the file.
    """

    def __init__(self, settings: Checkpoints | None, fit: Mapping[str, Any]) -> None:
        self._settings, self._fit = settings, dict(fit)
        self._last = self._kept_at = time.monotonic()
        self._kept: bytes | None = None
        self._pause = _COPY_EVERY
        if settings is not None and (
            self._path.is_dir() or not self._path.absolute().parent.is_dir()
        ):
            raise DataError(
                f"{self._path} cannot be a checkpoint: it is a folder, or in a folder that "
                "does not exist"
            )

    def state(self) -> dict[str, Any] | None:
        """Return the last saved state; None for a new fit.

        Raises:
            DataError: If the file is not a checkpoint of this fit.
        """
        if self._settings is None or not self._path.exists():
            return None
        content = io.BytesIO(self._path.read_bytes())  # errors of reading are those of the system
        try:
            held = torch.load(content, weights_only=True)
            version, fit, state = held["version"], held["fit"], held["state"]
        except _WRONG as error:
            raise DataError(
                f"{self._path} is not a checkpoint of a fit ({type(error).__name__})",
                "remove it, or give another path",
            ) from None
        differ = [n for n, x in self._fit.items() if fit.get(n) != x]
        if version != _VERSION or differ:
            what = ", ".join(differ) or "version"
            raise DataError(
                f"{self._path} is the checkpoint of another fit, which differs in its {what}",
                "remove the file, or give another path",
            )
        restored: dict[str, Any] = state
        return restored

    def write(self, state: Mapping[str, Any]) -> None:
        """Save a state: numbers, strings, tensors, and lists, tuples and dicts of these."""
        if self._settings is not None:
            self._write(self._bytes(state))

    def after(self, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        """Save the state after an iteration if that is due; otherwise keep it for an interrupt.

        Args:
            snapshot: Returns the state.
        """
        if self._settings is None:
            return
        if self.due:
            self.write(snapshot())
        elif time.monotonic() - self._kept_at >= self._pause:
            begin = time.monotonic()
            self._kept, self._kept_at = self._bytes(snapshot()), time.monotonic()
            self._pause = max(_COPY_EVERY, _SHARE * (self._kept_at - begin))

    @contextmanager
    def saving_on_interrupt(self) -> Iterator[None]:
        """Save the latest state if the block is interrupted by Ctrl-C."""
        try:
            yield
        except KeyboardInterrupt:
            if self._kept is not None:
                self._write(self._kept)
            raise

    def _bytes(self, state: Mapping[str, Any]) -> bytes:
        stream = io.BytesIO()
        torch.save({"version": _VERSION, "fit": self._fit, "state": dict(state)}, stream)
        return stream.getvalue()

    def _write(self, data: bytes) -> None:
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        try:
            draft.write_bytes(data)
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)
        self._last, self._kept = time.monotonic(), None

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due."""
        settings = self._settings
        return settings is not None and time.monotonic() - self._last >= settings.every

    def close(self) -> None:
        """Remove the file: the fit is complete."""
        if self._settings is not None:
            self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        if self._settings is None:
            raise ModelError("there are no checkpoints")
        return Path(self._settings.path)


def check_checkpoints(checkpoints: Any) -> None:
    """Check a setting of a learner.

    Raises:
        ModelError: If the setting is neither None nor checkpoints.
    """
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise ModelError(f"checkpoints must be Checkpoints(path), got {checkpoints!r}")


def keeper_of(
    learner: Any, model: nn.Module, data: Any, seed: int | None, free: Collection[str] = ()
) -> Keeper:
    """Return the keeper that saves the progress of a learner's fit.

    Args:
        learner: The learner, a dataclass with ``checkpoints``.
        model: The model with its initial parameters.
        data: The training data; None for batches from an iterable.
        seed: Random seed of the fit.
        free: Settings that may differ when the fit resumes.
    """
    if learner.checkpoints is None:
        return Keeper(None, {})
    # the text of functions does not identify them
    free = {"checkpoints", "watch", *free}
    free |= {f.name for f in fields(learner) if "optimizer" in f.name or "scheduler" in f.name}
    settings = {f.name: getattr(learner, f.name) for f in fields(learner) if f.name not in free}
    return Keeper(
        learner.checkpoints,
        {
            "settings": repr(settings),
            "seed": seed,
            "data": None if data is None else digest(data),
            "model": digest(model.state_dict()),
        },
    )


def digest(*parts: Any) -> str:
    """Return a hash of data: arrays, tensors, dicts and lists of these.

    Example:
        >>> digest(np.arange(3)) == digest(np.arange(3)) != digest(np.arange(4))
        True
    """
    checksum = hashlib.blake2b(digest_size=16)
    for part in parts:
        _add(checksum, part)
    return checksum.hexdigest()


def _add(found: Any, part: Any) -> None:
    if isinstance(part, Tensor):
        if part.layout == torch.sparse_csr:
            for x in (part.crow_indices(), part.col_indices(), part.values()):
                _add(found, x)
            return
        part = part.numpy(force=True)
    if isinstance(part, np.ndarray) and part.dtype != object:
        found.update(f"{part.dtype} {part.shape}".encode())
        found.update(np.ascontiguousarray(part).data)
    elif isinstance(part, Mapping):
        for name, x in part.items():
            found.update(repr(name).encode())
            _add(found, x)
    elif isinstance(part, list | tuple):
        for x in part:
            _add(found, x)
    else:
        found.update(repr(part).encode())
