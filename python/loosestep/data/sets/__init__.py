"""Data sets, one a file, with `read(folder)` and `FILES`, the files it reads; the file's name is the set's."""
