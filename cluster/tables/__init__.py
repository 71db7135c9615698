"""Catalogs and features as Parquet, and DuckDB with bounded memory."""
