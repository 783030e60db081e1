"""A stand-in for a method: the template's landmarks, moved with the mass centre of what is bright."""
