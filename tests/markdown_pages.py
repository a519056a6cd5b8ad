"""Reading Markdown pages as GitHub does: headings and their anchors, links, fenced blocks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*(\S*)")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HTML_LINK = re.compile(r"(?:href|src|srcset)=\"([^\"]+)\"")
_CODE = re.compile(r"`[^`]*`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str
    line: int

    def commands(self) -> list[str]:
        """Lines of a shell block without comments, continued lines joined."""
        joined = self.text.replace("\\\n", " ")
        lines = [re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines()]
        return [" ".join(line.split()) for line in lines if line]


@dataclass(frozen=True, slots=True)
class Page:
    """One page: `prose` is its text without fenced blocks, line for line."""

    path: Path
    text: str
    prose: str
    blocks: tuple[Block, ...]

    def links(self) -> list[str]:
        bare = _CODE.sub("", self.prose)
        return _LINK.findall(bare) + _HTML_LINK.findall(bare)

    def anchors(self) -> set[str]:
        """What `#...` may name: GitHub makes one of each heading, numbered when repeated."""
        seen: Counter[str] = Counter()
        found = set()
        for line in self.prose.splitlines():
            heading = _HEADING.match(line)
            if heading is None:
                continue
            slug = anchor(heading.group(1))
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return found

    def code_words(self) -> list[str]:
        """Everything between single backticks."""
        return [found.strip("`") for found in _CODE.findall(self.prose)]


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading: lower case, spaces to dashes, signs dropped."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def read_page(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    prose: list[str] = []
    blocks: list[Block] = []
    inside: list[str] = []
    fence = language = ""
    begun = 0
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark.group(1).startswith(fence) and not mark.group(2):
                blocks.append(Block(language, "\n".join(inside), begun))
                fence = ""
            else:
                inside.append(line)
            prose.append("")
        elif mark:
            fence, language, begun, inside = mark.group(1), mark.group(2), number, []
            prose.append("")
        else:
            prose.append(line)
    if fence:
        raise ValueError(f"{path}:{begun}: a fenced block is never closed")
    return Page(path, text, "\n".join(prose), tuple(blocks))
