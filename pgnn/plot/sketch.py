"""Small drawings below the lines of a card."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pgnn.plot.canvas import Canvas


class Sketch(ABC):
    """A small drawing.

    Attributes:
        caption: What is drawn, as a line of the card; none if empty.
    """

    caption: str = ""

    @property
    @abstractmethod
    def size(self) -> tuple[float, float]:
        """Width and height in points."""

    @abstractmethod
    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """Draw it from the upper left corner."""
