"""Everything that knows files: containers, codecs, colour, tracks. PyAV is imported here only."""
