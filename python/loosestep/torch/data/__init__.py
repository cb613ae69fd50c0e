"""How a data set, a sampler or a stream is divided among workers."""
