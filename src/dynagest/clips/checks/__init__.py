"""`dynagest data check`: what is wrong with clips before anything is trained on them, and a sheet to look at."""
