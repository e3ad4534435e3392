"""Where weights lie and how a checkpoint is opened."""
