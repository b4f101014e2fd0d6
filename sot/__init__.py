"""Plans: asking in several calls."""
