"""Stages that choose what to bring along."""
