"""Files of voxels and their grids."""
