"""One carrier a file; wrappers rewrite requests as they pass. A new file here is found and tested unnamed."""
