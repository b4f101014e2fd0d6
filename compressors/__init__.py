"""Stages that make text shorter. One method, one file."""
