"""Say what a listing saw besides the tracks: files that it passed over, places that it could not read."""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from cluster.storage.listing.extensions import extension_of
from cluster.storage.listing.facts import Survey, most_frequent
from cluster.storage.uri import Uri
from cluster.tables.roots import quote
from mgc.units import format_count

_NAMED: Final = 8
"""Extensions that a line names."""

_PLACES_NAMED: Final = 5
"""Unreadable places that a line names."""

_NAMES_COUNTED: Final = 50
"""Extensions that a summary counts one by one."""

_TABLES: Final = frozenset({".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".txt"})
"""Extensions of files that a person may take for a catalog."""


def is_one_other_file(source: Uri, survey: Survey) -> bool:
    """Return whether SOURCE is a single file that is no audio, as the listing without a track saw it."""
    return survey.passed_over == {extension_of(source.name): 1}


def describe_nothing(source: Uri, survey: Survey) -> str:
    """Return why there is no track: nothing is there, or only other files are."""
    found = "; ".join(["no audio file here", *describe_survey(survey)])
    kind = extension_of(source.name)
    if is_one_other_file(source, survey) and kind in _TABLES:
        return (
            f"{source}: this is a {kind} file; a catalog is a Parquet file, and SOURCE a folder, a file or an s3:// "
            f"prefix of music. Write a catalog with `mgc catalog SOURCE --metadata {source.name} --out CATALOG`."
        )
    return f"{source}: {found}. SOURCE is a folder, a file or an s3:// prefix."


def describe_survey(survey: Survey) -> list[str]:
    """Return what a listing saw besides the tracks, a clause for each kind of thing."""
    lines = []
    if passed_over := survey.passed_over.total():
        named = most_frequent(survey.passed_over)
        shown = [f"{count} {name}" for name, count in named[:_NAMED]] + (["…"] if len(named) > _NAMED else [])
        lines.append(f"{passed_over} passed over ({', '.join(shown)})")
    if survey.looked_at:
        lines.append(f"looked into {format_count(survey.looked_at, 'file')} without an extension")
    if survey.unreadable:
        shown = [quote(place) for place in survey.unreadable[:_PLACES_NAMED]]
        shown += ["…"] if len(survey.unreadable) > _PLACES_NAMED else []
        count = len(survey.unreadable)
        places = "many places" if survey.unreadable == [""] else format_count(count, "place")
        lines.append(
            f"{places} below SOURCE could not be read ({', '.join(shown)}); known tracks there keep their labels. Fix "
            "the permissions, or leave these places out with --exclude"
        )
    return lines


def count_survey(survey: Survey) -> dict[str, JsonValue]:
    """Return what a listing saw besides the tracks, for a summary."""
    named: dict[str, JsonValue] = dict(most_frequent(survey.passed_over)[:_NAMES_COUNTED])
    return {
        "passed_over": survey.passed_over.total(),
        "passed_over_by": named,
        "looked_at": survey.looked_at,
        "unreadable": len(survey.unreadable),
    }
