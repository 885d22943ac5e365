"""Layout B: many variables and levels on one grid, coded jointly as small integer latents that people can learn from."""
