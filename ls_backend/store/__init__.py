"""Sessions in a database, so that they outlive the process: records, tables, and the store that reads and writes them.

Knows SQLite and PostgreSQL, and no HTTP. Used by `ls_backend.sessions`.
"""
