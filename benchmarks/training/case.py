"""One measurement in a process of its own: `python case.py '{"system": "ours", …}'` prints one JSON line last.

`ours` is `trainer/run.py` on corpora of random tokens, as a user would start it; its figures are those of its metrics
file. `plain` is a loop of twenty lines over the same model, loss, optimizer and microbatches, whose data lies in device
memory before it begins: what the hardware gives when nothing but the model is computed.
"""

import itertools
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))


def ours(case: dict[str, Any]) -> dict[str, float]:
    """Seconds a step and the wait for data in each, of the steps after the warm-up."""
    from trainer.run import main

    folder = Path(case["folder"])
    metrics = folder / "metrics.jsonl"
    metrics.unlink(missing_ok=True)
    config = {
        "run_name": "benchmark",
        "data_seed": 17,
        "max_duration": f"{case['steps']}ba",
        "global_batch_size": case["batch"],
        "device_train_microbatch_size": case["microbatch"],
        "seq_len": case["seq_len"],
        "model": {"name": case["model"], "vocab_size": case["vocab_size"]},
        "device": case["device"],
        "precision": case["precision"],
        "compile": case["compile"],
        "activation_checkpointing": case["recompute"],
        "lr_schedule": {"kind": "cosine", "peak": 3e-4},
        "corpora": {name: {"local": str(folder / name / "train")} for name in ("c4", "starcoder")},
        "schedule": {
            "phases": [
                {"start": 0, "mixture": {"c4": 1.0}},
                {"start": case["warmup"], "mixture": {"c4": 0.8, "starcoder": 0.2}},
            ]
        },
        "metrics_file": str(metrics),
    }
    path = folder / "cfg.yaml"
    path.write_text(yaml.safe_dump(config))
    if code := main([str(path)]):
        sys.exit(code)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    times = [line["time"] for line in lines]
    seconds = [after - before for before, after in itertools.pairwise(times)]
    waits = [line["data"]["wait_s"] for line in lines[1:]]
    skipped = case["warmup"]
    return {"seconds": statistics.median(seconds[skipped:]), "wait": sum(waits[skipped:]) / sum(seconds[skipped:])}


def plain(case: dict[str, Any]) -> dict[str, float]:
    """The same with nothing around it."""
    from trainer.models.causal_lm import build_model
    from trainer.models.settings import ModelConfig

    device = "cuda" if case["device"] == "gpu" else "cpu"
    config = ModelConfig.model_validate({"name": case["model"], "vocab_size": case["vocab_size"]})
    model = build_model(config, seq_len=case["seq_len"], seed=17).to(device).train()
    if case["recompute"]:
        model.checkpoint_activations()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), fused=device == "cuda")
    forward = torch.compile(model) if case["compile"] else model
    tokens = torch.randint(0, case["vocab_size"], (case["batch"], case["seq_len"]), device=device)
    parts, seconds = tokens.split(case["microbatch"]), []
    for _ in range(case["steps"]):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        for part in parts:
            batch = {"tokens": part}
            with torch.autocast(device, torch.bfloat16, enabled=case["precision"] == "amp_bf16"):
                loss = model.loss(forward(batch), batch) / len(parts)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total.item()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(seconds[case["warmup"] + 1 :]), "wait": 0.0}


def main() -> None:
    case = json.loads(sys.argv[1])
    if case["device"] == "cpu":
        torch.set_num_threads(case["threads"])
    result: dict[str, Any] = {"ours": ours, "plain": plain}[case["system"]](case)
    if case["device"] == "gpu":
        result |= {"memory": torch.cuda.max_memory_allocated(), "machine": torch.cuda.get_device_name()}
    else:
        result |= {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "machine": ""}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
