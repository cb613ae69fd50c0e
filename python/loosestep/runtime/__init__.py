"""Training runs: the library's loop (`run`) and loops that users own, over any transport."""
