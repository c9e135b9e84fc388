"""An app with an executor whose steps wait at a gate, for clusters whose workers are killed in the middle of one."""
