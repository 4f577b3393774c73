"""Bundled data sets, simulated designs and the named benchmark problems.

``load_dataset`` reads one of the small published data sets, ``simulate_design`` draws data from a
model with crossed, nested or partially crossed groupings (the rules are in ``groupings``), and
``problems`` holds the designs that the benchmarks and the examples refer to by name.
"""

from sparselmm.datasets.bundled import load_dataset
from sparselmm.datasets.simulate import Problem, SimulatedDesign, simulate_design

__all__ = ["Problem", "SimulatedDesign", "load_dataset", "simulate_design"]
