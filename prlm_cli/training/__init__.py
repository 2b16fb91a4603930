"""Training with torch: supervised, contrastive, GRPO; checkpoints and signals."""
