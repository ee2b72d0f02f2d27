"""Training: recipes, the optimiser, the loop, checkpoints and run folders."""
