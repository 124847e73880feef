"""What the site adds to Sphinx: formulas as MathML, and anchors of headings as in Jupyter."""

from docutils import nodes
from latex2mathml.converter import convert


def slug(heading: str) -> str:
    "The anchor that Jupyter gives a heading."
    return heading.replace(" ", "-")


def inline_formula(self, node):
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block_formula(self, node):
    self.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app):
    renderers = dict(inline_renderers=(inline_formula, None), block_renderers=(block_formula, None))
    app.add_html_math_renderer("mathml", **renderers)
