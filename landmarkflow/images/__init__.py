"""Work on voxels that several stages share."""
