"""Text of subtitles between formats: plain lines with exact times.

libav's decoders turn every text format into ASS events (ReadOrder, Layer, Style, Name, three
margins, Effect, Text); from those come SubRip text with <b>, <i>, <u>, and plain mov_text samples.
Neither reads a file: `tracks.py` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MOV_TEXT_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, "
    b"Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, "
    b"Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\r\n"
    b"Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0\r\n"
    b"\r\n[Events]\r\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, "
    b"Text\r\n"
)
_DRAWING = re.compile(r"\{[^}]*\\p[1-9][^}]*\}.*?(?=\{[^}]*\\p0[^}]*\}|$)", re.DOTALL)
_BLOCK = re.compile(r"\{[^}]*\}")
_SWITCH = re.compile(r"\\([biu])([01])(?![0-9a-zA-Z])|\\(r)(?![a-zA-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """One text on screen during ticks [start, stop)."""

    start: int
    stop: int
    text: str  # lines parted by "\n"


def event_text(event: str) -> str:
    """The Text field of an ASS event as libav's decoders give it."""
    return event.split(",", 8)[-1]


def plain(text: str) -> str:
    """ASS text without its markup and drawings; "\\N" and "\\n" are line breaks."""
    return _lines(_BLOCK.sub("", _DRAWING.sub("", text)))


def subrip(text: str) -> str:
    """ASS text as SubRip: bold, italic and underlined stay, other markup goes."""
    parts: list[str] = []
    open_tags: list[str] = []
    at = 0
    text = _DRAWING.sub("", text)
    for block in _BLOCK.finditer(text):
        parts.append(text[at : block.start()])
        at = block.end()
        for letter, on, reset in _SWITCH.findall(block.group()):
            parts.extend(_switch(open_tags, letter, on == "1", reset == "r"))
    parts.append(text[at:])
    parts.extend(f"</{tag}>" for tag in reversed(open_tags))
    return re.sub(r"<([biu])></\1>", "", _lines("".join(parts)))


def _switch(open_tags: list[str], letter: str, on: bool, reset: bool) -> Iterator[str]:
    """Tags that turn one style on or off, closing and opening those inside so that they nest."""
    if on and letter not in open_tags:
        open_tags.append(letter)
        yield f"<{letter}>"
        return
    closing = open_tags[:] if reset else open_tags[open_tags.index(letter) :] if (
        not on and letter in open_tags
    ) else []  # fmt: skip
    for tag in reversed(closing):
        open_tags.remove(tag)
        yield f"</{tag}>"
    if not reset:
        for tag in closing[1:]:
            open_tags.append(tag)
            yield f"<{tag}>"


def _lines(text: str) -> str:
    text = text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", "\u00a0")
    return text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")


def mov_text(text: str) -> bytes:
    """A mov_text sample: two bytes of length, then UTF-8 (3GPP TS 26.245, 5.17)."""
    raw = text.encode()[:0xFFFF].decode(errors="ignore").encode()
    return len(raw).to_bytes(2, "big") + raw


@dataclass(slots=True)
class Timeline:
    """Cues that may overlap in, cues that do not out: mov_text shows one sample at a time.

    Where cues overlap their texts are shown together, the earlier one above.
    """

    _now: int = -(1 << 62)
    _active: list[Cue] = field(default_factory=list)

    def feed(self, cue: Cue) -> Iterator[Cue]:
        """`cue.start` must not fall; yields what is settled before it."""
        yield from self.until(cue.start)
        if cue.stop > cue.start and cue.text:
            self._active.append(cue)

    def until(self, end: int) -> Iterator[Cue]:
        """All that is on screen before `end`."""
        while self._active and self._now < end:
            stop = min(end, *(c.stop for c in self._active))
            text = "\n".join(c.text for c in self._active)
            yield Cue(start=self._now, stop=stop, text=text)
            self._now = stop
            self._active = [c for c in self._active if c.stop > stop]
        self._now = max(self._now, end)

    def rest(self) -> Iterator[Cue]:
        """All that is left."""
        if self._active:
            yield from self.until(max(c.stop for c in self._active))
