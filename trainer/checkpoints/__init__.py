"""Checkpoints: complete or absent whatever kills the process, in a folder or in a bucket, in one file or in parts.

settings    which keys there are, and what they must fit        (no torch)
names       what a checkpoint is called and which are kept      (no torch)
files       a file or a folder that is whole or not there       (no torch)
bucket      the same in object storage                          (no torch)
saving      the callback that writes them
uploads     sends them to a bucket while training goes on
resume      which one a run starts from
reading     that it is whole, that loading it is safe, and that it belongs to this run
sharded     the parts of one: every rank's own
"""
