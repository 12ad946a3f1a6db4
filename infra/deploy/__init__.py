"""What is made from the topology table for a cluster, and the way there: func.yaml, the chart's tables, wheel, deploy."""
