"""The Composer trainer: one YAML file in, one pretraining run out, on exactly the samples that the plan names.

Read ``run.py`` first: it is the run from top to bottom. This package imports ``mixer`` and speaks to the service
over HTTP; it imports neither ``service`` nor ``shards``. No file here is named after a standard module, because
``composer trainer/run.py`` puts this folder first on Python's path.
"""
