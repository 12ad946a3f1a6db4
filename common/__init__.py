"""What the functions share: host, settings, models, broker client, database, errors, logs, metrics."""
