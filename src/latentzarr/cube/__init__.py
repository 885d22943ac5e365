"""Several variables coded together: autoencoders, their latents, and what is known of both. No zarr, no xarray, no torch."""
