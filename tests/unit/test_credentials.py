"""What people are shown holds no credentials, and no less of anything else."""

from __future__ import annotations

import pytest

from mgc.credentials import without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/a/b.mp3", "s3://bucket/a/b.mp3"),
        ("s3://key:secret@bucket/a.mp3", "s3://bucket/a.mp3"),
        ("s3://token@bucket/a.mp3", "s3://bucket/a.mp3"),
        ("s3://key:p@ss@bucket/a.mp3", "s3://bucket/a.mp3"),
        ("s3://key:sec/ret@bucket/a.mp3", "s3://bucket/a.mp3"),
        ("s3://KEY:a/b+c@bucket/x", "s3://bucket/x"),
        ("s3://key:secret@bucket", "s3://bucket"),
        ("s3://key:secret@bucket/me@home.mp3", "s3://bucket/me@home.mp3"),
        ("http://user:pass@host:8080/x", "http://host:8080/x"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("https://host:9000/a.mp3?X-Amz-Signature=abc&b=1", "https://host:9000/a.mp3?X-Amz-Signature=***&b=1"),
        ("s3://b/k?endpoint_override=h&secret_key=abc", "s3://b/k?endpoint_override=h&secret_key=***"),
        ("s3://b/k?b=1&sig=abc", "s3://b/k?b=1&sig=***"),
        ("s3://b/what?design=1.mp3", "s3://b/what?design=1.mp3"),
        ("s3://bucket:9000/me@home.mp3", "s3://bucket:9000/me@home.mp3"),
        ("s3://bucket/me@home.mp3", "s3://bucket/me@home.mp3"),
        ("/music/What?/me@home #3.mp3", "/music/What?/me@home #3.mp3"),
        ("file:///music/a.mp3", "file:///music/a.mp3"),
        (
            'cannot open "s3://key:SECRET@b/a.mp3": GET /b/a.mp3?X-Amz-Signature=SECRET: 403. Why? No idea.',
            'cannot open "s3://b/a.mp3": GET /b/a.mp3?X-Amz-Signature=*** 403. Why? No idea.',
        ),
    ],
)
def test_text_loses_its_credentials_and_nothing_else(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown
