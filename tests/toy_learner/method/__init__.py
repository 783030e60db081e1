"""A stand-in that learns: where landmarks lie, in the mean, from the bright part of a picture."""
