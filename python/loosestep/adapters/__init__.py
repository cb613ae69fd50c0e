"""One framework a file: what computes gradients and applies updates for one worker."""
