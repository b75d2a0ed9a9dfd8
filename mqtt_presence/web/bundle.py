"""The page's bundle: one file, made of all modules by the build, which imports this file without the package.

In a checkout the modules may be newer than the bundle. Then the server serves the modules themselves.
"""

import hashlib
from pathlib import Path

MODULES = 'src="static/page/main.js"'
"""The script of index.html, for a page without a bundle."""
FOLDERS = ("page", "presence")
BUNDLE = "built/page.js"
STAMP = "built/page.sources"
"""The digest of the modules that the bundle was made of."""


def digest(static: Path) -> str:
    """Return the digest of all modules that become part of the bundle.

    Args:
        static: the directory of index.html.

    """
    found = hashlib.sha256()
    modules = [path for folder in FOLDERS for path in (static / folder).glob("*.js")]
    for path in sorted([static / "presence.js", *modules]):
        found.update(f"{path.relative_to(static).as_posix()}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def is_current(static: Path) -> bool:
    """Return whether there is a bundle, made of the present modules."""
    stamp = static / STAMP
    return (static / BUNDLE).is_file() and stamp.is_file() and stamp.read_text("utf-8") == digest(static)


def with_bundle(html: str) -> str:
    """Return index.html with the bundle for the modules."""
    assert MODULES in html
    return html.replace(MODULES, f'src="static/{BUNDLE}"')
