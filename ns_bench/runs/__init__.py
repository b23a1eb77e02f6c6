"""Runs on disk, and the plan of those that are needed."""
