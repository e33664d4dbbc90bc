"""The commands of `switchpoint-shards`, one module each.

A module has `DESCRIPTION` (one sentence), `EPILOG` (what else there is to say, and an example),
`add_arguments(parser)` and `run(arguments) -> int`, the exit code. Errors are raised as `ShardsError`; `shards.cli`
tells them. What is slow to import is imported inside `run`, so that `--help` stays fast.
"""
