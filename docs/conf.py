"""How `make docs` builds these pages: Sphinx, MyST for Markdown, Furo. Nothing is fetched; a warning is an error."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from docstrings import add_fields, readable, skip_fields, to_rst  # noqa: E402 (found through the line above)

project = "profit-jax"
author = copyright = "the profit-jax authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["figures"]
nitpicky = True
# Types of other packages have no page here.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|flax|jax|jaxlib|matplotlib|np|numpy|optax|os|pathlib)\..*"),
    (r"py:.*", r"(.*\.)?(ArrayTree|Name)"),  # of chex; a type variable
]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_title = "profit-jax"
html_show_sphinx = False
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Docstrings become reStructuredText before napoleon, which has priority 500, reads them."""
    app.connect("autodoc-process-docstring", add_fields, priority=100)
    app.connect("autodoc-process-docstring", to_rst, priority=200)
    app.connect("autodoc-process-signature", readable)
    app.connect("autodoc-skip-member", skip_fields)
