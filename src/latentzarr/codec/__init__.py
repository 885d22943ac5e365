"""The codec: a chunk of values to a frame and back, and its faces for zarr and numcodecs."""
