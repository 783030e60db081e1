"""A stand-in for a method: the template's landmarks move with what is bright."""
