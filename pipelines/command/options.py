"""Types and options that several jobs take on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from cluster.session import ray_internals
from cluster.session.profiles import PROFILES
from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from mgc.errors import StorageError
from mgc.units import MAX_FILE_GIB


def submitted() -> bool:
    """Return whether this process is the driver of a submitted Ray job."""
    return ray_internals.is_submitted_job()


class UriType(click.ParamType[Uri]):
    """A local path or an s3:// URI.

    A submitted job runs in a temporary copy of the working directory. A relative path would refer to that copy, so it
    is refused.
    """

    name = "URI"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Uri:
        """Parse a path or a URI. A default value may be a `Uri` already.

        Raises:
            BadParameter: see `Uri.parse`.
        """
        if isinstance(value, Uri):
            return value
        text = str(value)
        if not text:
            self.fail("a path or URI is needed here.", param, ctx)
        if "://" not in text and not text.startswith(("/", "~")) and submitted():
            self.fail(f"{text!r} is relative; a submitted job needs an absolute path or an s3:// URI.", param, ctx)
        try:
            return Uri.parse(text)
        except StorageError as error:
            self.fail(str(error), param, ctx)


URI: Final = UriType()


class BundleType(click.ParamType[Uri | BundleName]):
    """The folder of a bundle, or the name of a bundle (`mgc.bundle_names`).

    Only this type knows the names. Options for a plain URI read them as names of folders.
    """

    name = "URI"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Uri | BundleName:
        """Parse a path, a URI or a name. A default value may be parsed already.

        Raises:
            BadParameter: see `Uri.parse`.
        """
        if isinstance(value, BundleName):
            return value
        name = BundleName.of(str(value))
        return URI.convert(value, param, ctx) if name is None else name


BUNDLE: Final = BundleType()


class TaxonomyType(click.ParamType[Uri | str]):
    """A map from tags to genres: the name of one that comes with mgc, or a CSV file.

    A text with a slash or a dot is a file.
    """

    name = "FILE or NAME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Uri | str:
        """Parse a path, a URI or a name.

        Raises:
            BadParameter: see `Uri.parse`.
        """
        text = str(value)
        return URI.convert(value, param, ctx) if not text or "/" in text or "." in text else text


TAXONOMY: Final = TaxonomyType()

PROFILE: Final = click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    help="How to share out the machine or cluster; `mgc doctor` says which fit. The default takes what there is.",
)

MAX_FILE: Final = click.option(
    "--max-file-gib",
    type=click.IntRange(1),
    default=MAX_FILE_GIB,
    show_default=True,
    help="Size of the largest file to hear, in GiB. A larger one is quarantined as too_large.",
)

ALLOW_ROOTS: Final = click.option(
    "--allow-root",
    "allow_roots",
    type=URI,
    multiple=True,
    metavar="ROOT",
    help="Folder or s3:// prefix below which the tracks of a catalog may lie; repeat it for several. The default is "
    "the SOURCE that the catalog states, or else the folder that the catalog lies in.",
)
"""Roots of a catalog whose tracks a job listens to."""

OVERRIDES: Final[dict[str, bool]] = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Settings of a command that also takes fields of the configuration as options, by dotted name."""


def overrides(arguments: Sequence[str]) -> dict[str, str]:
    """Read `--training.epochs 3` and `--training.epochs=3` as {"training.epochs": "3"}.

    Raises:
        UsageError: an option is not a dotted name, or has no value.
    """
    fields: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--") or "." not in option.partition("=")[0]:
            raise click.UsageError(f"there is no option {option}; `--help` lists the options, `--dry-run` the fields.")
        name, equals, value = option[2:].partition("=")
        if not equals:
            if not rest:
                raise click.UsageError(f"the field --{name} needs a value.")
            value = rest.pop(0)
        fields[name] = value
    return fields
