"""The site of the documents, for Sphinx: `make docs`. Its pages are the Markdown files of the repository."""

import html
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

project = "mqtt-presence"
author = "the authors of mqtt-presence"
html_title = "mqtt-presence"
root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "broker_config/**.md", "examples/**.md"]
exclude_patterns = [".*", "**/node_modules", "build", "dist", "docs/site"]
extensions = ["myst_parser"]

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
myst_fence_as_directive = ["mermaid"]
highlight_language = "none"  # of fences that name none
suppress_warnings = [
    "misc.highlighting_failure"
]  # Pygments knows no Svelte, and no variables of Grafana in SQL

html_theme = "furo"
html_static_path = ["../../node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js"]
html_copy_source = False
html_show_search_summary = False  # browsers fetch no text from a file
html_show_copyright = False

_ANCHOR = re.compile(r'<a id="([\w-]+)"></a>')
_MERMAID = ROOT / "node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js"
_START_MERMAID = (
    'mermaid.initialize({theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "default"});'
)
_NAVIGATION = {"README": "navigation.md", "broker_config/README": "navigation_of_brokers.md"}
_SHOWN = (".png", ".svg")


class Mermaid(Directive):
    """A drawing that the browser makes.

    sphinxcontrib-mermaid starts a JavaScript module, and no browser loads a module from a file.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the text for mermaid."""
        text = html.escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">{text}</pre>', format="html")]


def _add_mermaid(app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Add mermaid, 2.5 MB, to the pages with a drawing."""
    if 'class="mermaid"' in context.get("body", ""):
        app.add_js_file(_MERMAID.name)
        app.add_js_file(None, body=_START_MERMAID)


def _adapt(app: Sphinx, name: str, source: list[str]) -> None:
    """Add the order of the pages, and make anchors of HTML known to MyST."""
    if name in _NAVIGATION:
        app.env.note_dependency(str(HERE / _NAVIGATION[name]))
        source[0] += "\n" + (HERE / _NAVIGATION[name]).read_text("utf-8")
    source[0] = _ANCHOR.sub(r"[]{#\1}", source[0])


def _add_files(app: Sphinx, error: Exception | None) -> None:
    """Add the pictures that HTML in the README names, and the README as the first page."""
    if error is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    for picture in (ROOT / "docs").iterdir():
        if picture.suffix in _SHOWN:
            shutil.copyfile(picture, site / "docs" / picture.name)
    shutil.copyfile(site / "README.html", site / "index.html")


def setup(app: Sphinx) -> None:
    """Connect the functions to the build."""
    app.add_directive("mermaid", Mermaid)
    app.connect("source-read", _adapt)
    app.connect("html-page-context", _add_mermaid)
    app.connect("build-finished", _add_files)
