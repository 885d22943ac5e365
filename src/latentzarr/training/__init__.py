"""Train, calibrate, fit and release models."""
