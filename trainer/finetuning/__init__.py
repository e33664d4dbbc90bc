"""Finetuning (SFT): corpora whose rows are one example each, a run's length in epochs, and weights to start from."""
