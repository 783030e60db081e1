"""Stages that all runs of a study share: scans, references, segmentations as given."""
