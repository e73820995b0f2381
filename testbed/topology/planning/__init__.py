"""Addresses, routes and settings decided."""
