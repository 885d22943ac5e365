"""Joint coding of many variables and levels: latents that are shared, and refinements that make bounds hold."""
