"""The rung preference: DPO, ORPO, KTO or GRPO, by what the data allow."""
