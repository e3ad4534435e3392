"""Models that make films from words, one file each. Nothing here is torch until it is opened."""
