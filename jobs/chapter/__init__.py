"""The chapter as a benchmark: each claim of it, checked by training small models on worlds whose truth is known."""
