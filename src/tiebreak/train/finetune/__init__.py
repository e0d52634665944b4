"""Fine-tuning a language model on votes: recipe in, judge bundle out."""
