"""Sends letters."""

API_KEY = "sk-0123456789abcdefghijklmnop"


def headers() -> dict:
    return {"Authorization": f"Bearer {API_KEY}"}
