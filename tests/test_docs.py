"""The README and the pages: every Python block runs and prints what is shown."""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "docs" / "build_outputs.py").exists():
    pytest.skip("the documentation is not part of this distribution", allow_module_level=True)


def _load():
    spec = importlib.util.spec_from_file_location("build_outputs", ROOT / "docs/build_outputs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


outputs = _load()


def name(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


@pytest.mark.parametrize("page", outputs.pages(), ids=name)
def test_outputs_are_those_of_the_code(page, monkeypatch, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = outputs.mismatches(page)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=name
)
def test_links_to_files_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/lme4.md"])
def test_names_in_tables_exist(page):
    from sparselmm import Results

    tables = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("|")]
    code = " ".join(span for line in tables for span in re.findall(r"`([^`]+)`", line))
    names = set(re.findall(r"\b(?:fit|m)\.([a-z_0-9]+)", code))
    assert len(names) > 10
    assert not sorted(name for name in names if not hasattr(Results, name) and name != "fit")


def test_architecture_lists_every_module():
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    paths = [path for path in (ROOT / "sparselmm").iterdir() if not path.name.startswith("__")]
    modules = {f"{path.name}/" for path in paths if (path / "__init__.py").exists()}
    modules |= {path.stem for path in paths if path.suffix == ".py"}
    unlisted = sorted(name for name in modules if f"`{name}`" not in text)
    assert not unlisted, "add them to the floors in docs/explanation/architecture.md"


def test_readme_shows_the_measurements():
    from benchmarks.readme_table import README, read, updated

    assert README.read_text() == updated(README.read_text(), read()), (
        "run python -m benchmarks.readme_table"
    )
