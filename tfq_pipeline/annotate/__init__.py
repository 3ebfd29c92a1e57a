"""TFMOT schemes, configs and quantizers that follow a Plan."""
