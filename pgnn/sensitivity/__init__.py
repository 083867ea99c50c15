"""What an answer depends on: entries of tables, findings, and what might be observed next."""

from pgnn.sensitivity.conflict import Conflict, conflict
from pgnn.sensitivity.curves import Curve, Surface, curve, surface
from pgnn.sensitivity.derivatives import derivatives
from pgnn.sensitivity.entry import Entry, with_entry
from pgnn.sensitivity.findings import influence, trails
from pgnn.sensitivity.information import mutual_information, value_of_information

__all__ = [
    "derivatives",
    "curve",
    "surface",
    "Curve",
    "Surface",
    "Entry",
    "with_entry",
    "influence",
    "trails",
    "conflict",
    "Conflict",
    "mutual_information",
    "value_of_information",
]
