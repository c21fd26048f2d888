"""Words: what of a caption or of subtitles an encoder reads.

`tokens` cuts a text into sentences and words, `changes` shuffles them, `vocabulary` numbers words, `vectors` reads word
vectors of others, `cues` holds texts with the time at which they are said, `subtitles` reads them from files.
"""
