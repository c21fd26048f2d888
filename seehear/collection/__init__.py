"""The collection: names, corrections and answers of people, kept for good, and what is exported of them."""
