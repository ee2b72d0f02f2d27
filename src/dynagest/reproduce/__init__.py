"""The paper's tables and the study, by one command: runs what is missing, resumes what was interrupted."""
