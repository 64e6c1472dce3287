"""What commands print with `--json` and no file holds: keys, types and meaning.

The commands build these very types. Keys may be added within a schema version, so that none of
them is closed.
"""
