"""Replication reports."""
