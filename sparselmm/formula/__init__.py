"""From the text of a formula to its parts.

    text --tokens--> tokens with positions
         --bars----> response, fixed part, offsets, and bars ``(left | right)`` cut out
         --terms---> ParsedFormula: bars expanded as lme4 does

Only the bars are ours: what stands on the fixed side and left of a bar stays text for formulaic.
Formulas made of nothing but names, numbers and operators (most of them) are read without loading
formulaic, which takes longer than a small fit.
"""

from sparselmm.formula.bars import Predictor
from sparselmm.formula.terms import ParsedFormula, ParsedTerm, parse_formula

__all__ = ["ParsedFormula", "ParsedTerm", "Predictor", "parse_formula"]
