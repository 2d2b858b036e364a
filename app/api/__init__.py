"""The doors: one file per resource. A door parses, calls, returns."""
