"""The method `salient`: landmarks that people look at, discovered from gaze (Droste 2020)."""
