"""A prompt as umT5 takes it: cleaned text, then tokens, 512 at most. No torch here.

Cleaning is that of the official code, wan/modules/tokenizers.py of
https://github.com/Wan-Video/Wan2.1 (`basic_clean`, `whitespace_clean`), which calls the library
ftfy 6 first. Of what ftfy does, here is all that counts: curly quotes, Windows' characters among
C1 controls, terminal escapes, other controls and halves of surrogate pairs. Width of characters,
ligatures and composition are left to the tokenizer, whose normaliser (NFKC) does the same. Text
that was once decoded with the wrong alphabet is not guessed back: guesses change between versions,
and a prompt is a part of the recipe.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from longtake.core.errors import BadInput

LENGTH: Final = 512
"""Tokens, the end included."""
UNWANTED: Final = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，"
    "手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""What guidance leads away from where a user says nothing: `sample_neg_prompt` of wan/configs/
shared_config.py."""
UNWANTED_WITH_IMAGE: Final = f"镜头晃动，{UNWANTED}"
"""The same for models that take an image: of wan_i2v_14B.py. It begins with a shaking camera."""
_ESCAPES: Final = re.compile(r"\x1b\[[\d;]*[a-zA-Z]")
_WINDOWS: Final = {n: bytes([n]).decode("cp1252", "ignore") or chr(n) for n in range(0x80, 0xA0)}
_QUOTES: Final = dict.fromkeys((0x2BC, *range(0x2018, 0x201C)), "'") | dict.fromkeys(
    range(0x201C, 0x2020), '"'
)
_CONTROLS: Final = dict.fromkeys(
    (
        *range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F,
        *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A text in the tokens of a vocabulary."""

    text: str
    """Cleaned."""
    ids: tuple[int, ...]
    """Without padding; the last one is the end."""
    tokens: int
    """Of the whole text, the end included; more than `ids` where it was cut."""

    def notice(self) -> str | None:
        """What a user should know of it."""
        if self.tokens == len(self.ids):
            return None
        return (
            f"the prompt has {self.tokens} tokens and the model reads {len(self.ids)}: the last "
            f"{self.tokens - len(self.ids)} are left out"
        )

    def filled(self, length: int = LENGTH, padding: int = 0) -> tuple[list[int], list[int]]:
        """Ids and mask of exactly `length` values; the mask is 0 where a token is padding. The net
        needs neither: with padding or without, it gives the same."""
        more = length - len(self.ids)
        return [*self.ids, *[padding] * more], [1] * len(self.ids) + [0] * more


class Tokenizer:
    """What `google/umt5-xxl/tokenizer.json` says, by Hugging Face's library."""

    def __init__(self, path: Path) -> None:
        """Raises BadInput for a file that is no tokenizer, or one that marks no end."""
        import tokenizers

        try:
            self._rules = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library knows no narrower class
            raise BadInput(f"{path} is not a tokenizer.json: {error}.") from error
        self._rules.no_padding()
        self._rules.no_truncation()
        if len(self._rules.encode("").ids) != 1:
            raise BadInput(
                f"{path} puts no single end behind a text, as umT5's does; take tokenizer.json "
                f"from google/umt5-xxl."
            )

    def encode(self, prompt: str, length: int = LENGTH) -> Prompt:
        """Clean a text and cut it to `length` tokens."""
        text = cleaned(prompt)
        ids = self._rules.encode(text).ids
        kept = ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]
        return Prompt(text=text, ids=tuple(kept), tokens=len(ids))


def cleaned(text: str) -> str:
    """A prompt in one line, without what an editor or a page put into it. See the head of this
    file."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    while "<" not in text and (plain := html.unescape(text)) != text:
        text = plain  # what has tags may mean its entities
    text = _ESCAPES.sub("", text).translate(_WINDOWS).translate(_QUOTES | _CONTROLS)
    text = html.unescape(html.unescape(text))
    return re.sub(r"\s+", " ", text).strip()
