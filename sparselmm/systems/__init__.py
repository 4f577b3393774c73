"""The penalised system: four ways to hold one matrix.

A = Lambda'Z'WZ Lambda + I is factorised block by block: the leading factor level by level (`leading`, `base`), then
the Schur complement S of the others, which a store keeps

    grouped   block-diagonal: nested designs, or a single factor
    crossed   dense: crossed designs that fill in
    sparse    as CHOLMOD's factor: partially crossed and nested designs that stay sparse

`choose` predicts what each would cost and takes the cheapest that fits.
"""
