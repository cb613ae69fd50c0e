"""One data set a file: `read(folder) -> Dataset`, `FILES` (its own, by name). The file's name is the set's."""
