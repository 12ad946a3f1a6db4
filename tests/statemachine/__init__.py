"""Hypothesis looks for an order of events, repeats, races and crashes in which the functions break P2 or P3.

session-upsert, agent-invoke, response-dispatch, dead-letter, PostgreSQL and Llama Stack are real. The broker is the state
machine, and so is a second worker, which claims turns and goes away. SEED=<number> looks elsewhere than the fixed examples
that CI runs.
"""
