"""The names of what lies in a run folder; ``docs/design.md`` tells what each holds. Needs no torch."""

RECIPE_FILE = "recipe.json"
ENVIRONMENT_FILE = "environment.json"
CHECKPOINT_FILE = "checkpoint.safetensors"
STAGES_FOLDER = "stages"
LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
UNREADABLE_FILE = "unreadable.jsonl"
NETWORK_FILE = "network.safetensors"
CARD_FILE = "network.json"
DECODERS_FILE = "decoders.safetensors"
DECODERS_CARD_FILE = "decoders.json"
PARTNER_FILE = "partner.safetensors"
METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
PANELS_FOLDER = "panels"
PANELS_FILE = "panels.png"
MASKS_FILE = "masks.json"
EVENTS_FILE = "events.json"
STREAM_METRICS_FILE = "stream_metrics.json"
STREAM_TIMELINE_FILE = "stream_timeline.svg"

# All that training, testing and export write, as patterns; starting a run anew removes these and nothing else.
CONTENTS = (
    *(RECIPE_FILE, ENVIRONMENT_FILE, CHECKPOINT_FILE, STAGES_FOLDER, LOG_FILE, TENSORBOARD_FOLDER, UNREADABLE_FILE),
    *(NETWORK_FILE, CARD_FILE, DECODERS_FILE, DECODERS_CARD_FILE, PARTNER_FILE),
    *(METRICS_FILE, REPORT_FILE, PANELS_FOLDER, PANELS_FILE, MASKS_FILE),
    *(EVENTS_FILE, STREAM_METRICS_FILE, STREAM_TIMELINE_FILE),
    *("network-*.onnx", "network-*.xml", "network-*.bin"),
    *(f"network-*.{name}" for name in (STREAM_METRICS_FILE, STREAM_TIMELINE_FILE)),
)
