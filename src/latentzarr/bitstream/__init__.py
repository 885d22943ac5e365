"""Integers and bytes: the frame, its coder and its tables."""
