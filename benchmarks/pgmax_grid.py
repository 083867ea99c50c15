"""PGMax on a grid; for an interpreter that has it, which need not have anything else of ours.

``python benchmarks/pgmax_grid.py SIDE STATES ITERATIONS`` prints CPU seconds an iteration and the
process's largest memory in bytes, in all and since its imports, as JSON.
"""

import json
import resource
import sys
import time
import types

import jax
import numpy as np

try:
    import jax.lib.xla_bridge
except ImportError:  # where newer versions of JAX have it
    from jax.extend import backend

    bridge = types.ModuleType("jax.lib.xla_bridge")
    bridge.get_backend = backend.get_backend
    sys.modules["jax.lib.xla_bridge"] = bridge
    jax.lib.xla_bridge = bridge

from pgmax import fgraph, fgroup, infer, vgroup


def main(side: int, states: int, iterations: int) -> None:
    """Sum-product, damped by a half, one table for all edges (which PGMax writes out)."""
    jax.block_until_ready(jax.jit(jax.numpy.exp)(jax.numpy.ones(3)))
    base = peak()
    rng = np.random.default_rng(0)
    var = vgroup.NDVarArray(num_states=states, shape=(side, side))
    graph = fgraph.FactorGraph(var)
    across = [[var[i, j], var[i, j + 1]] for i in range(side) for j in range(side - 1)]
    down = [[var[i, j], var[i + 1, j]] for i in range(side - 1) for j in range(side)]
    table = (0.5 * rng.normal(size=(states, states))).astype(np.float32)
    graph.add_factors(
        fgroup.PairwiseFactorGroup(variables_for_factors=across + down, log_potential_matrix=table)
    )
    engine = infer.BP(graph.bp_state, temperature=1.0)
    field = rng.normal(size=(side, side, states)).astype(np.float32)
    arrays = engine.init(evidence_updates={var: jax.numpy.array(field)})

    def run() -> None:
        found = engine.run(arrays, num_iters=iterations, damping=0.5, temperature=1.0)
        jax.block_until_ready(found.ftov_msgs)

    run()
    spent = []
    for _ in range(3):
        begun = time.process_time()
        run()
        spent.append(time.process_time() - begun)
    top = peak()
    print(json.dumps({"seconds": min(spent) / iterations, "bytes": top, "own": top - base}))


def peak() -> int:
    """Largest memory so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
