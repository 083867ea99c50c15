"""Processes that compile at the same time keep each other's code."""

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
from numba import njit
from pgnn.inference.kernels.shared_cache import SharedCache

def twice(x):
    return x + x

twice = njit(cache=True)(twice)
twice._cache = SharedCache(twice.py_func)
"""

# Long enough between the index and the code for the other process to come in.
COMPILE = """
import sys, time
from numba.core.caching import IndexDataCacheFile
import kernel

write = IndexDataCacheFile._save_index
def slowly(self, overloads):
    time.sleep(1.0)
    write(self, overloads)

IndexDataCacheFile._save_index = slowly
print("ready", flush=True)
sys.stdin.readline()
print(kernel.twice(eval(sys.argv[1])))
"""

LOAD = """
import kernel
print(kernel.twice(2), kernel.twice(0.25), sum(kernel.twice.stats.cache_hits.values()))
"""


def start(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[3])])
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_code_of_two_processes_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(MODULE)
    both = [start(tmp_path, COMPILE, value) for value in ("1", "0.5")]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in both] == ["2\n", "1.0\n"]
    assert start(tmp_path, LOAD).communicate()[0] == "4 0.5 2\n"
