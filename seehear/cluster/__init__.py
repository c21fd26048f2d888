"""From features to assignments."""
