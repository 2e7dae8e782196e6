"""How Sphinx makes the site of its sources, which `python -m merlib.pages` writes: `make site`.

Nothing is loaded from the network, when the site is made or when it is read: formulas are MathML, the theme brings its
own fonts and scripts, and the search reads an index that is a script. So the site works from a folder, too.
"""

import html

from docutils import nodes
from latex2mathml.converter import convert

project = "merlib"
html_title = "merlib"
copyright = "The merlib authors"
extensions = ["myst_nb", "sphinx_copybutton"]
suppress_warnings = ["ref.python", "misc.highlighting_failure"]  # types that two modules have; code of no language
exclude_patterns = ["**/.ipynb_checkpoints"]

smartquotes = False  # it would make one dash of the two of an option
nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 4

html_theme = "pydata_sphinx_theme"
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it would fetch the pages it found, which a browser forbids for files
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp"


def inline(self, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block(self, node: nodes.math_block) -> None:
    label = f' id="{html.escape(node["ids"][0])}"' if node["ids"] else ""
    self.body.append(f'<div class="formula" tabindex="0"{label}>{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
