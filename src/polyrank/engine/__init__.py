"""Engines: how downloads reach clients and uploads come back. An engine is one function."""
