"""Open the Delta table in a folder, or find out that there is none."""

from __future__ import annotations

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from cluster.labels.beside.holds import list_holds
from cluster.labels.log import delta_uri
from cluster.labels.runs.format import Format
from cluster.storage import files
from cluster.storage.failures import explain, redact
from cluster.storage.uri import Uri
from mgc.errors import LabelsError


def open_table(uri: Uri, form: Format, version: int | None = None) -> DeltaTable | None:
    """Open the table in a folder; None if there is none.

    Args:
        uri: the table's folder.
        form: format that the table must have.
        version: version to read; the newest by default.

    Raises:
        LabelsError: the table cannot be read, has another format, or has no such version; or there was a table whose
            log is lost.
    """
    place = delta_uri(uri)
    try:
        with explain(uri, f"open the {form.name} table at"):
            # Our own client tells a missing bucket and wrong credentials from a missing table; deltalake does not.
            if not files.exists(uri):
                return None
            try:
                table = DeltaTable(place, storage_options=uri.storage_options)
                if version is not None:
                    _go_to(uri, table, version)
            except DeltaError as error:
                if uri.filesystem.get_file_info(uri.path).type.name == "File":
                    raise LabelsError(f"{uri} is a file; a table is a folder. Choose another folder.") from None
                if not isinstance(error, TableNotFoundError):
                    raise
                _refuse_lost_log(uri)
                return None
    except DeltaError as error:
        raise LabelsError(
            f"{uri}: the {form.name} table cannot be opened ({shorten(error)}). Restore its _delta_log, or choose "
            "another folder."
        ) from None
    form.check(uri, table)
    return table


def _go_to(uri: Uri, table: DeltaTable, version: int) -> None:
    newest = table.version()
    if not 0 <= version <= newest:
        raise LabelsError(
            f"{uri}: there is no version {version}; the newest is {newest}. `mgc labels history` lists them."
        )
    try:
        table.load_as_version(version)
    except DeltaError:
        raise LabelsError(
            f"{uri}: version {version} can no longer be read, because its log entries are gone. `mgc labels history` "
            "lists the versions that are left."
        ) from None


def _refuse_lost_log(uri: Uri) -> None:
    """Raise if a table was here. A run that saw none would begin anew, over its labels and corrections.

    A first run that was killed leaves data files without a log, so those prove nothing.
    """
    proofs = [uri / "_reports" / "latest.json", *list_holds(uri)]
    proofs += files.list_uris(uri / "_seals")[:1] + files.list_uris(uri / "_delta_log")[:1]
    for proof in proofs:
        if files.exists(proof):
            raise LabelsError(
                f"{uri}: there was a table here ({proof.name} is still there), but its _delta_log is missing or empty. "
                "Move the folder away and restore it from a copy, or choose another folder."
            )


def shorten(error: Exception) -> str:
    """Return what deltalake says, on one line."""
    return redact(" ".join(str(error).split()))[:300].rstrip(".")
