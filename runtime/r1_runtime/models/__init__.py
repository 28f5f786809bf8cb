"""Networks, checkpoint loading, tokenizer and chat template."""
