"""Inference: intervals, tests, degrees of freedom, profiles, bootstrap. One question per file."""
