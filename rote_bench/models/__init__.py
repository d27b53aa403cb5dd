"""Names, weights and structure of Hugging Face causal language models."""
