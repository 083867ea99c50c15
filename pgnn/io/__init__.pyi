from .bif import read_bif, write_bif
from .checkpoint import save
from .crfsuite import read_crfsuite
from .model_files import load, read, write
from .pgmpy import to_pgmpy
from .pgmpy_reader import from_pgmpy
from .pyagrum import from_pyagrum, to_pyagrum
from .uai import read_uai, write_uai
from .uai_evidence import read_evidence, read_query, write_evidence

__all__ = [
    "read",
    "write",
    "load",
    "save",
    "read_bif",
    "write_bif",
    "read_uai",
    "write_uai",
    "read_evidence",
    "write_evidence",
    "read_query",
    "read_crfsuite",
    "from_pgmpy",
    "to_pgmpy",
    "from_pyagrum",
    "to_pyagrum",
]
