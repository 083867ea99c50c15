"""Shared by the examples: the folder of the data and the folder of the figures."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def arguments(description: str, argv: list[str] | None) -> argparse.Namespace:
    """Read ``--data``, the folder with public data sets, and ``--out``, the folder for pictures."""
    parser = argparse.ArgumentParser(description=description)
    data = os.environ.get("PGNN_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder of data sets")
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for pictures")
    read = parser.parse_args(argv)
    read.out.mkdir(parents=True, exist_ok=True)
    return read


def save(figure: object, path: Path) -> None:
    """Write a matplotlib figure and say where."""
    figure.savefig(path, dpi=120, bbox_inches="tight")  # type: ignore[attr-defined]
    print(f"picture: {path}")
