"""Sphinx configuration: `make docs`."""

import re

import sparselmm

project = "sparselmm"
copyright = "the sparselmm developers"
version = release = sparselmm.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "alabaster"
html_title = "sparselmm"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_theme_options = {
    "description": "Linear mixed models for large nested and crossed designs",
    "fixed_sidebar": True,
    "page_width": "1120px",
    "sidebar_width": "230px",
    "font_family": "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif",
    "head_font_family": "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif",
    "code_font_size": "0.82em",
}

ABSOLUTE = re.compile(r"\|(\S[^|`]*\S|\S)\|")


def escape_absolute_values(*event):
    r"""|x| in a docstring is an absolute value, not a substitution of reStructuredText."""
    lines = event[-1]
    for i, line in enumerate(lines):
        if "`" not in line and not line.lstrip().startswith((">>>", "...")):
            lines[i] = ABSOLUTE.sub(r"\\|\1\\|", line)


def setup(app):
    """Register the hook; numpydoc's comes after it."""
    app.connect("autodoc-process-docstring", escape_absolute_values, priority=100)
