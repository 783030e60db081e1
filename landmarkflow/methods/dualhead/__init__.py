"""One volumetric U-Net with two heads, for a segmentation and for heat maps of landmarks."""
