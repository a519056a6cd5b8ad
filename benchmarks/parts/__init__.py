"""What several benchmarks share: handlers, entries to read, workers that time themselves."""
