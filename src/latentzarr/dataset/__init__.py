"""Data sets: plan, write, verify, inspect, leave, and the xarray engine."""
