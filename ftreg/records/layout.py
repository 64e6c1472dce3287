"""The names of the files in the folders of checkpoints and evaluations."""

MANIFEST = "ftreg.json"
REPLICAS = "ftreg-replicas.json"
"""The record of a group of replicas, see `ftreg.records.replicas`."""
HEADER = "evaluation.json"
OUTPUTS = "outputs.jsonl"
SCORES = "scores.jsonl"
PROBES = "probes.jsonl"
GATE = "gate.json"
GATE_SCHEMA = 2
"""Schema version of `gate.json` and of a printed verdict."""
