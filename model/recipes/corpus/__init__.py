"""The speech corpus and the teacher that the bundled model learns from."""
