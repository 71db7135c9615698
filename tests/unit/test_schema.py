from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mgc import schema
from mgc.errors import CatalogError, FeaturesError
from mgc.schema import FeaturesFacts

REQUIRED = {
    "track_id": pa.string(),
    "uri": pa.string(),
    "size_bytes": pa.int64(),
    "content_tag": pa.string(),
}


def catalog(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list((REQUIRED | columns).items()))


@pytest.mark.parametrize(
    "columns",
    [
        catalog(),
        schema.CATALOG,
        catalog(notes=pa.bool_()),
        catalog(track_id=pa.large_string(), genre_top=pa.dictionary(pa.int32(), pa.string()), uri=pa.string_view()),
        catalog(size_bytes=pa.float64(), duration_seconds=pa.int32()),
        catalog(genres=pa.large_list(pa.large_string()), artist_id=pa.null()),
    ],
)
def test_a_catalog_of_another_program_is_taken(columns: pa.Schema) -> None:
    schema.check_catalog(columns, "c.parquet")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            pa.schema([("uri", pa.string()), ("size_bytes", pa.int64())]),
            "needs the column.s. track_id, content_tag; found",
        ),
        (pa.schema([]), "found none"),
        (catalog(track_id=pa.int64()), "column track_id is int64; in a catalog it is string"),
        (catalog(genre_top=pa.dictionary(pa.int8(), pa.int64())), "genre_top is dictionary"),
        (catalog(genres=pa.list_(pa.int64())), "genres is list<item: int64>"),
        (catalog(genres=pa.string()), "genres is string"),
        (catalog(duration_seconds=pa.string()), "duration_seconds is string"),
        (catalog().with_metadata({"mgc_format_version": "2"}), "format version 2, this mgc reads up to 1; upgrade"),
        (pa.schema([], metadata={"mgc_format_version": "2"}), "upgrade"),
        (catalog().with_metadata({"mgc_format_version": "new"}), "'new', not a number"),
    ],
)
def test_what_is_no_catalog_is_refused_in_one_line(columns: pa.Schema, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as raised:
        schema.check_catalog(columns, "s3://music/c.parquet")
    assert str(raised.value).startswith("s3://music/c.parquet")
    assert "\n" not in str(raised.value)


FACTS: dict[str, Any] = {
    "front_end": {"kind": "log_mel"},
    "features_id": "0123456789ab",
    "shape": [128, 96],
    "dtype": "uint8",
}


def test_features_say_what_computed_them_through_parquet() -> None:
    columns = schema.with_notices(
        schema.features_schema(FeaturesFacts({"kind": "log_mel"}, "0123456789ab", (128, 96))), ["synthetic"]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(columns.empty_table(), sink)
    found = pq.read_schema(pa.BufferReader(sink.getvalue()))
    assert schema.read_features_facts(found, "f") == FeaturesFacts({"kind": "log_mel"}, "0123456789ab", (128, 96))
    assert schema.notices_of(found) == ("synthetic",)
    assert schema.notices_of(schema.FEATURES) == ()


@pytest.mark.parametrize(("shape", "dtype"), [((26,), "float32"), ((20, 128), "float16"), ((220, 216, 3), "uint8")])
def test_features_of_any_rank_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    facts = FeaturesFacts({"kind": "x"}, "0123456789ab", shape, dtype)
    assert schema.read_features_facts(schema.features_schema(facts), "f") == facts
    assert facts.clip_bytes == np.zeros(shape, dtype).nbytes
    heard = replace(facts, listening={"windows": 1})
    assert schema.read_features_facts(schema.features_schema(heard), "f") == heard


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (schema.FEATURES, "does not say which front end"),
        (schema.CATALOG, "lacks the column.s. clip_index, features"),
        (
            schema.FEATURES.with_metadata({"mgc_front_end": "{", "mgc_format_version": "1"}),
            "its metadata mgc_front_end",
        ),
        (schema.FEATURES.with_metadata({"mgc_front_end": "{", "mgc_format_version": "9"}), "format version 9"),
        *(
            (schema.FEATURES.with_metadata({"mgc_front_end": json.dumps(facts)}), "must be JSON with")
            for facts in (
                [],
                FACTS | {"shape": []},
                FACTS | {"shape": [128, 96, 3, 1]},
                FACTS | {"shape": [128, 0]},
                FACTS | {"shape": [128, 1.5]},
                FACTS | {"dtype": "float64"},
                FACTS | {"dtype": ["uint8"]},
                FACTS | {"features_id": 3},
                {name: value for name, value in FACTS.items() if name != "front_end"},
            )
        ),
    ],
)
def test_what_is_no_features_table_is_refused_in_one_line(columns: pa.Schema, message: str) -> None:
    with pytest.raises(FeaturesError, match=message) as raised:
        schema.read_features_facts(columns, "/music/features")
    assert str(raised.value).startswith("/music/features")
    assert "\n" not in str(raised.value)


def test_the_labels_table_is_the_contract() -> None:
    assert " ".join(schema.LABELS.names) == (
        "track_id uri content_tag status genre_top confidence top_k genres duration_seconds tolerance_seconds decoder "
        "seconds_listened bandwidth_hz error_kind error_message error_offset damage tries next_try_at last_error_kind "
        "last_error_message stale_since tried_uri tried_content_tag tried_model_id tried_features_id removed_at "
        "override_by override_reason model_id features_id run_id labeled_at"
    )
    always = {"track_id", "uri", "content_tag", "status", "tries", "model_id", "features_id", "run_id", "labeled_at"}
    assert {field.name for field in schema.LABELS if not field.nullable} == always


@pytest.mark.parametrize("columns", [schema.CATALOG, schema.FEATURES, schema.REJECTS, schema.LABELS])
def test_every_table_carries_its_version(columns: pa.Schema) -> None:
    assert columns.metadata[b"mgc_format_version"] == b"1"
