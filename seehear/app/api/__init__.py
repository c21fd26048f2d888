"""The JSON interface under /api and the media under /media, a module for each topic."""
