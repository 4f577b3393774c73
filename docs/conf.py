"""Sphinx configuration: `make docs`."""

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
