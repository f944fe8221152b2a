"""Users by name."""

import sqlite3


def find_user(connection: sqlite3.Connection, name: str):
    """The row of a user, or None."""
    query = f"SELECT id, name FROM users WHERE name = '{name}'"
    return connection.execute(query).fetchone()
