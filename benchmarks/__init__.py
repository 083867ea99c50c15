"""Timings of pgnn beside other libraries, on the same work in the same process."""

import os

# Thread pools read these when torch and BLAS are first imported, which is later than this.
for _name in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")

# Kernels answer from the first question on, and nothing else runs meanwhile.
os.environ.setdefault("PGNN_COMPILE", "now")
