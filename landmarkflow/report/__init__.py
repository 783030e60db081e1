"""Pictures and pages: knows results folders, not methods."""
