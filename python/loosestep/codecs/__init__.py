"""Wire formats, one a file: how values are rounded to fewer bits before they are sent, and decoded."""
