"""How Sphinx builds the documentation; README.md names the command."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from sphinx.pycode import ModuleAnalyzer

from kvdict.version import __version__

project = "kvdict"
author = "the kvdict authors"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx_click", "myst_parser"]
html_theme = "furo"
html_title = f"kvdict {version}"
html_copy_source = False
templates_path: list[str] = []

myst_heading_anchors = 3
default_role = "literal"
smartquotes = False  # what stands in quotes is mostly to be typed
add_module_names = False
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"

nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!kvdict\b).*"),  # what is not ours: to link it would take a network
    (r"py:.*", r"kvdict\.[\w.]*\.[A-Z]"),  # type variables
    (r"py:.*", r"kvdict\.views\.\w+|kvdict\.pairs\.HasKeys"),  # as dict gives and takes
]

OVERLOADED = "kvdict.config", "kvdict.mapping", "kvdict.namespace"
"""Modules of which one signature is shown, with the defaults, and not one for each codec."""
NAME = r"\w+(?:\(\w+(?:, \w+)*\))?"
OPTION = re.compile(rf"(?P<names>{NAME}(?:, {NAME})*): (?P<text>.+)")
"""The line with which our docstrings tell of an option, or of several: `name, other: what`."""


def show_options(
    _app: Any, _what: str, _name: str, _thing: Any, _options: Any, lines: list[str]
) -> None:
    """Make lists of the paragraphs in which a docstring tells of options."""
    shown: list[str] = []
    for is_text, block in groupby(lines, key=lambda line: bool(line.strip())):
        paragraph = list(block)
        if is_text and OPTION.fullmatch(paragraph[0]):
            paragraph = [_as_item(line) for line in paragraph]
        shown += paragraph
    lines[:] = shown


def _as_item(line: str) -> str:
    told = OPTION.fullmatch(line)
    return f"* **{told['names']}**: {told['text']}" if told else f"  {line}"


def link_to_readme(_app: Any, page: str, source: list[str]) -> None:
    """Let links to the README lead to the page that it is here."""
    if "/" not in page:
        source[0] = source[0].replace("(../README.md", "(index.md")


def setup(app: Any) -> None:
    """Look at docstrings and pages before they are shown."""
    for module in OVERLOADED:
        analyzer = ModuleAnalyzer.for_module(module)
        analyzer.analyze()
        analyzer.overloads.clear()
    app.connect("autodoc-process-docstring", show_options)
    app.connect("source-read", link_to_readme)
