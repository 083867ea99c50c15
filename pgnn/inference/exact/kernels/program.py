"""The layout of programs: tables with named columns during assembly, then one integer array.

A program is one int64 array. Its header contains the start of each section; sections hold
instructions, each preceded by its length, or rows of integers.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import Ints, lean

# kinds of steps, as NumPy scalars: for Python integers numba would compile the callers again for #
# every value
MULTIPLY, MESSAGE, ADJOINT, MARGINAL = np.int64(0), np.int64(1), np.int64(2), np.int64(3)
ROOT, OPEN = np.int64(4), np.int64(5)
"""In encoded instructions: a message that ends a component, and what is done once for all rows in
a component that goes on with the rows."""
ONE = np.int64(0)
"""Buffer 0, at address 0, is the constant one."""
HEADER = 12
"""Numbers in an encoded instruction before its loops; each loop takes ``LOOP`` more."""
LOOP = 5
LOAD = 8
"""Numbers in an encoded load before its fixed variables and its loops, two numbers each."""

# --- columns of the tables from which a program is made -------------------------------------------

# of a variable: states; whether it is eliminated, has a likelihood of its own in each row, is
# wanted, is maximised over; place in the order; first table in its bucket; buffer of its
# likelihood; buffer whose adjoint gives its marginal (-1: the message); buffer of the marginal
CARD, FREE, UNARY, WANTED, MAXIMIZE, POSITION, BUCKET, LIKELIHOOD, SOURCE, BELIEF_OF = range(10)
VARIABLE = 10
# of a factor: start of its scope; whether it counts, depends on the row, its belief is
# wanted; its buffer
SCOPE, USED, ROWWISE, BELIEF, BUFFER = range(5)
FACTOR = 5
# of a buffer: start and length of its scope; entries; whether it depends on the row, its
# adjoint is wanted; buffer of the adjoint; address in memory; next buffer in the same bucket
FIRST, RANK, SIZE, WIDE, NEED, ADJOINT_OF, ADDRESS, NEXT = range(8)
BUFFERS = 8
# of a step: kind, eliminated variable, output and operands; start and length of the scope of output
# and operands together, over which its loops run
KIND, VAR, OUT, X, Y, Z, OVER, NUM_OVER = range(8)
STEP = 8
# counts: buffers, steps, upward steps, numbers of scopes, inputs of buckets
NUM_BUFFERS, NUM_STEPS, NUM_UP, NUM_SCOPES, NUM_INPUTS = range(5)
COUNTS = 5

# --- head of a program ----------------------------------------------------------------------------

# where sections begin: copies of tables done once and for each row, look-ups of factors that are
# wholly observed, read-outs of beliefs; (variable, address, states, column) of each row-wise
# likelihood; (variable, address, states) of each wanted marginal; (address, width) of each message
# whose product is the evidence; instructions done once, upward and downward for each row; for
# decoding, where each bucket's record begins, and the records
STATIC_LOAD, ROW_LOAD, CONSTANT, READ_OUT, LIKELIHOODS, MARGINALS, ROOTS = range(7)
STATIC, UP, DOWN, BUCKETS, RECORDS, END = range(7, 13)
# numbers of memory in all, of its static part, deepest loop nest
MEMORY, STATIC_MEMORY, DEPTH = range(13, 16)
HEAD = 16


@lean
def stride_of(v: int, scope: Ints, variables: Ints) -> int:
    """Stride of ``v`` in a C-ordered table over ``scope``; 0 if it has no such axis."""
    stride = 1
    for k in range(scope.shape[0] - 1, -1, -1):
        if scope[k] == v:
            return stride
        stride *= variables[scope[k], CARD]
    return 0
