"""Published systems, each a folder of its own; none imports another."""
