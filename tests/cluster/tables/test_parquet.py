"""Parquet files that are added to a folder, and opened as one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.parquet import is_parquet, open_parquet, write_part
from mgc.errors import LabelsError
from tests.cluster.tables.table_files import REQUIRED, refusal


class TestParts:
    def test_each_part_is_a_file_of_its_own(self, anywhere: str) -> None:
        folder = f"{anywhere}/staged"
        for _ in range(3):
            write_part(Uri.parse(folder), pa.table(REQUIRED))
        assert len(files.list_uris(Uri.parse(folder))) == 3
        assert open_parquet(Uri.parse(folder), "", LabelsError).count_rows() == 6

    def test_a_message_without_a_remedy(self, tmp_path: Path) -> None:
        assert refusal(open_parquet, Uri.parse(f"{tmp_path}/x"), "", LabelsError, error=LabelsError).endswith(
            "nothing here."
        )

    def test_is_parquet(self) -> None:
        assert all(is_parquet(Uri.parse(uri)) for uri in ("a.parquet", "s3://b/a.PARQUET", "a.pq", "a.parquet/"))
        assert not any(is_parquet(Uri.parse(uri)) for uri in ("a", "parquet", "a.parquet.tmp", "a.csv", "a.parquet/b"))
