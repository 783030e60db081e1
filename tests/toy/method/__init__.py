"""A stand-in: the template's landmarks, moved with the mass centre of what is bright."""
