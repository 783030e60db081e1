"""The method `salient`: landmarks that people look at, discovered from gaze (Droste et al. 2020)."""
