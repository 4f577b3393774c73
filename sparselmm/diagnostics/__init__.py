"""What is wrong with a fit, and how much of the response it explains.

diagnose       findings in words, with simpler models and their AIC
collinearity   variance inflation, condition of X
explained      intraclass correlation, R² of the fixed and of all effects, rank of random effects
influence      leverage, Cook's distance, dfbetas, by row and by group
"""
