"""What one device or one memory is too small for: several processes, parts of a batch, shards."""
