"""The service: a queue in a database, workers, and an API over HTTP."""
