"""Patterns for the files of SOURCE: one matcher, whatever the store."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage.selection import Selection

PATHS = ["a.mp3", "Jazz/a.mp3", "Jazz/b.wav", "Jazz/Live/a.mp3", "Rock/Jazz/c.mp3", "Podcasts/1.mp3", "x[1].mp3"]


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("*.mp3", {0, 1, 3, 4, 5, 6}),
        ("a.*", {0, 1, 3}),
        ("Jazz", {1, 2, 3, 4}),
        ("Jazz/", {1, 2, 3, 4}),
        ("/Jazz", {1, 2, 3}),
        ("Jazz/*", {1, 2, 3}),
        ("Jazz/*.mp3", {1}),
        ("Jazz/**/*.mp3", {1, 3}),
        ("**/Jazz/*.mp3", {1, 4}),
        ("**/*", {0, 1, 2, 3, 4, 5, 6}),
        ("*/Live", {3}),
        ("Jazz/**", {1, 2, 3}),
        ("?.mp3", {0, 1, 3, 4, 5}),
        ("[ab].*", {0, 1, 2, 3}),
        ("[!a].mp3", {4, 5}),
        ("x[[]1].mp3", {6}),
        ("x[1].mp3", set()),
        ("jazz", set()),
        ("Jazz/Live/a.mp3/deeper", set()),
    ],
)
def test_what_a_pattern_covers(pattern: str, covered: set[int]) -> None:
    wanted = Selection(include=(pattern,))
    assert {place for place, path in enumerate(PATHS) if wanted.includes(path)} == covered
    # A walk that closes excluded folders leaves out the same files.
    left_out = Selection(exclude=(pattern,))
    closed = {
        place
        for place, path in enumerate(PATHS)
        if any(left_out.excludes("/".join(path.split("/")[:end])) for end in range(1, path.count("/") + 2))
    }
    assert closed == covered


NAMES = st.text("ab*?[]!.\\x5", min_size=1, max_size=6)


@given(pattern=NAMES, name=NAMES)
def test_a_name_is_matched_as_by_fnmatch(pattern: str, name: str) -> None:
    expected = fnmatch.fnmatchcase(name, pattern) or pattern == "**"
    assert Selection(exclude=(pattern,)).excludes(f"folder/{name}") == expected


@given(path=st.lists(NAMES, min_size=1, max_size=4))
def test_a_path_matches_itself_with_its_signs_in_brackets(path: list[str]) -> None:
    pattern = "/" + "/".join(name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]") for name in path)
    assert Selection(exclude=(pattern,)).excludes("/".join(path))


def test_many_stars_take_no_time() -> None:
    pattern = "/".join(["*a" * 20 + "b"] + ["**", "*a*"] * 6)
    assert not Selection(exclude=(pattern,)).excludes("/".join(["a" * 200] * 40))
