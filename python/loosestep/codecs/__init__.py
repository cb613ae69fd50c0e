"""Wire formats: how values are rounded to fewer bits before they are sent, and decoded."""
