"""The operator's token: made once, kept private, compared whole."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_auth.operator_token import OperatorToken, TokenFileError, load_or_create

TOKEN = "a-token-of-more-than-twenty-characters"


def test_the_first_start_makes_a_token_that_only_the_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "access-token"
    token = load_or_create(path)
    assert len(token) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create(path) == token


def test_many_processes_that_start_at_once_agree_on_one_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(load_or_create, [tmp_path / "access-token"] * 64))
    assert len(tokens) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["access-token"]


def test_a_token_file_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "access-token"
    path.write_text(TOKEN)
    path.chmod(0o644)
    assert load_or_create(path) == TOKEN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "short", "two words that are long enough", "\n"])
def test_a_token_file_without_a_usable_token_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "access-token"
    path.write_text(content)
    with pytest.raises(TokenFileError, match=r"^The access token file .* holds no token [^\n]*$"):
        load_or_create(path)


def test_a_token_file_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TokenFileError, match=r"cannot be used \(.*/file is no folder\)"):
        load_or_create(tmp_path / "file" / "access-token")


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN}"])
def test_the_token_is_accepted_whatever_the_case_of_the_scheme(header: str) -> None:
    assert OperatorToken(TOKEN).accepts(header)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
)
def test_anything_but_the_whole_token_is_refused(header: str | None) -> None:
    assert not OperatorToken(TOKEN).accepts(header)


@given(st.text())
def test_no_text_but_the_token_is_accepted_and_none_makes_it_fail(text: str) -> None:
    assert OperatorToken(TOKEN).accepts(f"Bearer {text}") == (text.strip() == TOKEN)
