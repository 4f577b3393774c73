"""The bootstrap: replicates (`replicate`), their seeds and workers (`api`), intervals (`record`)."""

from sparselmm.inference.bootstrap.api import bootstrap, bootstrap_intervals
from sparselmm.inference.bootstrap.record import Bootstrap

__all__ = ["Bootstrap", "bootstrap", "bootstrap_intervals"]
