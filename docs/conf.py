"""The documentation site: `make docs` builds it into build/docs, strictly and without a network (ADR 0028)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "cl_lightning"
author = "The cl_lightning authors"
copyright = f"{author}, Apache-2.0"  # noqa: A001  Sphinx's name

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_help",
    "mathml",
    "options",
    "outside_links",
]
exclude_patterns = ["_ext", "results/*/**"]
root_doc = "index"

# ---- Markdown --------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
highlight_language = "text"
html_math_renderer = "mathml"

# ---- API -------------------------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
add_module_names = False
# Types in signatures may be of other libraries, or ours without a page. What a docstring refers to has to be there.
nitpick_ignore_regex = [("py:(class|mod)", r".*")]

# ---- looks -----------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = "cl_lightning"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app: Any) -> None:
    """Have the colon in "A share: of each class" read as a colon, where napoleon would take "A share" for a type."""

    def keep_colons(_app: Any, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
        if what in ("attribute", "property", "data"):
            lines[:0] = ["..", ""]  # a comment of nothing: napoleon looks at the first line alone

    app.connect("autodoc-process-docstring", keep_colons, priority=400)
