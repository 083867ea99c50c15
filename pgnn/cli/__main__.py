"""Lets ``python -m pgnn.cli`` stand for the command ``pgnn``."""

from pgnn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
