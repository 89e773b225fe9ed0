"""The pages that users read, and what they are told to type."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

RECORDS = ("adr", "LOG.md", "REPRODUCIBILITY.md")
"""Pages that tell of what was typed at a time."""


@dataclass(frozen=True)
class Typed:
    """A command of a page, as the shell hands it over."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"

    def after(self, *words: str) -> tuple[str, ...] | None:
        """Return the words behind these, ``None`` if they are not there."""
        for index in range(len(self.words) - len(words) + 1):
            if self.words[index : index + len(words)] == words:
                return self.words[index + len(words) :]
        return None


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[Typed]:
    """Return every line of the page's shell blocks that starts with a program of ours, of Python's or of make, and what
    stands between backquotes and is long enough to be typed.
    """
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(text, "sh") for line in joined(block).splitlines()]
    if not any(part in RECORDS for part in page.parts):
        rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]
        lines += [
            span for span in spans if span.startswith("make ") or ("-m cl_lightning" in span and span.count(" ") > 2)
        ]
    mine = [line for line in lines if line.startswith(("python ", "make ", "torchrun "))]
    name = str(page.relative_to(ROOT))
    return [Typed(name, tuple(shlex.split(line.rstrip("& "), comments=True))) for line in mine]


def joined(block: str) -> str:
    """Lines that go on after a backslash as one."""
    return re.sub(r" *\\\n *", " ", block)


def links(page: Path) -> list[str]:
    """Targets of the page's links and images within the checkout."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


ALL = [command for page in PAGES for command in commands(page)]
