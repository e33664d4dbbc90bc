"""The whole of Switchpoint on real text in minutes: `make demo`, or `python -m demo`.

It is an example of the other packages' use and no part of the distribution. `__main__` reads from top to bottom:
corpora, tokenizer, conversion, service, training with a live edit, a kill and a resume, the check, the report.
"""
