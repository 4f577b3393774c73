"""Run the Python blocks of the README and of the pages, and compare or rewrite the outputs shown.

A ``python`` block runs in its page's namespace, after the blocks above it. A ``text`` block that
follows directly is what it printed; ``...`` stands for anything. A block of ``>>>`` lines is a
doctest. ``<!-- not run: reason -->`` before a block leaves it out, ``<!-- needs: module -->`` does
so where the module is not installed. Pictures that a block saves stay beside the page when outputs
are written.

    python docs/build_outputs.py [--write] [page ...]
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\s*```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
REMARK = re.compile(r"<!-- (?P<kind>not run|needs): (?P<what>.+) -->\n\Z")


class Block(NamedTuple):
    """Code of a page, what it says the code prints, and where that stands in the page's text."""

    code: str
    line: int
    output: str | None
    span: tuple[int, int]


def pages() -> list[Path]:
    """The README and all pages that have Python blocks."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if "_build" not in page.parts and blocks(page.read_text())]


def blocks(text: str) -> list[Block]:
    """Blocks to run, from top to bottom."""
    return [
        Block(m["code"], text.count("\n", 0, m.start("code")), m["output"], m.span("output"))
        for m in BLOCK.finditer(text)
        if runs(REMARK.search(text[: m.start()]))
    ]


def runs(remark: re.Match[str] | None) -> bool:
    """Whether a block runs, given the remark that stands before it."""
    if remark is None:
        return True
    return remark["kind"] == "needs" and find_spec(remark["what"]) is not None


def run(page: Path) -> Iterator[tuple[Block, str | None]]:
    """Every block with what is wrong about it, None for nothing; outputs are not compared yet."""
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page.read_text()):
        if block.code.startswith(">>>"):
            yield block, as_doctest(block, page, names)
        else:
            yield block, printed(block, page, names)


def printed(block: Block, page: Path, names: dict[str, Any]) -> str:
    """What the code prints."""
    code = compile("\n" * block.line + block.code, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, names)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().rstrip("\n").splitlines())


def as_doctest(block: Block, page: Path, names: dict[str, Any]) -> None:
    """Run a block of ``>>>`` lines; its failures are raised as one AssertionError."""
    test = doctest.DocTestParser().get_doctest(block.code, {}, page.name, str(page), block.line)
    test.globs = names
    report = io.StringIO()
    doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(
        test, out=report.write, clear_globs=False
    )
    if report.getvalue():
        raise AssertionError(report.getvalue())


def agrees(shown: str | None, got: str | None) -> bool:
    """Whether a page shows what its code printed; nothing shown agrees with anything."""
    return shown is None or got is None or doctest.OutputChecker().check_output(shown, got, OPTIONS)


def mismatches(page: Path) -> list[str]:
    """One message per output that is not what the page shows."""
    return [
        f"{page.name}, line {block.line + 1}: the page shows\n{block.output}\nthe code prints\n{got}"
        for block, got in run(page)
        if not agrees(block.output, got)
    ]


def rewritten(page: Path) -> str:
    """The page's text with the outputs its code prints."""
    text, done, pieces = page.read_text(), 0, []
    for block, got in run(page):
        if not agrees(block.output, got):
            start, stop = block.span
            pieces += [text[done:start], got or ""]
            done = stop
    return "".join([*pieces, text[done:]])


def main() -> None:
    """Check pages, or write their outputs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="rewrite outputs that differ")
    chosen = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "Agg")
    wrong = []
    for page in [page.resolve() for page in chosen.pages] or pages():
        if chosen.write:
            with contextlib.chdir(page.parent):
                page.write_text(rewritten(page))
        else:
            with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
                wrong += mismatches(page)
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
