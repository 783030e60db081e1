"""What each rule runs: reading, writing, batches and records around the stages' functions."""
