"""Task files: YAML to a validated ``TaskSpec``, every fault with its file and line."""
