"""The documentation site: `python -m sphinx -W -b html docs docs/_build/html`, with the extra `docs` installed."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for extensions/

project = "loosestep"
author = "The loosestep developers"
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "extensions.members", "extensions.docstrings"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # pages of results: a part may begin a level lower

autodoc_mock_imports = ["torch", "jax", "optax", "mpi4py", "cupy"]  # frameworks that no page needs
autodoc_typehints = "none"  # signatures name arguments, docstrings say what they are
autodoc_member_order = "bysource"
add_module_names = False
python_maximum_signature_line_length = 90
nitpicky = True
smartquotes = False  # quotes in sentences are often code

html_theme = "furo"
html_title = "loosestep"
html_static_path: list[str] = []
html_theme_options = {
    "source_repository": "https://github.com/loosestep/loosestep/",
    "source_branch": "main",
    "source_directory": "docs/",
    "navigation_with_keys": True,
}
