"""Data sets as state codes: frames, mappings of columns, matrices of indices."""

from pgnn.data.columns import columns_of
from pgnn.data.encoded_table import EncodedTable, encode_table
from pgnn.data.states import states_of
from pgnn.data.table import Table

__all__ = ["Table", "EncodedTable", "encode_table", "columns_of", "states_of"]
