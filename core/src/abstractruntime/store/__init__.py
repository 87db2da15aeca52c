"""Stores: the contract a backend fulfils, and the in-memory reference."""
