"""The HTTP API, version 1, by FastAPI; the paths of before it go through the same functions."""
