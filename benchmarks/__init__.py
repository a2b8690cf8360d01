"""Speed and accuracy, measured again by `make bench`, which rewrites BENCHMARKS.md's tables."""
