"""From a parsed formula and data to rows that numbers can be made of.

    build_design(formula, data, weights, offset, contrasts)      -> DesignSpec, Design
    design_from_arrays(y, X, column_names, terms, ...)           -> DesignSpec, Design
    DesignSpec.encode(newdata)                                   -> NewDesign

Both doors run through the same rooms:

    rows        which rows are used: missing values and zero weights, decided once
    encode      X, and per term the matrix Q left of its bar (numeric columns directly, the
                rest through formulaic, which remembers categories and transforms)
    factors     levels of the grouping factors and the code of every row
    assemble    order by decreasing number of levels, terms on one factor side by side in its Q
    checks      is the response constant, has a factor one level, can variances be told apart
    size        what memory cannot hold, refused before it is made

Z is never built: row i of Z_j has ``Q[i]`` in the columns of level ``codes[i]``. Learning
(`learn_levels`, `learn_columns`) and coding (`Levels.encode`, ``matrix``) are separate steps.
"""

from sparselmm._types import Design, Factor, NewDesign, RandomTerm
from sparselmm.design.arrays import ArrayTerm, design_from_arrays
from sparselmm.design.build import build_design
from sparselmm.design.spec import DesignSpec

__all__ = [
    "ArrayTerm",
    "Design",
    "DesignSpec",
    "Factor",
    "NewDesign",
    "RandomTerm",
    "build_design",
    "design_from_arrays",
]
