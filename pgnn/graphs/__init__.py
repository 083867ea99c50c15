"""Structure only, on networkx graphs: separation, moral graph, elimination, junction tree."""

from pgnn.graphs.adjustment import adjustment_set, is_adjustment_set
from pgnn.graphs.checks import Node, check_directed_acyclic
from pgnn.graphs.colouring import greedy_colouring, is_colouring, saturation_colouring
from pgnn.graphs.elimination import EliminationOrder, elimination_order, evaluate_order
from pgnn.graphs.heuristics import Heuristic, MinDegree, MinFill, MinWeight, WeightedMinFill
from pgnn.graphs.interaction import interaction_graph
from pgnn.graphs.junction_tree import is_junction_tree, junction_tree, triangulate
from pgnn.graphs.layered_layout import Layout, layered_layout
from pgnn.graphs.moral import moral_graph
from pgnn.graphs.neighbours import neighbour_graph
from pgnn.graphs.nested_layout import Box, nested_layout
from pgnn.graphs.relatives import ancestors, barren_nodes, markov_blanket, neighbourhood
from pgnn.graphs.separation import active_trails, d_connected, is_d_separated

__all__ = [
    # separation
    "is_d_separated",
    "d_connected",
    "active_trails",
    "markov_blanket",
    "ancestors",
    "barren_nodes",
    "neighbourhood",
    # causal effects
    "adjustment_set",
    "is_adjustment_set",
    # elimination
    "moral_graph",
    "interaction_graph",
    "elimination_order",
    "evaluate_order",
    "EliminationOrder",
    "Heuristic",
    "MinFill",
    "WeightedMinFill",
    "MinWeight",
    "MinDegree",
    # junction trees
    "triangulate",
    "junction_tree",
    "is_junction_tree",
    # colouring
    "greedy_colouring",
    "saturation_colouring",
    "is_colouring",
    # graphs of points
    "neighbour_graph",
    # drawings
    "layered_layout",
    "nested_layout",
    "Layout",
    "Box",
    # checks
    "Node",
    "check_directed_acyclic",
]
