"""Other packages' interfaces on this engine; one sub-package each."""
