"""Snapshot in, findings out; pure, coded IST0xxx."""
