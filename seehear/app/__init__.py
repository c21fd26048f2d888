"""The application: a local server and the pages in which people look, hear, name, correct and search."""
