"""What everything else stands on: records, storage, settings, prompts, errors. No torch, no numpy."""
