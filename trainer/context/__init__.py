"""How far the model sees: rows of several lengths, RoPE scaling at a switchpoint, and borders between documents.

rope.py       the formulas: inverse frequencies and attention factor
rotary.py     a Hugging Face model's rotary embedding set to them, between two steps
follow.py     the callback that does so, step by step
documents.py  attention that ends at the borders of packed documents
checks.py     what must fit before a run begins; nothing here or in rope.py imports torch
"""
