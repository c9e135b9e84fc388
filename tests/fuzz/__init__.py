"""Coverage-guided fuzzing of what reads bytes of servers: `make fuzz`. The runs and the judgement are those of `tests/engine`."""
