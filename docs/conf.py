"""The documentation site: `make docs` builds it into build/docs, strictly and without a network (ADR 0028)."""

from __future__ import annotations

import sys
from pathlib import Path

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
    "outside_links",
]
exclude_patterns = ["_ext", "results/*/**"]
root_doc = "index"

# ---- Markdown --------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
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
html_static_path: list[str] = []
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
