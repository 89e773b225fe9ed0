"""Pages in Chromium, where it is installed: measured at several widths, or taken a picture of."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

_PROBE = """
<body style="margin:0">FRAMES<script>
const found = []
function measure(frame) {
  const page = frame.contentDocument, width = page.documentElement.clientWidth
  const scrolled = e => e.closest('.scroll') && !e.matches('.scroll')
  const out = [...page.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect()
    return !scrolled(e) && !e.closest('svg') && (box.right > width + 1 || box.left < -1)
  })
  const cut = [...page.querySelectorAll('.card, .tile')].filter(e => e.scrollWidth > e.clientWidth + 1)
  const seen = [...page.querySelectorAll('svg text')].filter(e => e.getBoundingClientRect().width)
  const scale = e => Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b)
  const sizes = seen.map(e => parseFloat(getComputedStyle(e).fontSize) * scale(e))
  const outside = seen.filter(e => {
    const box = e.getBoundingClientRect(), svg = e.closest('svg').getBoundingClientRect()
    return box.left < svg.left - 1 || box.right > svg.right + 1 ||
      box.top < svg.top - 1 || box.bottom > svg.bottom + 1
      box.top < svg.top - 1 || box.bottom > svg.bottom + 1
  })
  const small = [...page.querySelectorAll('body *')].filter(e => !e.closest('svg') && e.innerText &&
    parseFloat(getComputedStyle(e).fontSize) < 12)
  found.push({page: +frame.dataset.page, width, page_width: page.documentElement.scrollWidth,
    out: out.map(e => e.outerHTML.slice(0, 80)), cut: cut.map(e => e.id || e.innerText), small_html: small.length,
    outside: outside.map(e => e.closest('section').id + ': ' + e.textContent),
    smallest: Math.min(...sizes), wide_cards: [...page.querySelectorAll('.scroll')].filter(
      e => e.scrollWidth > e.clientWidth + 1 && e.querySelector('svg')).map(e => e.closest('section').id)})
}
addEventListener('load', () => {
  document.querySelectorAll('iframe').forEach(measure)
  document.body.innerHTML = '<pre>@@' + btoa(unescape(encodeURIComponent(JSON.stringify(found)))) + '@@</pre>'
})
</script></body>
"""


def measure(pages: Sequence[str], widths: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """Return what sticks out of each page at each width, and the size of the smallest text of its figures in pixels.

    A frame is as narrow as it is asked to be, a window of Chromium is not.
    """
    frames = "".join(
        f'<iframe data-page="{index}" style="width:{width}px;height:900px;border:0" srcdoc="{escape(page)}"></iframe>'
        for index, page in enumerate(pages)
        for width in widths
    )
    probe = folder / "probe.html"
    probe.write_text(f'<!doctype html><meta charset="utf-8">{_PROBE.replace("FRAMES", frames)}', encoding="utf-8")
    dumped = chromium(folder, "--virtual-time-budget=20000", "--dump-dom", probe.as_uri())
    (encoded,) = re.findall(r"@@([\w+/=]+)@@", dumped)
    found: list[dict[str, Any]] = json.loads(base64.b64decode(encoded))
    return found


def chromium(folder: Path, *arguments: str) -> str:
    """Run Chromium with a profile in the folder; return what it prints."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    return done.stdout.decode("utf-8")
