"""Settings of Sphinx for the site; `build.py` prepares the folder in which it runs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "hiermovie"
author = "the hiermovie founders"
extensions = ["myst_nb", "site_extension"]
root_doc = "index"
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "hiermovie"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_extra_path = ["extra"]
html_math_renderer = "mathml"
nb_ipywidgets_js = {}  # widgets are shown in JupyterLab only; their scripts would be fetched
html_show_copyright = False
html_copy_source = False
suppress_warnings = ["myst.header"]
myst_heading_slug_func = "site_extension.slug"
