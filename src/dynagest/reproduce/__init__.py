"""Reproduces the paper's tables and the study by one command, which runs what is missing and resumes the rest."""
