"""One data set a file, with `read(folder) -> Dataset`; the file's name is the set's."""
