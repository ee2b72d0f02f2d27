"""`dynagest data check`: finds what is wrong with clips before they are trained on, and draws a sheet of them."""
