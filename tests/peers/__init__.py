"""Servers that others have written, started as processes of their own."""
