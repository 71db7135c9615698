"""The labels table for programs that know no Delta: a pandas table, one Parquet or CSV file."""
