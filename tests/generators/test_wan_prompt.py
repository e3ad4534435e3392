"""Prompts: cleaned as officially, in the tokens of the library, cut with notice."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.errors import BadInput
from longtake.generators._wan_prompt import (
    LENGTH,
    UNWANTED,
    UNWANTED_WITH_IMAGE,
    Tokenizer,
    cleaned,
)
from tests.generators.wan_models import CORPUS, tokenizer_json
from tests.nets.oracles import library

ODD = (
    "",
    " \t\n ",
    "a cat 🐈 walks ❤️ 👩‍🚀",
    "一只猫在草地上奔跑，镜头缓慢推进。",
    "a cat\u3000and\u00a0two dogs\r\n\r\nrun",
    "&lt;i&gt;soft&lt;/i&gt; &amp;amp; slow",
    "“soft” light, the dog’s waves",
    "word " * 10_000,
    "x" * 5000,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_json(tmp_path_factory.mktemp("umt5") / "tokenizer.json")


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> Tokenizer:
    return Tokenizer(path)


@pytest.fixture(scope="module")
def theirs(path: Path) -> Any:
    """What the official code and the diffusers library call."""
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>"}
    (path.parent / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return library("transformers").AutoTokenizer.from_pretrained(path.parent)


def by_library(theirs: Any, text: str) -> tuple[list[int], list[int]]:
    made = theirs(
        text, padding="max_length", truncation=True, max_length=LENGTH, add_special_tokens=True
    )
    return made["input_ids"], made["attention_mask"]


# --- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*CORPUS, *ODD], ids=lambda text: text[:12])
def test_tokens_are_the_library_s(tokenizer: Tokenizer, theirs: Any, text: str) -> None:
    assert tokenizer.encode(text).filled() == by_library(theirs, cleaned(text))


@given(
    text=st.text(max_size=80) | st.lists(st.sampled_from(" ".join(CORPUS).split())).map(" ".join)
)
@settings(max_examples=60, deadline=None)
def test_tokens_of_any_text_are_the_library_s(tokenizer: Tokenizer, theirs: Any, text: str) -> None:
    assert tokenizer.encode(text).filled() == by_library(theirs, cleaned(text))


def test_ids_end_with_the_end(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("").ids == (1,)
    for text in (*CORPUS, *ODD):
        ids = tokenizer.encode(text).ids
        assert ids[-1] == 1
        assert 1 not in ids[:-1]
        assert len(ids) <= LENGTH


def test_what_is_cut_is_told(tokenizer: Tokenizer) -> None:
    short = tokenizer.encode(CORPUS[0])
    assert short.tokens == len(short.ids)
    assert short.notice() is None
    long = tokenizer.encode("cat " * 10_000)
    assert len(long.ids) == LENGTH
    said = long.notice()
    assert said is not None
    assert f"{long.tokens} tokens" in said
    assert f"last {long.tokens - LENGTH} " in said
    exactly = tokenizer.encode("cat " * 10_000, long.tokens)
    assert exactly.notice() is None
    assert exactly.ids[: LENGTH - 1] == long.ids[:-1]


def test_other_files_are_refused(tmp_path: Path, path: Path) -> None:
    other = tmp_path / "tokenizer.json"
    for text in ("", "{}", "no json"):
        other.write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match="is not a tokenizer"):
            Tokenizer(other)
    rules = json.loads(path.read_text(encoding="utf-8")) | {"post_processor": None}
    other.write_text(json.dumps(rules), encoding="utf-8")
    with pytest.raises(BadInput, match="no single end"):
        Tokenizer(other)


def test_the_official_unwanted_texts() -> None:
    """By their lengths and ends, as published."""
    assert len(UNWANTED) == 137
    assert UNWANTED.startswith("色调艳丽，")
    assert UNWANTED.endswith("，倒着走")
    assert UNWANTED.count("，") == 27
    assert UNWANTED_WITH_IMAGE == "镜头晃动，" + UNWANTED


# --- text ----------------------------------------------------------------------------------------

OFFICIAL = (
    ("  a\tcat \r\n walks  ", "a cat walks"),
    ("“soft” ‘light’, dog’s", "\"soft\" 'light', dog's"),
    ("tall&nbsp;grass &amp;amp; dusk", "tall grass & dusk"),
    ("&ldquo;slow&rdquo;", '"slow"'),
    ("a < b &amp; c", "a < b & c"),
    ("a < b &ldquo;c&rdquo; &amp;amp;amp; d", "a < b “c” &amp; d"),
    ("&amp;amp;amp;amp; x", "& x"),
    ("&amp;lt;i&amp;gt;", "<i>"),
    ("\x1b[36;44mblue\x1b[0m", "blue"),
    ("wait\x85 it\x92s", "wait… it's"),
    ("\ufeffzero\u0000 width", "zero width"),
    ("half \ud83d \ud83d\udc08", "half \ufffd 🐈"),
    ("ＬＯＵＤ　ＮＯＩＳＥ，猫", "LOUD NOISE,猫"),
    ("ﬂuﬃer", "fluffier"),
    ("e\u0301te\u0301", "été"),
    ("👩‍🚀 ❤️", "👩‍🚀 ❤️"),
)
"""Text, and what ftfy 6.3.1 and the official cleaning make of it."""


@pytest.mark.parametrize(("text", "wanted"), OFFICIAL)
def test_text_is_cleaned_as_officially(text: str, wanted: str) -> None:
    """As the tokenizer sees it: it normalises by NFKC."""
    seen = unicodedata.normalize("NFKC", cleaned(text))
    assert seen == unicodedata.normalize("NFKC", wanted)


@given(text=st.text(alphabet=st.characters(exclude_characters="&")))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    """Text is one line that UTF-8 can hold."""
    once = cleaned(text)
    assert cleaned(once) == once
    assert once == " ".join(once.split())
    once.encode()
