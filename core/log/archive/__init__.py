"""The log beyond what Redis keeps: every event, in Parquet segments."""
