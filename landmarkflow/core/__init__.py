"""The ground floor: points, grids, records, files, errors; knows no image and no method."""
