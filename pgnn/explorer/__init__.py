"""A local page for interactive queries of a network: ``pgnn explore FILE``."""

from pgnn.explorer.case import Case
from pgnn.explorer.explorer import Explorer
from pgnn.explorer.server import ExplorerServer, explore

__all__ = ["Case", "Explorer", "ExplorerServer", "explore"]
