"""What a model does to a stream of frames: one file a model family."""
