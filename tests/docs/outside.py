"""A hook of ProperDocs: the packages' READMEs are pages too, and links find them there.

In the repository a page links to files as they lie, so that links work while it is browsed. On the
site a README is under ``depth/``, and any other file outside docs/ is named instead of linked.
"""

import os
import re
from pathlib import Path
from typing import Any

from properdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
READMES = {
    "docker/README.md": "depth/containers.md",
    **{
        f"common/{name}/README.md": f"depth/{name}.md"
        for name in ("consent", "crypto", "privacy", "pruning", "release", "trail")
    },
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the READMEs."""
    for source, page in READMES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have links lead to where things are on the site."""
    return relinked(markdown, page.file.src_uri)


def relinked(markdown: str, uri: str) -> str:
    """Return a page's text with its links as the site needs them; ``uri`` is its place there."""
    sources = {page: source for source, page in READMES.items()}
    here = Path(sources.get(uri, f"docs/{uri}"))

    def lead(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        file = os.path.normpath(here.parent / target)
        place = READMES.get(file, file.removeprefix("docs/") if file.startswith("docs/") else "")
        if not (ROOT / file).exists():
            raise FileNotFoundError(f"{here}: links to {file}, which is not there")
        if not place:
            return f"{text} (`{file}`)"
        return f"[{text}]({os.path.relpath(place, Path(uri).parent)}{anchor})"

    return _LINK.sub(lead, markdown)
