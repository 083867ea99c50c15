"""Data sets as state codes: frames, mappings of columns, matrices of indices."""

from pgnn.evidence.columns import columns_of
from pgnn.evidence.encoded_table import EncodedTable, encode_table
from pgnn.evidence.states import states_of
from pgnn.evidence.table import Table

__all__ = ["Table", "EncodedTable", "encode_table", "columns_of", "states_of"]
