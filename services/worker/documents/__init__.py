"""From a file to its text, page by page."""
