"""Simulated temporal-bone CT with landmarks known exactly."""
