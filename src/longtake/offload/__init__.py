"""Where the bytes of a model live: one file a strategy, applied to a built net from outside."""
