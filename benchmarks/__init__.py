"""`make bench`: what it costs, measured beside something else in the same run. Figures are ratios; machines differ."""
