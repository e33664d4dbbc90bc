"""A pretraining run, from top to bottom.

    composer trainer/run.py cfg.yaml global_batch_size=64 corpora.c4.local=/data/c4/train
    python trainer/run.py cfg.yaml --dry-run

Exit codes: 0 done, 1 the work failed, 2 the configuration, the data or the checkpoint is wrong (one line each on
standard error, nothing is written), 75 ended by a signal with the state saved. Torch and Composer take ten seconds to
import, so they are imported only when the configuration and the corpora are known to be right.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mixer import MixerError
from trainer.config import Config
from trainer.errors import Stopped, TrainerError
from trainer.loading import load
from trainer.sources import Sources, open_sources
from trainer.summary import as_yaml, describe, plot

log = logging.getLogger("trainer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, check everything, then train; returns the exit code."""
    options = (parser := _parser()).parse_intermixed_args(arguments)
    if options.plot and not options.dry_run:
        parser.error("--plot needs --dry-run")
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    first_rank = os.environ.get("RANK", "0") == "0"
    log.setLevel(logging.INFO if first_rank else logging.WARNING)
    try:
        config = load(options.config, options.overrides).with_token(os.environ.get("SWITCHPOINT_TOKEN") or None)
        sources = open_sources(config)
        log.info("%s", describe(config, sources))
        if options.dry_run:
            log.info("configuration\n%s", as_yaml(config))
            if options.plot:
                plot(config, sources, options.plot)
        else:
            train(config, sources)
    except TrainerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except MixerError as error:
        # From a loader worker it comes with the worker's traceback; what it says stands in the last line.
        sys.stderr.write(str(error).splitlines()[-1].removeprefix(f"mixer.errors.{type(error).__name__}: ") + "\n")
        return 2
    return 0


def train(config: Config, sources: Sources) -> None:
    """Train the whole run, from its newest checkpoint if there is one; raises TrainerError or MixerError."""
    from composer import Trainer
    from composer.algorithms import GradientClipping
    from composer.utils import dist

    from trainer.callbacks import callbacks_of
    from trainer.checkpoints.resume import after_loading, resume_point
    from trainer.checkpoints.sharded import leave_out
    from trainer.device import device_of
    from trainer.feed import Feed
    from trainer.finetuning.start import load_weights
    from trainer.loggers.destinations import destinations
    from trainer.models.causal_lm import model_of_run
    from trainer.optimization.optimizer import build_optimizer
    from trainer.stopping import Stopping

    device = device_of(config)
    dist.initialize_dist(device)
    loggers = destinations(config)
    load_path = resume_point(config)
    feed = Feed.of_this_process(sources)
    stopping = Stopping()
    model = model_of_run(config, sources.document_end)
    if config.load_weights_from and load_path is None:
        load_weights(model, config.load_weights_from)
    trainer = Trainer(
        run_name=config.run_name,
        model=model,
        train_dataloader=feed.data_spec(),
        optimizers=build_optimizer(model, config.optimizer, fused=device == "gpu"),
        algorithms=GradientClipping(clipping_type="norm", clipping_threshold=config.optimizer.clip_norm),
        callbacks=callbacks_of(config, sources, feed, model, stopping),
        max_duration=f"{config.num_steps}ba",
        device=device,
        precision=config.precision,
        compile_config={} if config.compile else None,
        parallelism_config=config.fsdp.for_composer() if config.fsdp else None,
        device_train_microbatch_size=feed.microbatch_size(config.device_train_microbatch_size),
        accumulate_train_batch_on_tokens=feed.has_examples,
        seed=config.seed,
        load_path=None if load_path is None else str(load_path),
        loggers=loggers,
        progress_bar=False,
        load_ignore_keys=leave_out if load_path and load_path.is_dir() else None,
    )
    after_loading(trainer, load_path, config)
    done = int(trainer.state.timestamp.batch)
    if done >= config.num_steps:
        log.info("all %d steps are done: %s", done, load_path)
        return
    if load_path is not None:
        log.info("going on at step %d from %s", done, load_path)
    trainer.fit()
    trainer.close()
    if stopping.signal and (done := int(trainer.state.timestamp.batch)) < config.num_steps:
        raise Stopped(f"stopped by {stopping.signal} after {done} steps, which are saved: start again to go on")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainer/run.py",
        description="Pretrain a language model on a scheduled mixture of corpora.",
        epilog="Example: composer trainer/run.py trainer/configs/tiny.yaml corpora.c4.local=/data/c4/train",
    )
    parser.add_argument("config", type=Path, metavar="cfg.yaml", help="the configuration of the run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key; or a file, laid over")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and the forecast, and stop")
    parser.add_argument("--plot", type=Path, metavar="out.svg", help="with --dry-run: a picture of mixture and rate")
    return parser


if __name__ == "__main__":
    sys.exit(main())
