"""Run the tests that statsmodels ships for MixedLM against this package.

The test file of the installed statsmodels is copied to a temporary folder with its imports of `MixedLM` pointed here
and is run by pytest. Tests of private functions of statsmodels are left out; see ``docs/how-to/statsmodels.md``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Tests of functions that exist only inside statsmodels' implementation, with what they are.
PRIVATE = {
    "TestSMWSolver": "_smw_solver, a linear solver for one group's covariance",
    "TestSMWLogdet": "_smw_logdet, its log-determinant",
}

REPLACEMENTS = {
    """from statsmodels.regression.mixed_linear_model import (
    MixedLM,
    MixedLMParams,
    _smw_logdet,
    _smw_solver,
)""": "from sparselmm.compat.statsmodels import MixedLM, MixedLMParams",
    "from statsmodels.formula.api import mixedlm": "from sparselmm.compat.statsmodels import mixedlm",
    "from .results import lme_r_results": (
        "from statsmodels.regression.tests.results import lme_r_results"
    ),
}


def shipped_tests() -> Path | None:
    """statsmodels' test file, or None where statsmodels or its tests are not installed."""
    if find_spec("statsmodels") is None:
        return None
    package = find_spec("statsmodels.regression")
    folder = Path(package.submodule_search_locations[0])  # type: ignore[union-attr,index]
    path = folder / "tests" / "test_lme.py"
    return path if path.exists() else None


def pointed_here(source: Path) -> str:
    """The text of the test file with our classes, reading its data where they are."""
    text = source.read_text(encoding="utf-8")
    for found, ours in REPLACEMENTS.items():
        if found not in text:
            raise SystemExit(
                f"{source}: expected {found!r}; this version of statsmodels is unknown."
            )
        text = text.replace(found, ours)
    return text.replace("Path(__file__).resolve().parent", f"Path({str(source.parent)!r})")


def main(arguments: list[str]) -> int:
    """Run the suite; further arguments go to pytest."""
    source = shipped_tests()
    if source is None:
        print("statsmodels, or its tests, are not installed: pip install statsmodels")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "test_lme.py"
        target.write_text(pointed_here(source), encoding="utf-8")
        (Path(folder) / "pytest.ini").write_text(
            "[pytest]\nmarkers =\n    slow\n    smoke\n    high_memory\n"
        )
        deselect = " and ".join(f"not {name}" for name in PRIVATE)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", deselect]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.call([*command, *arguments, str(target)], cwd=folder, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
