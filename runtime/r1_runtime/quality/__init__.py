"""Quality of a served configuration: perplexity, retrieval, questions, and agreement with another."""
