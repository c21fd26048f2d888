"""Search: an index of a collection's segments, and queries by sight, by sound, by both and across them."""
